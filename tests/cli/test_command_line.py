"""The real binary before any engine runs: help, versions, completion, and what it refuses."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.binary import BINARY, CLUSTERS, Ran, clean_environment
from replicator import __version__
from replicator.options.table import OPTIONS

Run = Callable[..., Ran]


def test_help_lists_the_commands(copystream: Run) -> None:
    ran = copystream("--help")
    assert ran.code == 0
    assert ran.err == ""
    for name in ("copy", "lab", "completion"):
        assert f"\n  {name} " in ran.out


def test_no_command_shows_the_help_and_is_a_usage_error(copystream: Run) -> None:
    ran = copystream()
    assert ran.code == 2
    assert ran.out == ""
    assert "Commands:" in ran.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_copy_names_every_option(copystream: Run, flag: str) -> None:
    ran = copystream("copy", flag)
    assert ran.code == 0
    for option in OPTIONS:
        for name in option.flags:
            assert name in ran.out
    assert "Examples:" in ran.out


@pytest.mark.parametrize("arguments", [["--help"], ["copy", "--help"]])
def test_help_is_quick(arguments: list[str]) -> None:
    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    spent = []
    for _ in range(3):
        before = cpu()
        subprocess.run(
            [BINARY, *arguments], env=clean_environment(), capture_output=True, check=True
        )
        spent.append(cpu() - before)
    assert min(spent) < 0.25, spent


def test_help_imports_no_engine_no_client_and_no_terminal_library() -> None:
    environment = clean_environment({"PYTHONPROFILEIMPORTTIME": "1"})
    done = subprocess.run(
        [BINARY, "copy", "--help"], env=environment, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "replicator.cli.tables" in imported
    heavy = {"numpy", "kio", "confluent_kafka", "rich", "javaproperties", "replicator.lab"}
    assert not heavy & imported


def test_version_tells_what_it_is_built_on(copystream: Run) -> None:
    ran = copystream("--version")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == f"copystream {__version__}"
    values = dict(line.split(": ", 1) for line in lines[1:])
    assert list(values) == ["python", "machine", "core", "librdkafka", "kio"]
    assert values["python"].startswith("3.")
    assert values["core"].startswith("crc32c by ")
    assert values["librdkafka"][0].isdigit()


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")]
)
def test_completion_scripts(copystream: Run, shell: str, sign: str) -> None:
    ran = copystream("completion", shell)
    assert ran.code == 0
    assert sign in ran.out
    assert "_COPYSTREAM_COMPLETE" in ran.out
    assert copystream("completion", "tcsh").code == 2


def complete(words: list[str]) -> list[str]:
    environment = clean_environment(
        {
            "_COPYSTREAM_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
    )
    done = subprocess.run([BINARY], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_completions() -> None:
    assert "plain,copy" in complete(["copystream", "co"])
    assert complete(["copystream", "copy", "--isolation", "read_u"]) == ["plain,read_uncommitted"]
    assert "plain,--throttle" in complete(["copystream", "copy", "--thr"])
    assert complete(["copystream", "copy", "--source-config", "cl"]) == ["file,cl"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["cpoy"], "No such command 'cpoy'"),
        (["copy", *CLUSTERS], "Missing argument 'TOPIC…'"),
        (["copy", *CLUSTERS, "orders", "--thorttle", "1MB/s"], "No such option"),
        (["copy", *CLUSTERS, "orders", "--throttle"], "requires an argument"),
        (["copy", *CLUSTERS, "orders", "--throttle", "fast"], "'fast': expected a rate such as"),
        (["copy", *CLUSTERS, "orders", "--throttle", "0"], "off takes the limit away"),
        (["copy", *CLUSTERS, "orders", "--memory", "1MiB"], "the least is 8MiB"),
        (["copy", *CLUSTERS, "orders", "--lanes", "0"], "expected auto or a number from 1 to 64"),
        (["copy", *CLUSTERS, "orders", "--lanes", "65"], "expected auto or a number from 1 to 64"),
        (["copy", *CLUSTERS, "orders", "--partitions", "3-1"], "from the lower to the higher"),
        (["copy", *CLUSTERS, "orders", "--from", "newest"], "expected earliest, latest, a time"),
        (["copy", *CLUSTERS, "orders", "--from", "./gone.txt"], "no such offsets file"),
        (["copy", *CLUSTERS, "orders", "--from", "latest"], "copies only what arrives later"),
        (["copy", *CLUSTERS, "orders", "--from", "-1h", "--until", "-2h"], "nothing lies between"),
        (
            ["copy", *CLUSTERS, "orders", "--until", "end"],
            "expected current, stable, forever or a time",
        ),
        (["copy", *CLUSTERS, "orders", "--isolation", "none"], "or read_uncommitted"),
        (["copy", *CLUSTERS, "orders", "--replication-factor", "0"], "the least is 1"),
        (["copy", *CLUSTERS, "orders", "--replication-factor", "two"], "a whole number"),
        (["copy", *CLUSTERS, "orders", "--output", "yaml"], "expected text or json"),
        (["copy", *CLUSTERS, "orders", "--progress", "bar"], "expected auto, live, plain or none"),
        (["copy", *CLUSTERS, "ord[ers"], "as a regular expression"),
        (["copy", *CLUSTERS, "orders", "--exclude", "*"], "as a regular expression"),
        (["copy", *CLUSTERS, "orders", "--source-X", "client.id"], "expected KEY=VALUE"),
        (["copy", "--target", "b:9092", "orders"], "no address for the source cluster"),
        (["copy", "--source", "a:9092", "orders"], "no address for the target cluster"),
        (["copy", "--source", "a", "--target", "b:9092", "orders"], "is not an address"),
        (["copy", *CLUSTERS, "orders", "--source-config", "gone.properties"], "cannot be read"),
    ],
)
def test_usage_errors(copystream: Run, arguments: list[str], complaint: str) -> None:
    ran = copystream(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    error, hint = ran.err.splitlines()
    assert error.startswith("error: ")
    assert complaint in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["copy", *CLUSTERS, "-o", "json", "orders", "--lanes", "many"],
        ["copy", *CLUSTERS, "-ojson", "orders", "--lanes", "many"],
        ["copy", *CLUSTERS, "--output=json", "orders", "--lanes", "many"],
        ["copy", *CLUSTERS, "--output", "text", "--lanes", "many", "orders", "-o", "json"],
    ],
)
def test_usage_errors_as_a_document(copystream: Run, arguments: list[str]) -> None:
    ran = copystream(*arguments)
    assert ran.code == 2
    assert ran.document == {
        "status": "error",
        "error": "UsageError",
        "exit_code": 2,
        "message": "Invalid value for '--lanes': 'many': expected a whole number",
        "hint": "copystream copy --help shows the options",
    }
    assert ran.err.startswith("error: Invalid value for '--lanes'")


def test_usage_errors_in_the_json_log(copystream: Run) -> None:
    arguments = ["copy", *CLUSTERS, "orders", "--progress", "live", "--log-format", "json"]
    ran = copystream(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    logged = json.loads(ran.err)
    assert logged["level"] == "error"
    assert logged["exit_code"] == 2
    assert logged["message"].startswith("--progress live draws on the screen")


SECRET = "hunter2"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--source-X", f"sasl password {SECRET}"],
        ["--target-X", SECRET],
        ["--source-X", f"=sasl.password={SECRET}"],
        ["--source-X", f"sasl.jaas.config={SECRET}", "--lanes", "many"],
        ["--source-config", f"ssl.key.password={SECRET}"],
        ["--lanes", f"ssl.truststore.password={SECRET}"],
        ["--source-Y", f"sasl.password={SECRET}"],
        [f"--sasl.password={SECRET}"],
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_not_repeated(copystream: Run, arguments: list[str], form: str) -> None:
    ran = copystream("copy", *CLUSTERS, *arguments, "-vv", "-o", form, "--log-format", form, "t")
    assert ran.code == 2
    assert SECRET not in ran.out + ran.err


def test_secrets_of_the_environment_are_not_repeated(copystream: Run) -> None:
    ran = copystream("copy", *CLUSTERS, "orders", env={"COPYSTREAM_TARGET_X": SECRET})
    assert ran.code == 2
    assert "expected KEY=VALUE with a Kafka client property as KEY (from COPYSTREAM_TARGET_X)" in (
        ran.err
    )
    assert SECRET not in ran.err


def test_a_wrong_variable_is_named(copystream: Run) -> None:
    ran = copystream("copy", *CLUSTERS, "orders", env={"COPYSTREAM_MEMORY": "lots"})
    assert ran.code == 2
    assert "'lots' (from COPYSTREAM_MEMORY): expected a size" in ran.err


def test_bytes_that_are_not_text_are_shown_escaped() -> None:
    done = subprocess.run(
        [BINARY, "copy", *CLUSTERS, "--lanes", b"\xff", "-o", "json", "t"],
        env=clean_environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"\\udcff" in done.stdout
    assert b"\\udcff" in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_is_gone_is_no_reason_to_complain(stream: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        arguments = ["copy", "--help"] if stream == "stdout" else ["copy"]
        done = subprocess.run(
            [BINARY, *arguments],
            env=clean_environment(),
            check=False,
            timeout=60,
            stdout=write if stream == "stdout" else file,
            stderr=write if stream == "stderr" else file,
        )
    os.close(write)
    assert done.returncode == (1 if stream == "stdout" else 2)
    assert kept.read_bytes() == b""
