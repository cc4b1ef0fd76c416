"""Quantities: what is accepted, what is refused with which words, and parse(print(x)) == x."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.options.quantities import (
    parse_compression,
    parse_duration,
    parse_size,
    parse_timestamp,
    print_compression,
    print_duration,
    print_size,
    print_timestamp,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512B", 512),
        ("64MiB", 64 << 20),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64Mi", 64 << 20),
        ("20MB", 20_000_000),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5 GiB", 3 << 29),
        (" 2TB ", 2 * 10**12),
        ("0.3kB", 300),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1MiBs", "1iB", "1,5MB", "١MB", "1Mb", "9PBB"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 64MiB"):
        parse_size(text)


def test_a_size_beyond_int64_is_refused() -> None:
    with pytest.raises(ValueError, match="8 EiB"):
        parse_size("9000PiB")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1001, "1001B"),
        (1000, "1kB"),
        (1024, "1KiB"),
        (64 << 20, "64MiB"),
        (20_000_000, "20MB"),
        (3 << 29, "1536MiB"),
        (10**15, "1PB"),
    ],
)
def test_printed_sizes(size: int, text: str) -> None:
    assert print_size(size) == text


@given(st.integers(0, 2**63 - 1))
def test_sizes_survive_printing(size: int) -> None:
    assert parse_size(print_size(size)) == size


@given(st.integers(0, 1023), st.sampled_from([1000, 1024]), st.integers(0, 5))
def test_round_sizes_survive_printing(count: int, base: int, power: int) -> None:
    size = count * base**power
    assert parse_size(print_size(size)) == size


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("2d", 172_800_000),
        ("1w1ms", 604_800_001),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "30m1h", "1h1h", "1y", "h", "1h ago", "-1h"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.integers(0, 10**14))
def test_durations_survive_printing(milliseconds: int) -> None:
    assert parse_duration(print_duration(milliseconds)) == milliseconds


NOW = 1_714_564_800.0  # 2024-05-01T12:00:00Z


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01", 0),
        ("0", 0),
        ("1000", 1000),
        ("1714564800000", 1_714_564_800_000),
        ("2024-05-01T12:00:00Z", 1_714_564_800_000),
        ("2024-05-01T12:00:00", 1_714_564_800_000),
        ("2024-05-01 12:00", 1_714_564_800_000),
        ("2024-05-01T14:00:00.250+02:00", 1_714_564_800_250),
        ("2024-05-01", 1_714_521_600_000),
        ("now", 1_714_564_800_000),
        ("-2h", 1_714_557_600_000),
        ("-1h30m", 1_714_559_400_000),
    ],
)
def test_timestamps(text: str, milliseconds: int) -> None:
    assert parse_timestamp(text, now=NOW) == milliseconds


@pytest.mark.parametrize("text", ["20240501", "1714564800"])
def test_days_and_seconds_are_not_taken_for_milliseconds(text: str) -> None:
    with pytest.raises(ValueError, match="append 000 to seconds"):
        parse_timestamp(text)


@pytest.mark.parametrize("text", ["1969-12-31", "-9999w", "9" * 20])
def test_times_kafka_cannot_store_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1970 and later"):
        parse_timestamp(text, now=NOW)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "12:00", "-", "-5", "2h"])
def test_timestamps_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a (time|duration)"):
        parse_timestamp(text, now=NOW)


@given(st.integers(0, 2**63 - 1) | st.integers(0, 4 * 10**12))
def test_timestamps_survive_printing(milliseconds: int) -> None:
    assert parse_timestamp(print_timestamp(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("text", "codec", "level"),
    [
        ("source", -1, None),
        ("none", 0, None),
        ("gzip:9", 1, 9),
        ("snappy", 2, None),
        ("lz4:-8", 3, -8),
        ("lz4:0", 3, 0),
        ("zstd:-64", 4, -64),
        ("zstd:22", 4, 22),
    ],
)
def test_compressions(text: str, codec: int, level: int | None) -> None:
    assert parse_compression(text) == (codec, level)
    assert print_compression(parse_compression(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lzma",
        "zstd:",
        "zstd:23",
        "zstd:-65",
        "lz4:--1",
        "lz4:²",
        "gzip:0",
        "gzip:" + "9" * 5000,
        "snappy:1",
        "source:3",
        "none:1",
    ],
)
def test_compressions_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|has no levels"):
        parse_compression(text)
