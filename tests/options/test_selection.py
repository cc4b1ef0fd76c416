"""Partitions, starts, ends and offsets files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.errors import UsageError
from replicator.options.selection import (
    AtOffsets,
    AtTime,
    Current,
    Earliest,
    Forever,
    Latest,
    Partitions,
    parse_partitions,
    parse_start,
    parse_until,
    print_partitions,
    print_start,
    print_until,
    read_offsets,
)


@pytest.mark.parametrize(
    ("text", "expected", "printed"),
    [
        ("7", Partitions(((7, 7),), {}), "7"),
        ("0-3,7", Partitions(((0, 3), (7, 7)), {}), "0-3,7"),
        ("7, 2-3 ,0-1,3", Partitions(((0, 3), (7, 7)), {}), "0-3,7"),
        ("orders:0-3,7", Partitions(None, {"orders": ((0, 3), (7, 7))}), "orders:0-3,7"),
        (
            "1,a.b:5,c:0-2,4",
            Partitions(((1, 1),), {"a.b": ((5, 5),), "c": ((0, 2), (4, 4))}),
            "1,a.b:5,c:0-2,4",
        ),
    ],
)
def test_partitions(text: str, expected: Partitions, printed: str) -> None:
    assert parse_partitions(text) == expected
    assert print_partitions(expected) == printed


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "a:", "1;2", "orders:x", "1:2:3-"])
def test_partitions_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected partitions|not a topic name"):
        parse_partitions(text)


@pytest.mark.parametrize("text", ["3-1", "0-2147483648"])
def test_ranges_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from the lower to the higher"):
        parse_partitions(text)


def test_a_huge_range_costs_nothing() -> None:
    assert parse_partitions("0-2147483647").select("orders", 3) == [0, 1, 2]


_numbers = st.lists(st.integers(0, 300), min_size=1, max_size=20)


@given(_numbers, st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9._-]{0,9}\Z"), _numbers))
def test_partitions_mean_the_set_that_was_written(
    everywhere: list[int], topics: dict[str, list[int]]
) -> None:
    text = ",".join(
        [*map(str, everywhere)]
        + [f"{topic}:{','.join(map(str, numbers))}" for topic, numbers in topics.items()]
    )
    parsed = parse_partitions(text)
    assert parse_partitions(print_partitions(parsed)) == parsed
    assert parsed.select("NOT-NAMED", 200) == sorted({n for n in everywhere if n < 200})
    for topic, numbers in topics.items():
        assert parsed.select(topic, 301) == sorted(set(numbers))


def test_without_a_choice_all_partitions_are_taken() -> None:
    assert Partitions().select("orders", 3) == [0, 1, 2]
    assert Partitions(None, {"orders": ((1, 1),)}).select("payments", 2) == [0, 1]


def test_a_partition_asked_for_by_name_must_exist() -> None:
    chosen = parse_partitions("orders:0-3,7")
    with pytest.raises(UsageError, match="orders has no partition 7: it has 7"):
        chosen.select("orders", 7)
    with pytest.raises(UsageError, match="orders has no partition 7: it has 2"):
        chosen.select("orders", 2)


def test_starts_and_ends() -> None:
    assert parse_start("earliest") == Earliest()
    assert parse_start("latest") == Latest()
    assert parse_start("2024-05-01") == AtTime(1_714_521_600_000)
    assert parse_until("current") == Current()
    assert parse_until("forever") == Forever()
    assert parse_until("1714521600000") == AtTime(1_714_521_600_000)


@pytest.mark.parametrize("text", ["earliest", "latest", "2024-05-01T00:00:00Z"])
def test_printed_starts(text: str) -> None:
    assert print_start(parse_start(text)) == text


@pytest.mark.parametrize("text", ["current", "stable", "forever", "2024-05-01T00:00:00.001Z"])
def test_printed_ends(text: str) -> None:
    assert print_until(parse_until(text)) == text


def test_wrong_starts_and_ends() -> None:
    with pytest.raises(ValueError, match="expected earliest, latest, a time or a file"):
        parse_start("newest")
    with pytest.raises(ValueError, match="no such offsets file"):
        parse_start("missing/offsets.txt")
    with pytest.raises(ValueError, match="expected current, stable, forever or a time"):
        parse_until("end")


LINES = """\
# from rpk group seek --to-file
orders 0 100
orders\t1  9223372036854775807   # the last possible

payments 12 0
"""
OFFSETS = {"orders": {0: 100, 1: 2**63 - 1}, "payments": {12: 0}}


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "\ufeff" + LINES.replace("\n", "\r\n"),
        '{"orders": {"0": 100, "1": 9223372036854775807}, "payments": {"12": 0}}',
        """ {"version": 1, "partitions": [
            {"topic": "orders", "partition": 0, "offset": 100},
            {"topic": "orders", "partition": 1, "offset": 9223372036854775807},
            {"topic": "payments", "partition": 12, "offset": 0}]}""",
    ],
    ids=["lines", "lines-windows", "json", "json-delete-records"],
)
def test_offsets_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_text(text, encoding="utf-8")
    start = parse_start(str(path))
    assert isinstance(start, AtOffsets)
    assert start.offsets == OFFSETS
    assert print_start(start) == str(path)
    assert start.offset("orders", 0) == 100
    with pytest.raises(UsageError, match=r"offsets has no offset for orders-2"):
        start.offset("orders", 2)
    with pytest.raises(UsageError, match=r"offsets has no offset for clicks-0"):
        start.offset("clicks", 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no partition"),
        ("# nothing\n", "names no partition"),
        ("{}", "names no partition"),
        ("orders 0\n", "line 1 of the offsets file: expected TOPIC PARTITION OFFSET"),
        ("orders 0 1\norders zero 2\n", "line 2 of the offsets file: expected"),
        ("orders 0 -1\n", "line 1 of the offsets file: expected"),
        ("or/ders 0 1\n", "line 1 of the offsets file: not a topic name"),
        ("orders 0 1\norders 0 1\n", "line 2 of the offsets file: orders-0 is there a second"),
        ("orders 0 9223372036854775808", "line 1 of the offsets file: partition and offset"),
        ("orders 2147483648 0", "line 1 of the offsets file: partition and offset"),
        ('{"orders": ', "not JSON"),
        ('{"orders": 5}', "offsets file, orders: expected {partition: offset}"),
        ('{"orders": {"a": 5}}', "offsets file, entry 1: expected"),
        ('{"orders": {"0": true}}', "offsets file, entry 1: expected"),
        ('{"orders": {"0": -5}}', "offsets file, entry 1: partition and offset"),
        ('{"partitions": [{"topic": "orders"}]}', "offsets file, entry 1: expected"),
        ('{"partitions": [7]}', "offsets file, entry 1: expected"),
    ],
)
def test_wrong_offsets_files_say_where(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        read_offsets(path)
    assert complaint in str(caught.value)


def test_an_offsets_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_offsets(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_offsets(tmp_path)
