"""--config: what a file may hold, its precedence, and what SIGHUP reads from it during a copy."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.clusters.binary import CLUSTERS, Ran, read_until, started
from kit.every_option import SETTINGS, TEXTS
from replicator.options.rates import Rate, print_rate
from replicator.options.table import OPTIONS

Run = Callable[..., Ran]
JSON = ("-o", "json", "--progress", "none")
FILE = ("--config", "copy.toml")


def toml(values: dict[str, object]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def test_every_option_can_stand_in_the_file(copystream: Run, tmp_path: Path) -> None:
    (tmp_path / "f.properties").write_text("client.id=file\nbootstrap.servers=g:5\n")
    values: dict[str, object] = {"topics": ["orders"], "output": "json", "progress": "none"}
    for option in OPTIONS:
        if option.field and option.flags:
            text = TEXTS[option.name]
            values[option.name] = True if option.value.kind == "switch" else text
    (tmp_path / "copy.toml").write_text(toml(values))
    ran = copystream("copy", *FILE, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings == SETTINGS
    ran = copystream("copy", env={"COPYSTREAM_CONFIG": "copy.toml"}, fake="done")
    assert ran.settings == SETTINGS


def test_numbers_and_arrays_may_be_written_as_such(copystream: Run, tmp_path: Path) -> None:
    (tmp_path / "copy.toml").write_text(
        'lanes = 3\nverbose = 1\nexclude = ["a", "b.*"]\nweight = ["orders=2"]\nmax-records = 7\n'
        "check-crc = false\n"
    )
    ran = copystream("copy", *CLUSTERS, *FILE, *JSON, "orders", fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings["lanes"] == 3
    assert ran.settings["max_records"] == 7
    assert ran.settings["exclude"] == ["a", "b.*"]
    assert ran.settings["weights"] == [["orders", 2]]
    assert ran.settings["check_crc"] is False
    assert "what is done" in ran.err


def test_flags_win_over_variables_and_these_over_the_file(copystream: Run, tmp_path: Path) -> None:
    (tmp_path / "copy.toml").write_text('memory = "10MiB"\nlanes = 3\nreplication-factor = 9\n')
    environment = {"COPYSTREAM_MEMORY": "11MiB", "COPYSTREAM_LANES": "4"}
    flags = ("--memory", "12MiB", "--config", "copy.toml")
    ran = copystream("copy", *CLUSTERS, *flags, *JSON, "orders", env=environment, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings["memory"] == 12 << 20
    assert ran.settings["lanes"] == 4
    assert ran.settings["replication_factor"] == 9
    assert ran.settings["isolation"] == "read_committed"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("throtle = '1MB/s'", "the key throtle, which is no option"),
        ("config = 'other.toml'", "the key config, which is no option"),
        ("[copy]\nlanes = 1", "the key copy, which is no option"),
        ("lanes = ", "is not TOML: "),
        ("lanes = \x00", "is not TOML: "),
        ("lanes = true", "lanes in the options file copy.toml: expected a text"),
        ("lanes = ['1']", "lanes in the options file copy.toml: expected a text"),
        ("exclude = [1]", "exclude in the options file copy.toml: expected an array of texts"),
        ("check-crc = 1", "check-crc in the options file copy.toml: expected true or false"),
        ("verbose = 'much'", "verbose in the options file copy.toml: expected a number"),
        ("lanes = 'many'", "'many' (lanes in the options file): expected a whole number"),
        ("throttle = '1B/s'", "off takes the limit away"),
        ("throttle-topic = ['orders']", "expected TOPIC=RATE"),
        ("throttle-topic = ['[=1MB/s']", "as a regular expression"),
        ("throttle-topic = ['a=08:00,auto 19:00,off']", "auto is for --throttle alone"),
        ("weight = ['orders=0']", "expected a weight from 1 to 1000"),
        ("weight = ['orders']", "expected TOPIC=N"),
    ],
)
def test_a_wrong_file(copystream: Run, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "copy.toml").write_text(text)
    ran = copystream("copy", *CLUSTERS, *FILE, "orders", fake="done")
    assert ran.code == 2
    error, hint = ran.err.splitlines()
    assert complaint in error
    assert hint.startswith("hint: ")
    if "throtle" in text:
        assert hint == "hint: is throttle meant?"


def test_a_missing_file(copystream: Run, tmp_path: Path) -> None:
    ran = copystream("copy", *CLUSTERS, *FILE, "orders", fake="done")
    assert ran.code == 2
    assert "the options file copy.toml cannot be read: No such file" in ran.err
    (tmp_path / "copy.toml").write_bytes(b"lanes = '\xff'")
    ran = copystream("copy", *CLUSTERS, *FILE, "orders", fake="done")
    assert ran.code == 2
    assert "is not TOML" in ran.err


@pytest.mark.parametrize("text", ['source-x = ["hunter2"]', 'source-x = [["hunter2"]]'])
def test_secrets_of_the_file_are_not_shown(copystream: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "copy.toml").write_text(text)
    ran = copystream("copy", *CLUSTERS, *FILE, "orders", "-vv", fake="done")
    assert ran.code == 2
    assert "source-x" in ran.err
    assert "hunter2" not in ran.err


# --- SIGHUP ---------------------------------------------------------------------------------------


def rates_of(throttle: dict[str, Any]) -> list[str]:
    rates = [msgspec.convert(entry["rate"], Rate) for entry in throttle["whole"]["entries"]]
    return [print_rate(rate) for rate in rates]


def ended(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], str]:
    """The throttle that it has now, and its stderr; ``throttled`` ends when that has changed."""
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return json.loads(json.loads(out)["flow"]), err.decode()


def test_sighup_reads_the_throttle_again(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text('throttle = "1MB/s"\nlanes = 2\nthrottle-topic = ["x=5kB/s"]\n')
    with started("throttled", *JSON, *FILE, cwd=tmp_path) as process:
        path.write_text('throttle = "08:00,2MB/s 19:00,off"\nlanes = 3\nweight = ["orders=4"]\n')
        process.send_signal(signal.SIGHUP)
        throttle, err = ended(process)
    assert rates_of(throttle) == ["2MB/s", "off"]
    assert throttle["topics"] == []
    assert throttle["weights"] == [["orders", 4]]
    assert err == (
        f"reloaded {path}: throttle: 1MB/s → 08:00,2MB/s 19:00,off; "
        "throttle-topic: x=5kB/s → none; weight: none → orders=4; "
        "lanes: stays as it was while this copy runs\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        ('throttle = "1MB/s"\n', 'throttle = "auto"\n', "auto"),
        ('throttle = "1MB/s"\n', "", "auto"),
        ('throttle = "auto"\n', 'throttle = "off"\n', "off"),
        ("", 'throttle = "2MB/s"\n', "2MB/s"),
    ],
)
def test_sighup_turns_auto_on_and_off(tmp_path: Path, before: str, after: str, rate: str) -> None:
    path = tmp_path / "copy.toml"
    path.write_text(before)
    with started("throttled", *JSON, *FILE, cwd=tmp_path) as process:
        path.write_text(after)
        process.send_signal(signal.SIGHUP)
        throttle, err = ended(process)
    assert rates_of(throttle) == [rate]
    old = before.removeprefix('throttle = "').removesuffix('"\n') or "auto"
    assert f"throttle: {old} → {rate}" in err


def test_a_wrong_file_on_sighup_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text('throttle = "1MB/s"\n')
    with started("throttled", *JSON, *FILE, cwd=tmp_path) as process:
        for text, words in (
            ('throttle = "fast"\n', b"throttle in the options file"),
            ("throttle = \n", b"is not TOML"),
            ('throttel = "2MB/s"\n', b"the key throttel"),
            ('throttle = "1MB/s"\n', b"nothing changed"),
        ):
            path.write_text(text)
            process.send_signal(signal.SIGHUP)
            told = read_until(process, b"\n")
            assert words in told
            assert told.startswith(b"not reloaded, everything stays as") or b"nothing" in words
        path.unlink()
        process.send_signal(signal.SIGHUP)
        assert b"cannot be read" in read_until(process, b"\n")
        path.write_text('throttle = "2MB/s"\n')
        process.send_signal(signal.SIGHUP)
        _, err = ended(process)
    assert err == f"reloaded {path}: throttle: 1MB/s → 2MB/s\n"


def test_flags_and_variables_win_on_sighup_too(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text('throttle = "1MB/s"\n')
    with started("throttled", *JSON, *FILE, "--throttle", "7MB/s", cwd=tmp_path) as process:
        path.write_text('throttle = "2MB/s"\nweight = ["a=2"]\n')
        process.send_signal(signal.SIGHUP)
        throttle, err = ended(process)
    assert throttle["whole"]["entries"][0]["rate"]["bytes"] == 7_000_000
    assert err == f"reloaded {path}: weight: none → a=2; throttle: a flag or variable wins\n"


def test_without_a_file_sighup_ends_the_process_as_ever(tmp_path: Path) -> None:
    with started("throttled", *JSON, cwd=tmp_path) as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == -signal.SIGHUP
