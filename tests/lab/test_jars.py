"""Where Kafka's jars come from, tested with a script in place of Maven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from replicator.lab import KAFKA_4, LabError, default_version, kafka_libs

FETCH = "from replicator.lab import kafka_libs; print(kafka_libs('9.9.9'))"


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of Maven; ``calls`` beside it gets a line for each call."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    script = tmp_path / "bin" / "mvn"
    script.parent.mkdir()
    return script


def behave(script: Path, body: str) -> None:
    find = 'for a; do case $a in -DoutputDirectory=*) out=${a#*=};; esac; done; mkdir -p "$out"\n'
    script.write_text(f'#!/bin/sh\necho call >> "{script.parent}/calls"\n{find}{body}\n')
    script.chmod(0o755)


def calls(script: Path) -> int:
    return len((script.parent / "calls").read_text().splitlines())


def test_fetched_once(maven: Path, tmp_path: Path) -> None:
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar"')
    libs = kafka_libs("9.9.9")
    assert libs == tmp_path / "cache" / "copystream" / "kafka" / "9.9.9" / "libs"
    assert [jar.name for jar in libs.iterdir()] == ["kafka-clients-9.9.9.jar"]
    assert kafka_libs("9.9.9") == libs
    assert calls(maven) == 1


def test_by_a_link_it_is_the_same_kafka(
    maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise brokers would be given a class archive of their own for each way to the jars."""
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar"')
    libs = kafka_libs("9.9.9")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    assert kafka_libs("9.9.9") == libs
    (tmp_path / "home").symlink_to(libs.parent)
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path / "home"))
    assert kafka_libs("9.9.9") == libs


def test_a_failed_fetch_is_told_and_not_kept(maven: Path) -> None:
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar"; echo the mirror is gone; exit 1')
    with pytest.raises(LabError, match="the mirror is gone"):
        kafka_libs("9.9.9")
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar" "$out/other.jar"')
    assert len(list(kafka_libs("9.9.9").iterdir())) == 2


def test_a_broker_that_is_published_without_its_mirror_maker(maven: Path) -> None:
    wanted = 'grep -q connect-mirror "$(dirname "$out")/pom.xml"'
    refused = f'{wanted} && {{ touch "$out/half.jar"; echo no connect-mirror; exit 1; }}'
    behave(maven, f'{refused}; touch "$out/kafka-clients-9.9.9.jar"')
    assert [jar.name for jar in kafka_libs("9.9.9").iterdir()] == ["kafka-clients-9.9.9.jar"]
    assert calls(maven) == 2


def test_a_fetch_that_brings_nothing_fails(maven: Path) -> None:
    behave(maven, "exit 0")
    with pytest.raises(LabError, match="could not fetch"):
        kafka_libs("9.9.9")


def test_a_killed_fetch_is_not_taken_for_good(maven: Path) -> None:
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar"; kill -9 $PPID')
    assert subprocess.run([sys.executable, "-c", FETCH], check=False).returncode == -9
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar" "$out/other.jar"')
    libs = kafka_libs("9.9.9")
    assert len(list(libs.iterdir())) == 2
    assert {path.name for path in libs.parent.iterdir()} == {"libs", ".lock"}


def test_two_at_once_fetch_once(maven: Path) -> None:
    behave(maven, 'sleep 1; touch "$out/kafka-clients-9.9.9.jar"')
    both = [
        subprocess.Popen([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    assert calls(maven) == 1


def test_no_maven_says_what_to_do(maven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(maven.parent))
    with pytest.raises(LabError, match="no mvn") as caught:
        kafka_libs("9.9.9")
    assert "KAFKA_HOME" in (caught.value.hint or "")


def test_kafka_home_serves_its_own_version_only(
    maven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libs = tmp_path / "kafka" / "libs"
    libs.mkdir(parents=True)
    monkeypatch.setenv("KAFKA_HOME", str(libs.parent))
    monkeypatch.delenv("KAFKA_VERSION", raising=False)
    with pytest.raises(LabError, match="holds no libs"):
        kafka_libs("9.9.8")
    (libs / "kafka-clients-9.9.8.jar").touch()
    behave(maven, 'touch "$out/kafka-clients-9.9.9.jar"')
    assert default_version() == "9.9.8"
    assert kafka_libs("9.9.8") == libs
    assert kafka_libs("9.9.9") != libs
    monkeypatch.setenv("KAFKA_VERSION", "9.9.9")
    assert default_version() == "9.9.9"
    monkeypatch.delenv("KAFKA_VERSION")
    monkeypatch.delenv("KAFKA_HOME")
    assert default_version() == KAFKA_4


@pytest.mark.parametrize("version", ["4", "../../etc", "4.1.1-rc1", ""])
def test_only_plain_versions(version: str) -> None:
    with pytest.raises(LabError, match="is not a Kafka version"):
        kafka_libs(version)
