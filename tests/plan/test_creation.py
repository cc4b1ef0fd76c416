"""Refused configs are left out or adjusted one by one; every other error is that topic's
conflict.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from replicator.cluster.admin import TopicSpec
from replicator.cluster.errors import broker_failure, unreachable
from replicator.errors import CopystreamError
from replicator.plan import creation
from replicator.plan.draft import Replica

TIERED = (
    "Tiered Storage functionality is disabled in the broker. "
    "Topic cannot be configured with remote log storage."
)


class PickyAdmin:
    """Refuses configs by ``refused``: what each may not be, and the words for it."""

    def __init__(self, refused: dict[str, tuple[str, str]], code: int = 40) -> None:
        self.refused = refused
        self.code = code
        self.requests = 0
        self.created: dict[str, TopicSpec] = {}
        self.errors: dict[str, CopystreamError] = {}

    def request_topics(
        self, specs: Sequence[TopicSpec], *, validate_only: bool = False
    ) -> dict[str, CopystreamError]:
        self.requests += 1
        failed = dict(self.errors)
        for spec in specs:
            for key, (value, words) in self.refused.items():
                if spec.configs.get(key) == value and spec.name not in failed:
                    failed[spec.name] = broker_failure(
                        self.code, "target", "b:9092 (B)", "create topic t", acl="", detail=words
                    )
            if spec.name not in failed and not validate_only:
                self.created[spec.name] = spec
        return failed


def topic(name: str = "t", **configs: str) -> Replica:
    configs = {key.replace("_", "."): value for key, value in configs.items()}
    return Replica(topic=name, partitions=1, configs=configs)


def create(
    admin: PickyAdmin, *plans: Replica, validate_only: bool = False, lower_factor: bool = True
) -> None:
    creation.create(
        admin,  # type: ignore[arg-type]
        plans,
        validate_only=validate_only,
        lower_factor=lower_factor,
    )


def test_several_refused_configs_in_turn() -> None:
    admin = PickyAdmin(
        {
            "confluent.x": ("1", "Unknown topic config name: confluent.x"),
            "segment.bytes": (
                "10",
                "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576",
            ),
            "remote.storage.enable": ("true", TIERED),
        }
    )
    configs = {"confluent_x": "1", "segment_bytes": "10", "remote_storage_enable": "true"}
    plan, fine = topic(**configs, retention_ms="5"), topic("fine", retention_ms="5")
    create(admin, plan, fine)
    assert plan.conflict is None
    assert plan.configs == {"retention.ms": "5", "segment.bytes": "1048576"}
    assert set(plan.left_out) == {"confluent.x", "remote.storage.enable"}
    assert plan.left_out["remote.storage.enable"] == f"true on the source: {TIERED}"
    assert set(plan.adjusted) == {"segment.bytes"}
    assert admin.created["t"].configs == plan.configs
    assert admin.requests == 4
    assert fine.configs == {"retention.ms": "5"}


@pytest.mark.parametrize(
    "words", ["no", "retention.ms and segment.bytes contradict each other", "local.retention.ms?"]
)
def test_a_refusal_that_does_not_say_which_config(words: str) -> None:
    admin = PickyAdmin({"segment.bytes": ("10", words)})
    plans = [topic(name, segment_bytes="10", retention_ms="5", zone="z") for name in "abc"]
    create(admin, *plans)
    for plan in plans:
        assert plan.conflict is None
        assert plan.configs == {"retention.ms": "5", "zone": "z"}
        assert plan.left_out == {"segment.bytes": f"10 on the source: {words}"}
    assert set(admin.created) == {"a", "b", "c"}
    assert admin.requests < 6, "topics are asked for together"


def test_a_bound_that_does_not_help_either() -> None:
    words = "Invalid value for configuration segment.bytes: Value must be at least {}"
    admin = PickyAdmin({"segment.bytes": ("10", words.format(10))})
    plan = topic(segment_bytes="10")
    create(admin, plan)
    assert (plan.configs, set(plan.left_out), plan.adjusted) == ({}, {"segment.bytes"}, {})


@pytest.mark.parametrize(
    ("code", "exit_code", "kind"), [(44, 4, "refused"), (38, 7, "refused"), (29, 4, "denied")]
)
def test_what_is_no_matter_of_configs_is_a_conflict(code: int, exit_code: int, kind: str) -> None:
    admin = PickyAdmin({"retention.ms": ("5", "retention.ms is too short")}, code)
    plan, fine = topic(retention_ms="5"), topic("fine")
    create(admin, plan, fine)
    assert plan.conflict is not None
    assert not plan.conflict.what.startswith("target cluster")
    assert (plan.conflict.exit_code, plan.conflict.kind) == (exit_code, kind)
    assert plan.conflict.side == "target"
    assert plan.configs == {"retention.ms": "5"}
    assert fine.conflict is None


class SmallAdmin(PickyAdmin):
    """The admin client of a cluster of two brokers."""

    words = "Unable to replicate: only 2 broker(s) are registered."

    def request_topics(
        self, specs: Sequence[TopicSpec], *, validate_only: bool = False
    ) -> dict[str, CopystreamError]:
        self.errors = {
            spec.name: broker_failure(38, "target", "b", "create", acl="", detail=self.words)
            for spec in specs
            if spec.replication_factor > 2
        }
        return super().request_topics(specs, validate_only=validate_only)


@pytest.mark.parametrize("words", [SmallAdmin.words, "larger than available brokers: 2"])
def test_fewer_brokers_than_replicas(words: str) -> None:
    admin = SmallAdmin({})
    admin.words = words
    plan, fine = topic(), topic("fine")
    plan.replication_factor, fine.replication_factor = 5, 2
    create(admin, plan, fine)
    assert (plan.conflict, plan.replication_factor, fine.replication_factor) == (None, 2, 2)
    assert plan.warnings == ["replication factor 2 instead of 5: the target has 2 broker(s)"]
    assert fine.warnings == []
    chosen = topic()
    chosen.replication_factor = 5
    create(admin, chosen, lower_factor=False)
    assert chosen.conflict is not None
    assert chosen.conflict.exit_code == 7
    assert "--replication-factor" in (chosen.conflict.todo or "")


def test_a_quota_on_creations_leaves_the_check_open() -> None:
    admin = PickyAdmin({"retention.ms": ("5", "slower")}, 89)
    plan = topic(retention_ms="5")
    create(admin, plan, validate_only=True)
    assert plan.conflict is None
    assert "how fast topics are created" in plan.warnings[0]
    create(admin, plan)
    assert plan.conflict


def test_an_unreachable_controller() -> None:
    admin = PickyAdmin({})
    admin.errors["t"] = unreachable("target", "target cluster b (B)", "cannot create", hint="up?")
    plan = topic()
    create(admin, plan)
    assert plan.conflict is not None
    assert (plan.conflict.kind, plan.conflict.exit_code) == ("unreachable", 4)
