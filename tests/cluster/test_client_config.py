"""client.properties as Kafka's own tools read them, with precedence, warnings and no secrets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.cluster.config import ClientConfig, format_address, load_client_config
from replicator.errors import ConfigError, ExitCode, UsageError

SECRET = "hunter2-Z9q"


def written(directory: Path, text: str) -> Path:
    file = directory / "client.properties"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_address_alone_is_enough() -> None:
    config = load_client_config("kafka-1:9092", None, [], side="source")
    assert config.bootstrap == (("kafka-1", 9092),)
    assert config.client_id == "copystream"
    assert config.security_protocol == "PLAINTEXT"
    assert config.librdkafka() == {
        "bootstrap.servers": "kafka-1:9092",
        "client.id": "copystream",
        "security.protocol": "plaintext",
    }


def test_a_file_in_the_format_of_java_properties(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "# made for the console tools\n"
        "bootstrap.servers = a:1 , \\\n    b:2\n"
        "client.id: night\\u002dcopy\n"
        "security.protocol=plaintext\n",
    )
    config = load_client_config(None, file, [], side="source")
    assert config.bootstrap == (("a", 1), ("b", 2))
    assert config.client_id == "night-copy"
    assert config.security_protocol == "PLAINTEXT"


def test_the_option_wins_over_overrides_and_they_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "bootstrap.servers=file:1\nclient.id=from-file\n")
    overrides = ["bootstrap.servers=override:2", "client.id = from-override"]
    config = load_client_config("option:3", file, overrides, side="target")
    assert config.bootstrap == (("option", 3),)
    assert config.client_id == "from-override"
    assert load_client_config(None, file, overrides, side="target").bootstrap == (("override", 2),)
    assert load_client_config(None, file, [], side="target").bootstrap == (("file", 1),)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a:1", (("a", 1),)),
        (" a:1 ,, b:65535, ", (("a", 1), ("b", 65535))),
        ("[::1]:9092", (("::1", 9092),)),
        ("[2001:db8::1]:9092,10.0.0.1:9", (("2001:db8::1", 9092), ("10.0.0.1", 9))),
        ("a:1,a:1", (("a", 1),)),
    ],
)
def test_addresses(text: str, addresses: tuple[tuple[str, int], ...]) -> None:
    config = load_client_config(text, None, [], side="source")
    assert config.bootstrap == addresses
    assert config.bootstrap_text == ",".join(format_address(*address) for address in addresses)


@pytest.mark.parametrize(
    "text",
    ["a", "a:", ":9092", "a:0", "a:65536", "a:-1", "a:x", "a:٣", "::1:9092", "a b:1", "u@h:1", ","],
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_client_config(text, None, [], side="source")
    assert caught.value.message.startswith("--source: ")
    assert "HOST:PORT" in (caught.value.hint or "")
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_url_is_told_apart(tmp_path: Path) -> None:
    file = written(tmp_path, "bootstrap.servers=PLAINTEXT://a:9092")
    with pytest.raises(ConfigError, match="is a URL") as caught:
        load_client_config(None, file, [], side="source")
    assert str(file) in caught.value.message


def test_no_address_at_all() -> None:
    with pytest.raises(UsageError, match="no address for the target cluster") as caught:
        load_client_config(None, None, ["client.id=x"], side="target")
    assert "--target HOST:PORT" in (caught.value.hint or "")


@pytest.mark.parametrize("override", ["client.id", "=x", " =x", ""])
def test_an_override_that_is_none(override: str) -> None:
    with pytest.raises(UsageError, match="--source-X needs KEY=VALUE"):
        load_client_config("a:1", None, [override], side="source")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.properties"
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_client_config("a:1", missing, [], side="source")
    assert str(missing) in caught.value.message
    with pytest.raises(ConfigError, match="cannot be read"):
        load_client_config("a:1", tmp_path, [], side="source")


def test_a_broken_escape_is_named_without_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, f"ssl.key.password={SECRET}\\uZZZZ\n")
    with pytest.raises(ConfigError) as caught:
        load_client_config("a:1", file, [], side="source")
    assert str(file) in caught.value.message
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_latin_1_file_is_read_as_java_does(tmp_path: Path) -> None:
    file = tmp_path / "old.properties"
    file.write_bytes("# später\nclient.id=copie-privée\n".encode("iso-8859-1"))
    assert load_client_config("a:1", file, [], side="source").client_id == "copie-privée"


@pytest.mark.parametrize("value", ["x" * 250, "a\x07b"])
def test_an_impossible_client_id(value: str) -> None:
    with pytest.raises(ConfigError, match=r"client\.id must be printable"):
        load_client_config("a:1", None, [f"client.id={value}"], side="source")


@pytest.mark.parametrize("protocol", ["SSL", "sasl_ssl", "SASL_PLAINTEXT"])
def test_security_is_refused_and_not_ignored(protocol: str) -> None:
    with pytest.raises(ConfigError, match="not supported by this version") as caught:
        load_client_config("a:1", None, [f"security.protocol={protocol}"], side="source")
    assert "PLAINTEXT" in (caught.value.hint or "")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ConfigError, match="'TLS' does not exist") as caught:
        load_client_config("a:1", None, ["security.protocol=tls"], side="source")
    assert "SASL_SSL" in (caught.value.hint or "")


def test_unknown_keys_are_named_once_and_without_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    overrides = [f"no.such.key={SECRET}", "acks=all", f"b.password={SECRET}", "client.id=x"]
    with caplog.at_level(logging.DEBUG):
        load_client_config("a:1", None, overrides, side="target")
    [meant, record] = caplog.records
    assert "--target-X has no effect with acks" in meant.getMessage()
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text == "target: properties not known and not used: b.password, no.such.key"


def test_security_keys_without_their_protocol_are_named(caplog: pytest.LogCaptureFixture) -> None:
    load_client_config("a:1", None, [f"sasl.jaas.config={SECRET}"], side="source")
    [record] = caplog.records
    assert "without effect" in record.getMessage()
    assert "sasl.jaas.config" in record.getMessage()
    assert SECRET not in caplog.text


def test_secrets_are_not_in_the_repr_and_still_there() -> None:
    overrides = [f"sasl.jaas.config={SECRET}", f"ssl.keystore.password={SECRET}", f"odd={SECRET}"]
    config = load_client_config("a:1", None, overrides, side="source")
    assert SECRET not in repr(config)
    assert SECRET not in str(config)
    assert SECRET not in f"{[config]}"
    assert "sasl.jaas.config" in repr(config)
    assert config.properties["sasl.jaas.config"] == SECRET
    with pytest.raises(TypeError):
        config.properties["x"] = "y"  # type: ignore[index]


HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(HOSTS, st.integers(1, 65535)), min_size=1, max_size=5, unique=True))
def test_addresses_are_read_back_as_they_are_shown(addresses: list[tuple[str, int]]) -> None:
    config = ClientConfig(bootstrap=tuple(addresses))
    again = load_client_config(config.bootstrap_text, None, [], side="source")
    assert again.bootstrap == config.bootstrap
