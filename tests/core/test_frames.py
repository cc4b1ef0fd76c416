"""Fetch and Produce frames: golden bytes, the oracle, and the promises beyond the layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycore.frames import (
    FETCH_VERSIONS,
    PRODUCE_VERSIONS,
    decode_fetch,
    decode_produce,
    encode_fetch,
    encode_produce,
)
from kit.oracle import batches as oracle
from kit.oracle.wire_strategies import (
    dense_batches,
    fetch_responses,
    fetch_topics,
    i32,
    i64,
    names,
    produce_responses,
    tag_sections,
)

FETCH, PRODUCE = [11, 12, 13], [7, 8, 9]
TOPIC_ID = bytes(range(16))
EXAMPLE_BATCH = """
    0000000000000000 0000003a ffffffff 02 d232ece9 0000 00000000 00000174876e8000 00000174876e8000
    000000000000004d 0000 00000003 00000001 100000000104686900
"""

# Written by kio's serializer. Each begins with size, api key, version, correlation id, client id.
FETCH_REQUESTS = {
    11: """00000059 0001 000b 00000102 0004 636f7079
        ffffffff 000000fa 00000001 00800000 01 00000000 ffffffff
        00000001 0006 6f7264657273
            00000001 00000007 00000005 00000000000003e8 ffffffffffffffff 00100000
        00000000 0000""",
    12: """00000056 0001 000c 00000102 0004 636f7079 00
        ffffffff 000000fa 00000001 00800000 01 00000000 ffffffff
        02 07 6f7264657273
            02 00000007 00000005 00000000000003e8 ffffffff ffffffffffffffff 00100000 00 00
        01 01 00""",
    13: """0000005f 0001 000d 00000102 0004 636f7079 00
        ffffffff 000000fa 00000001 00800000 01 00000000 ffffffff
        02 000102030405060708090a0b0c0d0e0f
            02 00000007 00000005 00000000000003e8 ffffffff ffffffffffffffff 00100000 00 00
        01 01 00""",
}
PRODUCE_REQUESTS = {
    7: f"""00000074 0000 0007 00000102 0004 636f7079
        ffff ffff 00003a98 00000001 0006 6f7264657273 00000001 00000007 00000046 {EXAMPLE_BATCH}""",
    8: f"""00000074 0000 0008 00000102 0004 636f7079
        ffff ffff 00003a98 00000001 0006 6f7264657273 00000001 00000007 00000046 {EXAMPLE_BATCH}""",
    9: f"""0000006d 0000 0009 00000102 0004 636f7079 00
        00 ffff 00003a98 02 07 6f7264657273 02 00000007 47 {EXAMPLE_BATCH} 00 00 00""",
}
# After the correlation id. Partition 7 has an abort list out of order, 8 an error and nulls; the
# flexible ones name the new leader of 8 in a tagged field (tag 1).
FETCH_RESPONSES = {
    11: """00000028 0000 00000000 00000001 0006 6f7264657273 00000002
        00000007 0000 00000000000003f2 00000000000003f1 0000000000000003
            00000002 0000000000000384 00000000000003ed 0000000000000385 00000000000003e9
            ffffffff 00000007 5245434f524453
        00000008 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff
            ffffffff ffffffff ffffffff""",
    12: """00 00000028 0000 00000000 02 07 6f7264657273 03
        00000007 0000 00000000000003f2 00000000000003f1 0000000000000003
            03 0000000000000384 00000000000003ed 00 0000000000000385 00000000000003e9 00
            ffffffff 08 5245434f524453 00
        00000008 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff
            00 ffffffff 00 01 01 09 00000002 00000005 00
        00 00""",
    13: """00 00000028 0000 00000000 02 000102030405060708090a0b0c0d0e0f 03
        00000007 0000 00000000000003f2 00000000000003f1 0000000000000003
            03 0000000000000384 00000000000003ed 00 0000000000000385 00000000000003e9 00
            ffffffff 08 5245434f524453 00
        00000008 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff
            00 ffffffff 00 01 01 09 00000002 00000005 00
        00 00""",
}
PRODUCE_RESPONSES = {
    7: """00000001 0006 6f7264657273 00000002
        00000007 0000 00000000000003e8 ffffffffffffffff 0000000000000003
        00000008 0057 ffffffffffffffff ffffffffffffffff ffffffffffffffff
        00000028""",
    8: """00000001 0006 6f7264657273 00000002
        00000007 0000 00000000000003e8 ffffffffffffffff 0000000000000003 00000000 ffff
        00000008 0057 ffffffffffffffff ffffffffffffffff ffffffffffffffff
            00000002 00000000 ffff 00000001 0006 6e6f206b6579 0009 626164206261746368
        00000028""",
    9: """00 02 07 6f7264657273 03
        00000007 0000 00000000000003e8 ffffffffffffffff 0000000000000003 01 00 00
        00000008 0057 ffffffffffffffff ffffffffffffffff ffffffffffffffff
            03 00000000 00 00 00000001 07 6e6f206b6579 00 0a 626164206261746368 00
        00 00000028 00""",
}


def golden(texts: dict[int, str], version: int) -> bytes:
    return bytes.fromhex(texts[version])


@pytest.mark.parametrize("version", FETCH)
def test_golden_fetch_request(version: int) -> None:
    topics = [(b"orders", TOPIC_ID, [(7, 5, 1000, 1 << 20)])]
    frame = encode_fetch(
        version, 258, b"copy", topics, max_wait_ms=250, min_bytes=1, max_bytes=8 << 20
    )
    assert frame == golden(FETCH_REQUESTS, version)


@pytest.mark.parametrize("version", PRODUCE)
def test_golden_produce_request(version: int) -> None:
    topics = [(b"orders", [(7, bytes.fromhex(EXAMPLE_BATCH))])]
    frame = encode_produce(version, 258, b"copy", topics, timeout_ms=15_000)
    assert frame == golden(PRODUCE_REQUESTS, version)


@pytest.mark.parametrize("version", FETCH)
def test_golden_fetch_response(version: int) -> None:
    assert decode_fetch(version, golden(FETCH_RESPONSES, version)) == {
        "throttle_ms": 40,
        "error": 0,
        "topics": [
            (
                TOPIC_ID if version == 13 else b"orders",
                [
                    {
                        "partition": 7,
                        "error": 0,
                        "high_watermark": 1010,
                        "last_stable_offset": 1009,
                        "log_start_offset": 3,
                        "aborted": [(901, 1001), (900, 1005)],
                        "preferred_replica": -1,
                        "records": b"RECORDS",
                    },
                    {
                        "partition": 8,
                        "error": 6,
                        "high_watermark": -1,
                        "last_stable_offset": -1,
                        "log_start_offset": -1,
                        "aborted": [],
                        "preferred_replica": -1,
                        "records": b"",
                    },
                ],
            )
        ],
    }


@pytest.mark.parametrize("version", PRODUCE)
def test_golden_produce_response(version: int) -> None:
    fine = {"partition": 7, "error": 0, "base_offset": 1000, "log_start_offset": 3, "message": None}
    bad: dict[str, object] = {
        "partition": 8,
        "error": 87,
        "base_offset": -1,
        "log_start_offset": -1,
    }
    bad["message"] = b"no key" if version >= 8 else None
    assert decode_produce(version, golden(PRODUCE_RESPONSES, version)) == {
        "throttle_ms": 40,
        "topics": [(b"orders", [fine, bad])],
    }


@pytest.mark.parametrize("version", FETCH)
@given(
    correlation=i32,
    client=names,
    topics=fetch_topics(),
    options=st.fixed_dictionaries(
        {"max_wait_ms": i32, "min_bytes": i32, "max_bytes": i32, "read_committed": st.booleans()}
    ),
)
def test_fetch_requests_equal_the_oracles(
    version: int, correlation: int, client: bytes, topics: Any, options: dict[str, Any]
) -> None:
    expected = oracle.fetch_request(version, correlation, client, topics, **options)
    assert encode_fetch(version, correlation, client, topics, **options) == expected


@pytest.mark.parametrize("version", PRODUCE)
@given(
    correlation=i32,
    client=names,
    timeout=i32,
    topics=st.dictionaries(names, st.dictionaries(i32, dense_batches(), max_size=3), max_size=3),
)
def test_produce_requests_equal_the_oracles(
    version: int, correlation: int, client: bytes, timeout: int, topics: Any
) -> None:
    topics = [(name, list(partitions.items())) for name, partitions in topics.items()]
    expected = oracle.produce_request(version, correlation, client, topics, timeout_ms=timeout)
    assert encode_produce(version, correlation, client, topics, timeout_ms=timeout) == expected


def test_frames_larger_than_the_first_buffer() -> None:
    """The writer grows in the middle of a frame, also within one field."""
    topics = [(b"n" * 32_767, TOPIC_ID, [(p, 0, p, 1) for p in range(1000)])] * 3
    options: Any = {"max_wait_ms": 1, "min_bytes": 1, "max_bytes": 1, "read_committed": False}
    for version in FETCH:
        expected = oracle.fetch_request(version, 1, b"c" * 5000, topics, **options)
        assert encode_fetch(version, 1, b"c" * 5000, topics, **options) == expected
    produced = [(b"t", [(p, oracle.build(bytes(p % 7), crc=0)) for p in range(2000)])]
    for version in PRODUCE:
        expected = oracle.produce_request(version, 1, b"c", produced, timeout_ms=1)
        assert encode_produce(version, 1, b"c", produced, timeout_ms=1) == expected


@pytest.mark.parametrize("size", [61, 126, 127, 128, 16_382, 16_383, 16_384, 2_097_151])
def test_payload_lengths_around_every_varint_size(size: int) -> None:
    batch = oracle.build(crc=0) + bytes(size - 61)
    topics = [(b"t", [(0, batch), (1, batch)])]
    for version in PRODUCE:
        expected = oracle.produce_request(version, 1, b"c", topics, timeout_ms=1)
        assert encode_produce(version, 1, b"c", topics, timeout_ms=1) == expected


def abort_order(decoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Checks that abort lists are in order, and orders those of equal offsets by producer."""
    for _, partitions in decoded["topics"]:
        for p in partitions:
            firsts = [first for _, first in p["aborted"]]
            assert firsts == sorted(firsts)
            p["aborted"].sort(key=lambda entry: (entry[1], entry[0]))
    return decoded


@pytest.mark.parametrize("version", FETCH)
@given(data=st.data(), tags=tag_sections, behind=st.binary(max_size=4))
def test_fetch_responses_equal_the_oracles(
    version: int, data: Any, tags: Any, behind: bytes
) -> None:
    response = data.draw(fetch_responses(version))
    encoded = oracle.fetch_response(version, response, tags) + behind
    expected = abort_order(oracle.read_fetch_response(version, encoded))
    assert abort_order(decode_fetch(version, encoded)) == expected
    assert [key for key, _ in expected["topics"]] == [key for key, _ in response["topics"]]


@pytest.mark.parametrize("version", PRODUCE)
@given(response=produce_responses(), tags=tag_sections, behind=st.binary(max_size=4))
def test_produce_responses_equal_the_oracles(
    version: int, response: dict[str, Any], tags: Any, behind: bytes
) -> None:
    encoded = oracle.produce_response(version, response, tags) + behind
    expected = oracle.read_produce_response(version, encoded)
    assert decode_produce(version, encoded) == expected
    assert expected["throttle_ms"] == response["throttle_ms"]


@pytest.mark.parametrize("version", FETCH)
@given(entries=st.lists(st.tuples(i64, i64), max_size=200))
def test_long_abort_lists_come_sorted_and_whole(version: int, entries: Any) -> None:
    """The memory may have held a longer list of another partition before."""

    def partition(aborted: Any) -> dict[str, Any]:
        return {
            "partition": 0, "error": 0, "high_watermark": 0, "last_stable_offset": 0,
            "log_start_offset": 0, "aborted": aborted, "preferred_replica": -1, "records": b"r",
        }  # fmt: skip

    lists = [entries, [(1, 1)] * 300, [], entries[::-1], None]
    key = TOPIC_ID if version == 13 else b"t"
    response = {"throttle_ms": 0, "error": 0, "topics": [(key, [partition(a) for a in lists])]}
    decoded = abort_order(decode_fetch(version, oracle.fetch_response(version, response)))
    got = [p["aborted"] for p in decoded["topics"][0][1]]
    in_order = sorted(entries, key=lambda entry: (entry[1], entry[0]))
    assert got == [in_order, [(1, 1)] * 300, [], in_order, []]


@pytest.mark.parametrize("version", PRODUCE)
def test_a_partition_twice_is_refused(version: int) -> None:
    batch = oracle.build(b"x")
    twice = [
        [(b"t", [(0, batch), (0, batch)])],
        [(b"t", [(0, batch), (1, batch), (2, batch), (0, batch)])],
        [(b"t", [(5, batch)]), (b"u", [(5, batch)]), (b"t", [(5, batch)])],
    ]
    for topics in twice:
        with pytest.raises(ValueError, match=r"b't' partition [05] twice in one Produce"):
            encode_produce(version, 1, b"c", topics)
    fine = [(b"t", [(0, batch), (1, batch)]), (b"u", [(0, batch)]), (b"t", [(2, batch)])]
    assert encode_produce(version, 1, b"c", fine) == encode_produce(version, 1, b"c", fine)


def test_the_window_of_versions() -> None:
    assert (FETCH_VERSIONS, PRODUCE_VERSIONS) == ((11, 13), (7, 9))
    for version in (-1, 0, 10, 14, 32_767):
        with pytest.raises(ValueError, match="Fetch version"):
            encode_fetch(version, 1, b"c", [])
        with pytest.raises(ValueError, match="Fetch version"):
            decode_fetch(version, b"")
    for version in (-1, 3, 6, 10):
        with pytest.raises(ValueError, match="Produce version"):
            encode_produce(version, 1, b"c", [])
        with pytest.raises(ValueError, match="Produce version"):
            decode_produce(version, b"")


def test_what_cannot_be_encoded() -> None:
    batch = oracle.build()
    long_name = b"n" * 32_768
    for version in FETCH:
        with pytest.raises(ValueError, match="32767"):
            encode_fetch(version, 1, long_name, [])
    with pytest.raises(ValueError, match="32767"):
        encode_fetch(12, 1, b"c", [(long_name, TOPIC_ID, [])])
    for topic_id in (b"", TOPIC_ID[:15], TOPIC_ID + b"x"):
        with pytest.raises(ValueError, match="16 bytes"):
            encode_fetch(13, 1, b"c", [(b"t", topic_id, [])])
    with pytest.raises(ValueError, match="61 bytes"):
        encode_produce(9, 1, b"c", [(b"t", [(0, batch[:60])])])
    wrong: Any
    for wrong in ("text", None, 5):
        with pytest.raises(TypeError):
            encode_fetch(12, 1, wrong, [])
        with pytest.raises(TypeError):
            encode_fetch(12, 1, b"c", [(wrong, TOPIC_ID, [])])
        with pytest.raises(TypeError):
            encode_fetch(13, 1, b"c", [(b"t", wrong, [])])
        with pytest.raises((TypeError, ValueError)):
            encode_produce(9, 1, b"c", [(b"t", [(0, wrong)])])
    for number in (2**31, -(2**31) - 1):
        with pytest.raises(OverflowError):
            encode_fetch(12, number, b"c", [])
        with pytest.raises(OverflowError):
            encode_produce(9, 1, b"c", [(b"t", [(number, batch)])])


@pytest.mark.parametrize(
    ("version", "body"),
    [
        pytest.param(11, "00000000 0000 00000000 ffffffff", id="null topics"),
        pytest.param(12, "00 00000000 0000 00000000 00", id="null compact topics"),
        pytest.param(11, "00000000 0000 00000000 00000001 ffff 00000000", id="null name"),
        pytest.param(12, "00 00000000 0000 00000000 02 00 01 00", id="null compact name"),
        pytest.param(11, "00000000 0000 00000000 00000001 0001 74 ffffffff", id="null partitions"),
        pytest.param(12, "00 00000000 0000 00000000 02 02 74 00 00", id="null compact partitions"),
        pytest.param(11, "00000000 0000 00000000 80000000", id="negative count"),
        pytest.param(11, "00000000 0000 00000000 7fffffff 0001 74", id="count past the end"),
        pytest.param(12, "00 00000000 0000 00000000 ffffffff07 0274", id="compact count"),
        pytest.param(12, "00 00000000 0000 00000000 ffffffff0f 0274", id="count of 32 bits"),
        pytest.param(12, "ffffffff07 00000000 0000 00000000 01", id="tags without end"),
        pytest.param(11, "00000000 0000 00000000 00000001 8000 74 00000000", id="name length"),
    ],
)
def test_fetch_responses_that_cannot_be(version: int, body: str) -> None:
    data = bytes.fromhex(body) + bytes(8)
    for size in (len(data), len(data) - 8):
        with pytest.raises(ValueError, match="malformed"):
            decode_fetch(version, data[:size])
    with pytest.raises(ValueError, match="truncated"):
        oracle.read_fetch_response(version, b"")


@pytest.mark.parametrize("version", [12, 13])
def test_a_topic_without_partitions_cut_short(version: int) -> None:
    key = TOPIC_ID if version == 13 else b"t"
    fetched = {"throttle_ms": 0, "error": 0, "topics": [(key, [])]}
    tags = oracle.Out(True)
    tags.tags([(5, b"tag")])
    whole = oracle.fetch_response(version, fetched, [(5, b"tag")])
    assert decode_fetch(version, whole) == fetched
    for size in range(len(whole) - len(tags.data)):  # those at the very end are left unread
        with pytest.raises(ValueError, match="malformed"):
            decode_fetch(version, whole[:size])


def test_a_produced_topic_without_partitions_cut_short() -> None:
    produced = {"throttle_ms": 0, "topics": [(b"t", [])]}
    whole = oracle.produce_response(9, produced)
    assert decode_produce(9, whole) == produced
    for size in range(len(whole) - 1):
        with pytest.raises(ValueError, match=r"malformed|truncated"):
            decode_produce(9, whole[:size])


@pytest.mark.parametrize("version", FETCH)
def test_an_empty_fetch_response(version: int) -> None:
    for error in (0, -1, 71):
        response: dict[str, object] = {"throttle_ms": 3000, "error": error, "topics": []}
        assert decode_fetch(version, oracle.fetch_response(version, response)) == response


def test_records_are_handed_out_as_their_own_copy() -> None:
    data = bytearray(golden(FETCH_RESPONSES, 12))
    decoded = decode_fetch(12, data)
    data[:] = bytes(len(data))
    assert decoded["topics"][0][1][0]["records"] == b"RECORDS"
    data.clear()  # nothing holds on to the response
