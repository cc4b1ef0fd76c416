"""An option that was given for nothing is told by name, before the first record is written."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.faults import expect_fault
from kit.clusters.flow import Flow
from kit.clusters.runner import Outcome, copy_arguments, copystream
from replicator.lab.ledger import Ledger
from replicator.lab.seed import Writer, create_topic, delete_records


def load(flow: Flow, topic: str, rng: random.Random, records: int = 100) -> Ledger:
    flow.create(topic, 2)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, records)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int) -> None:
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        ledger.write(writer, (0, 1), records)


def told(outcome: Outcome, *words: str) -> None:
    """The notes on stderr at the start, which the summary must have too."""
    summary = outcome.expect(0).summary
    warnings = [*summary.warnings, *(text for topic in summary.topics for text in topic.warnings)]
    for word in words:
        assert any(word in text for text in warnings), outcome
        assert word in outcome.stderr, outcome


def test_a_start_before_the_one_the_copy_began_with_is_refused(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path
) -> None:
    topic, other = topic_name("begun"), topic_name("other")
    load(flow, topic, rng)
    load(flow, other, rng)
    offsets = tmp_path / "from.txt"
    offsets.write_text(f"{topic} 0 100\n{topic} 1 100\n")
    flow.copy(topic, "--from", str(offsets)).expect(0)
    flow.copy(topic, other, "--from", "earliest", "--dry-run").expect(2)
    outcome = flow.copy(topic, other, "--from", "earliest")
    fault = expect_fault(outcome, "already-begun", side="target", topic=topic, exit_codes=(2,))
    assert "--from asks for offset 0" in fault.message
    assert "the copy began at 100" in fault.message
    flow.verify(other)
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"


def test_the_same_command_goes_on_and_says_what_it_passes_over(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path
) -> None:
    topic = topic_name("t")
    ledger = load(flow, topic, rng)
    offsets = tmp_path / "from.txt"
    offsets.write_text(f"{topic} 0 40\n{topic} 1 40\nelsewhere 0 7\n")
    command = (topic, "--from", str(offsets))
    told(flow.copy(*command), "--from has offsets of topics that are not copied: elsewhere")
    add(flow, ledger, 10)
    delete_records(flow.source.bootstrap, topic, {0: 60, 1: 60})
    assert flow.copy(*command).expect(0).summary.records == 20  # the file names what is gone now
    offsets.write_text(f"{topic} 0 100\n{topic} 1 100\n")
    told(flow.copy(*command), "--from has no effect: the copy goes on where it stopped")
    told(flow.copy(topic, "--from", "-1h"), "--from has no effect")


@pytest.mark.parametrize("given", ["flag", "variable", "file"])
def test_what_has_no_effect_on_a_copy_is_told(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path, given: str
) -> None:
    topic = topic_name("t")
    load(flow, topic, rng)
    create_topic(flow.target.bootstrap, topic, 2)
    options = {
        "exclude": "tmp-.*",
        "throttle-topic": "tmp-.*=1MB/s",
        "weight": "tmp-.*=3",
        "throttle": "off",
        "partitions": "elsewhere:3",
        "lanes": "7",
        "linger": "10ms",
        "replication-factor": "1",
        "batch-bytes": "2MiB",
        "same-cluster-id": "true",
        "append": "true",
        "restart": "true",
        "from": "earliest",
    }
    switches = ("same-cluster-id", "append", "restart")
    arguments, env = copy_arguments(flow.source.bootstrap, flow.target.bootstrap, topic), {}
    if given == "flag":
        for name, value in options.items():
            arguments += [f"--{name}"] if name in switches else [f"--{name}", value]
    elif given == "variable":
        env = {"COPYSTREAM_" + name.upper().replace("-", "_"): v for name, v in options.items()}
    else:
        lines = [
            f"{name} = {value if name in switches else repr(value)}\n"
            for name, value in options.items()
        ]
        (tmp_path / "copy.toml").write_text("".join(lines))
        arguments += ["--config", str(tmp_path / "copy.toml")]
    told(
        copystream(*arguments, env=env),
        "--exclude 'tmp-.*' has no effect",
        "--throttle-topic tmp-.*=… has no effect",
        "--weight tmp-.*=… has no effect",
        "--weight has no effect: it divides --throttle, which is off",
        "--partitions elsewhere:… has no effect",
        "--lanes 7 is more than there are partitions: 2",
        "--linger has no effect",
        "--replication-factor has no effect",
        "--batch-bytes 2MiB is above max.message.bytes",
        "--same-cluster-id has no effect",
        "--append has no effect",
        "--restart has no effect",
    )
    flow.verify(topic)


def test_nothing_is_told_of_what_was_left_to_its_default(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    ledger = load(flow, topic, rng)
    for _ in range(2):
        outcome = flow.copy(topic).expect(0)
        assert "no effect" not in outcome.stderr
        assert not outcome.summary.warnings
        add(flow, ledger, 10)
    told(flow.copy(topic, "--restart"), "--restart has no effect: the target topic holds")
    flow.verify(topic)


def test_client_properties_without_effect_are_told_where_they_are_meant(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    load(flow, topic, rng)
    outcome = flow.copy(topic, "--target-X", "compression.type=zstd").expect(0)
    assert "--target-X has no effect with compression.type" in outcome.stderr
