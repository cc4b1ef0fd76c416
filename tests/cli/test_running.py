"""The real binary around an engine that plays a part: settings, results, errors and signals."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.binary import CLUSTERS, Ran, read_until, started
from kit.every_option import SETTINGS, TEXTS
from replicator.options.table import OPTIONS

Run = Callable[..., Ran]
COPY = ("copy", *CLUSTERS, "orders")
JSON = ("-o", "json", "--progress", "none")
ROWS = [option for option in OPTIONS if option.field and option.flags]
FLAGS = [
    part
    for option in ROWS
    for part in [option.flags[0], *([] if option.value.kind == "switch" else [TEXTS[option.name]])]
]


@pytest.fixture(autouse=True)
def properties(tmp_path: Path) -> None:
    (tmp_path / "f.properties").write_text("client.id=file\nbootstrap.servers=g:5\n")


def test_every_flag_reaches_the_engine(copystream: Run) -> None:
    ran = copystream("copy", "orders", *JSON, *FLAGS, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings == SETTINGS


def test_every_variable_reaches_the_engine(copystream: Run) -> None:
    environment = {option.env: TEXTS[option.name] for option in ROWS}
    ran = copystream("copy", "orders", *JSON, env=environment, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings == SETTINGS


def test_a_flag_wins_over_its_variable(copystream: Run) -> None:
    wrong = {option.env: "[" for option in ROWS if option.value.kind != "switch"}
    ran = copystream("copy", "orders", *JSON, *FLAGS, env=wrong, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings == SETTINGS


def test_several_values_in_one_variable(copystream: Run) -> None:
    environment = {
        "COPYSTREAM_TOPICS": "orders pay.*",
        "COPYSTREAM_EXCLUDE": "a\nb",
        "COPYSTREAM_SOURCE_X": "client.id=two words\nclient.dns.lookup=use_all_dns_ips\n",
    }
    ran = copystream("copy", *CLUSTERS, *JSON, env=environment, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings["topics"] == ["orders", "pay.*"]
    assert ran.settings["exclude"] == ["a", "b"]
    assert ran.settings["source"]["client_id"] == "two words"
    ran = copystream(*COPY, *JSON, "--exclude", "x", "--exclude", "y", env=environment, fake="done")
    assert ran.settings["topics"] == ["orders"]
    assert ran.settings["exclude"] == ["x", "y"]


def test_an_empty_variable_counts_as_not_set(copystream: Run) -> None:
    environment = {option.env: "" for option in OPTIONS}
    ran = copystream(*COPY, *JSON, env=environment, fake="done")
    assert ran.code == 0, ran.err
    assert ran.settings["memory"] == 64 << 20


def test_offsets_from_a_file(copystream: Run, tmp_path: Path) -> None:
    (tmp_path / "at.txt").write_text("orders 0 17\n")
    ran = copystream(*COPY, *JSON, "--from", "at.txt", fake="done")
    assert ran.settings["start"] == {
        "type": "offsets",
        "path": "at.txt",
        "offsets": {"orders": {"0": 17}},
    }


def test_an_error_that_is_told_has_a_traceback_for_developers_only(copystream: Run) -> None:
    for verbosity, traced in (("-v", False), ("-vv", True)):
        ran = copystream(*COPY, verbosity, fake="refused")
        assert ("Traceback" in ran.err) is traced, ran.err
    assert "Traceback" in copystream(*COPY, "-v", fake="crash").err


def test_a_misspelt_variable_is_warned_of(copystream: Run) -> None:
    environment = {"COPYSTREAM_THROTLE": "1MB/s", "COPYSTREAM_LAB_NAME": "x"}
    ran = copystream(*COPY, *JSON, env=environment, fake="done")
    assert ran.code == 0
    assert "COPYSTREAM_THROTLE in the environment is not known; is COPYSTREAM_THROTTLE" in ran.err
    assert "LAB" not in ran.err


def test_what_is_left_out_or_changed_is_told_at_the_start(copystream: Run) -> None:
    """On stderr, whatever the progress display: the summary comes when all is written."""
    told = copystream(*COPY, "--progress", "none", fake="told")
    for line in (
        "warning: the state topics have one replica",
        "skipped (internal topic): __consumer_offsets, mm2-offsets.a.internal",
        "held back orders: message.timestamp.type=LogAppendTime",
        "warning: orders: the target's retention.ms would delete the oldest records at once",
    ):
        assert line in told.err.splitlines()
    events = copystream(*COPY, *JSON, "--log-format", "json", fake="told").err
    kinds = [json.loads(line)["event"] for line in events.splitlines()]
    assert [kind for kind in kinds if kind != "log"] == [
        "warning", "skipped", "held-back", "warning",
    ]  # fmt: skip


def test_the_result_is_on_stdout_and_the_rest_on_stderr(copystream: Run) -> None:
    ran = copystream(*COPY, fake="done")
    assert ran.code == 0
    assert "done; copied 1,234,567 records, 2.00 GB (5.00 GB uncompressed) in 2.0s" in ran.out
    assert "\x1b" not in ran.out + ran.err
    assert ran.err.count("\n") == 1
    assert ran.err.endswith(" WARNING replicator.copy: started\n")


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        ("done", 0, "done; copied"),
        ("nothing", 0, "nothing left to copy"),
        ("fault", 7, "corrupt-batch orders-3 at offset 1200 on source"),
        ("limited", 8, "stopped by --max-records 1234568 after 1234567, the next batch has 20; "),
    ],
)
def test_the_exit_code_is_the_summary_s(copystream: Run, job: str, code: int, words: str) -> None:
    ran = copystream(*COPY, fake=job)
    assert ran.code == code
    assert words in ran.out
    ran = copystream(*COPY, *JSON, fake=job)
    assert ran.code == code
    assert ran.document["exit_code"] == code
    assert ran.document["records"] == 1_234_567


@pytest.mark.parametrize(
    ("job", "code", "kind", "message", "hint"),
    [
        (
            "refused",
            4,
            "TargetError",
            "target b:9092: connection refused",
            "is the broker running?",
        ),
        ("recreated", 11, "StateError", "topic orders was deleted and made again", "use another"),
        ("leaky", 4, "TargetError", "b:9092 refuses ssl.keystore.password=***", None),
        ("crash", 1, "InternalError", "ZeroDivisionError: division by zero", "-v shows where"),
    ],
)
def test_errors(
    copystream: Run, job: str, code: int, kind: str, message: str, hint: str | None
) -> None:
    ran = copystream(*COPY, fake=job)
    assert ran.code == code
    assert ran.out == ""
    assert "Traceback" not in ran.err
    lines = ran.err.splitlines()
    assert lines[0].startswith("error: ") and message in lines[0]
    assert len(lines) == (2 if hint else 1)
    if hint:
        assert lines[1].startswith("hint: ") and hint in lines[1]

    ran = copystream(*COPY, "-o", "json", "--log-format", "json", fake=job)
    assert ran.code == code
    assert ran.document["status"] == "error"
    assert ran.document["error"] == kind
    assert ran.document["exit_code"] == code
    assert message in ran.document["message"]
    assert hint is None or hint in ran.document["hint"]
    logged = json.loads(ran.err)
    assert logged["message"] == ran.document["message"]
    assert logged["level"] == "error"

    ran = copystream(*COPY, "-vv", fake=job)
    assert ran.code == code
    assert "Traceback" in ran.err and "fake_job.py" in ran.err
    assert "hunter2" not in ran.err


def test_a_dry_run_shows_the_plan_and_runs_nothing(copystream: Run) -> None:
    for flag in ("--dry-run", "-n"):
        ran = copystream(*COPY, flag, fake="plan-only")
        assert ran.code == 0
        assert "create, replication factor 1" in ran.out
        assert "nothing has been changed (dry run)" in ran.out
        assert ran.err == ""
    ran = copystream(*COPY, "-n", "-o", "json", fake="done")
    assert ran.code == 0
    assert ran.document["topics"][0]["held_back"] == {"message.timestamp.type": "LogAppendTime"}


def test_a_dry_run_ends_as_the_conflict_would(copystream: Run) -> None:
    ran = copystream(*COPY, "-n", fake="conflict")
    assert ran.code == 7
    assert "conflict payments: the target has 3 partitions, the source 2" in ran.out
    assert "1 topic in conflict will not be copied" in ran.out


@pytest.mark.parametrize(("flags", "lines"), [((), 1), (("-v",), 2), (("-vv",), 3)])
def test_verbosity(copystream: Run, flags: tuple[str, ...], lines: int) -> None:
    ran = copystream(*COPY, *flags, "--progress", "none", fake="done")
    assert sum("replicator.copy:" in line for line in ran.err.splitlines()) == lines
    twin = {"COPYSTREAM_VERBOSE": str(len("".join(flags).replace("-", "")))}
    ran = copystream(*COPY, "--progress", "none", env=twin, fake="done")
    assert sum("replicator.copy:" in line for line in ran.err.splitlines()) == lines


def test_warnings_of_python_are_logged(copystream: Run) -> None:
    ran = copystream(*COPY, env={"PYTHONWARNINGS": "default"}, fake="warn")
    assert ran.code == 0
    assert "WARNING py.warnings: " in ran.err
    assert "something is deprecated" in ran.err


def test_the_json_log_is_one_object_a_line(copystream: Run) -> None:
    ran = copystream(*COPY, "--log-format", "json", env={"FAKE_SECONDS": "8"}, fake="slow-fault")
    assert ran.code == 7
    events = [json.loads(line) for line in ran.err.splitlines()]
    assert [event["event"] for event in events] == ["log", "partition-failed", "progress"]
    assert all(list(event)[:2] == ["time", "level"] for event in events)
    assert events[0]["message"] == "started"
    assert (events[1]["topic"], events[1]["partition"]) == ("orders", 3)
    assert 5 <= events[2]["elapsed"] < 8
    assert events[2]["records_per_second"] == pytest.approx(1000, rel=0.05)


def test_plain_progress(copystream: Run) -> None:
    ran = copystream(*COPY, env={"FAKE_SECONDS": "8"}, fake="slow")
    assert ran.code == 0
    (line,) = [line for line in ran.err.splitlines() if "replicator.copy" not in line]
    assert re.match(r"[5-7]\.\ds · \d+\.\d % · .* records/s · ", line)
    assert "held back by --throttle 20MB/s" in line


def test_no_progress_still_names_failed_partitions(copystream: Run) -> None:
    ran = copystream(*COPY, "--progress", "none", fake="slow-fault")
    assert ran.code == 7
    lines = [line for line in ran.err.splitlines() if "replicator.copy" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("corrupt-batch: ")
    assert lines[0].endswith("; this partition stops, the others go on")


def test_a_display_that_breaks_does_not_end_the_copy(copystream: Run) -> None:
    ran = copystream(*COPY, fake="blind")
    assert ran.code == 0
    assert "the progress display ends here; the copy goes on" in ran.err
    assert ran.err.count("RuntimeError: no numbers") == 1
    assert "done; copied" in ran.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("progress", ["plain", "none"])
def test_one_signal_finishes_what_is_in_flight(number: int, progress: str) -> None:
    with started("stopped", "--progress", progress) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"stopping: finishing what is in flight; once more (Ctrl-C) stops at once\n" in err
    assert b"interrupted; everything acknowledged is saved; copied 1,234,567 records" in out
    assert b"to go on: run the same command again" in out


def test_an_interrupted_copy_as_a_document() -> None:
    with started("stopped", "-o", "json", "--log-format", "json") as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert json.loads(err)["event"] == "stopping"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(second: int) -> None:
    with started("deaf") as process:
        process.send_signal(signal.SIGINT)
        read_until(process, b"stopping: ")
        process.send_signal(second)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == b"stopped at once; run the same command again to go on\n"
    assert out == b""


def test_a_copy_outlives_the_readers_of_its_output() -> None:
    with started("slow", env={"FAKE_SECONDS": "6"}) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        process.stderr.close()
        assert process.wait(30) == 0
