"""The options table agrees with itself, with the settings and with what click makes of it."""

from __future__ import annotations

import re

import click
import pytest

from replicator.cli.copy import command
from replicator.cli.params import click_parameters
from replicator.errors import UsageError
from replicator.options.rates import AUTO, always
from replicator.options.selection import AtTime, Forever, Partitions
from replicator.options.settings import CopySettings, copy_settings
from replicator.options.table import OPTIONS, Option, options_of

IDS = [option.name for option in OPTIONS]


def defaults() -> dict[str, object]:
    """What click hands to the command when only clusters and a topic are given."""
    context = command.make_context(
        "copy", ["--source", "a:9092", "--target", "b:9092", "orders"], resilient_parsing=False
    )
    return context.params


def test_names_flags_and_variables_are_used_once() -> None:
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(set(flags)) == len(flags)
    assert len({option.env for option in OPTIONS}) == len(OPTIONS)
    assert len({option.dest for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_a_row_is_complete(option: Option) -> None:
    assert re.fullmatch(r"COPYSTREAM_[A-Z_]+", option.env)
    assert option.help.endswith(".")
    assert not (option.default and option.default_note)
    if option.flags:
        assert option.flags[0] in (f"--{option.name}", f"--{option.name.replace('-x', '-X')}")
    if option.default is not None:
        value = option.value.parse(option.default)
        assert option.value.print(value) == option.default


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_click_gets_every_row(option: Option) -> None:
    made = {parameter.name: parameter for parameter in click_parameters("copy")}
    parameter = made[option.dest]
    assert parameter.envvar == option.env
    if isinstance(parameter, click.Option):
        assert set(parameter.opts) == set(option.flags)
    else:
        assert not option.flags


def test_rows_and_settings_fields_match() -> None:
    fields = {option.field for option in options_of("copy") if option.field}
    assert fields | {"given"} == set(CopySettings.__struct_fields__)
    assert CopySettings.__struct_defaults__ == ()


def test_defaults_become_settings() -> None:
    settings = copy_settings(defaults())
    assert settings.topics == ("orders",)
    assert settings.exclude == ()
    assert settings.partitions == Partitions()
    assert settings.lanes == 0
    assert settings.memory == 64 << 20
    assert settings.throttle == always(AUTO)
    assert settings.throttle_topics == ()
    assert settings.weights == ()
    assert settings.isolation == "read_committed"
    assert settings.check_crc is False
    assert settings.restart is False
    assert settings.replication_factor is None
    assert (settings.max_bytes, settings.max_records, settings.max_duration) == (None,) * 3
    assert settings.source.bootstrap == (("a", 9092),)
    assert settings.target.bootstrap == (("b", 9092),)


def test_settings_that_copy_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="--from latest"):
        copy_settings({**defaults(), "from": options("from").value.parse("latest")})
    with pytest.raises(UsageError, match="nothing lies between"):
        copy_settings({**defaults(), "from": AtTime(5), "until": AtTime(5)})
    copy_settings({**defaults(), "from": AtTime(5), "until": AtTime(6)})
    copy_settings({**defaults(), "from": AtTime(5), "until": Forever()})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-bytes", "1", 1),
        ("max-bytes", "20MB", 20_000_000),
        ("max-bytes", "1.5GiB", 3 << 29),
        ("max-records", "1", 1),
        ("max-records", str(2**63 - 1), 2**63 - 1),
        ("max-duration", "1s", 1000),
        ("max-duration", "2h", 7_200_000),
        ("linger", "0s", 0),
        ("linger", "5ms", 5),
        ("linger", "1m", 60_000),
    ],
)
def test_limits_on_a_run(name: str, text: str, value: int) -> None:
    kind = options(name).value
    assert kind.parse(text) == value
    assert kind.parse(kind.print(value)) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max-bytes", "0"),
        ("max-bytes", "9300PB"),
        ("max-bytes", "off"),
        ("max-records", "0"),
        ("max-records", "-1"),
        ("max-records", "1k"),
        ("max-records", "²"),
        ("max-records", str(2**63)),
        ("max-records", "9" * 5000),
        ("max-duration", "999ms"),
        ("max-duration", "30"),
        ("linger", "1m1s"),
        ("linger", "5"),
        ("max-duration", "9" * 400 + "w"),
    ],
)
def test_limits_on_a_run_that_make_no_sense(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|the (least|most) is|longer|larger"):
        options(name).value.parse(text)


def options(name: str) -> Option:
    return next(option for option in OPTIONS if option.name == name)


def test_settings_do_not_show_secrets() -> None:
    values = {**defaults(), "source_x": ("sasl.jaas.config=x password=hunter2;",)}
    assert "hunter2" not in repr(copy_settings(values))
