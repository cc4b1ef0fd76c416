"""The decoder agrees with kio on what is right, and survives everything that is not."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.api_versions import v0 as api_versions_v0
from kio.schema.api_versions import v3 as api_versions_v3
from kio.schema.consumer_group_heartbeat import v0 as heartbeat_v0
from kio.schema.describe_log_dirs import v1 as log_dirs_v1
from kio.schema.describe_producers import v0 as describe_producers_v0
from kio.schema.errors import ErrorCode
from kio.schema.init_producer_id.v4 import InitProducerIdResponse
from kio.schema.list_offsets import v6 as list_offsets_v6
from kio.schema.metadata.v12 import response as metadata
from kio.schema.offset_for_leader_epoch import v4 as epoch_ends_v4
from kio.serial import entity_reader, entity_writer

from replicator.cluster.decode import DecodeError, decode_response

RESPONSES: list[Any] = [
    api_versions_v0.ApiVersionsResponse,
    api_versions_v3.ApiVersionsResponse,
    describe_producers_v0.DescribeProducersResponse,
    epoch_ends_v4.OffsetForLeaderEpochResponse,
    heartbeat_v0.ConsumerGroupHeartbeatResponse,  # has a nullable structure
    InitProducerIdResponse,
    list_offsets_v6.ListOffsetsResponse,
    log_dirs_v1.DescribeLogDirsResponse,
    metadata.MetadataResponse,
]


def frame(entity: Any) -> bytes:
    out = io.BytesIO(struct.pack(">i", 7))
    out.seek(4)
    if entity.__header_schema__.__flexible__:
        out.write(b"\0")
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


entities = st.sampled_from(RESPONSES).flatmap(st.from_type)


@settings(deadline=None, max_examples=150)
@given(entities)
def test_agrees_with_kio_on_correct_answers(entity: Any) -> None:
    data = frame(entity)
    start = 5 if entity.__header_schema__.__flexible__ else 4
    theirs, size = entity_reader(type(entity))(data, start)
    assert size == len(data) - start
    assert decode_response(type(entity), data) == theirs


@settings(deadline=None, max_examples=100)
@given(entities, st.data())
def test_a_cut_or_changed_answer_is_an_error_or_a_value(entity: Any, data: st.DataObject) -> None:
    whole = bytearray(frame(entity))
    cut = data.draw(st.integers(0, len(whole)))
    if cut < len(whole):
        with pytest.raises(DecodeError):
            decode_response(type(entity), whole[:cut])
    for _ in range(20):
        position = data.draw(st.integers(4, len(whole) - 1)) if len(whole) > 4 else 0
        whole[position] ^= 1 << data.draw(st.integers(0, 7))
        with suppress(DecodeError):
            decode_response(type(entity), whole)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(RESPONSES), st.binary(max_size=400))
def test_random_bytes_are_an_error_or_a_value(response: Any, data: bytes) -> None:
    with suppress(DecodeError):
        decode_response(response, data)


def producer_id(tail: bytes) -> bytes:
    """An InitProducerId answer (producer 5, epoch 0) with ``tail`` as its tagged fields."""
    return struct.pack(">i", 7) + b"\0" + struct.pack(">ihqh", 0, 0, 5, 0) + tail


def metadata_with_count(count: bytes) -> bytes:
    return struct.pack(">i", 7) + b"\0" + struct.pack(">i", 0) + count + b"\0" * 60


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (metadata_with_count(b"\xff\xff\xff\xff\x0f"), "claims 4294967294 elements"),
        (metadata_with_count(b"\xff\xff\xff\x7f"), "claims 268435454 elements"),
        (metadata_with_count(b"\x28"), "claims 39 elements"),
        (metadata_with_count(b"\0"), "null where an array is required"),
        (metadata_with_count(b"\xff\xff\xff\xff\xff\x01"), "claims 68719476734 elements"),
        (metadata_with_count(b"\xff" * 9 + b"\x01"), "claims 18446744073709551614 elements"),
        (metadata_with_count(b"\xff" * 10), "malformed or truncated"),
        (producer_id(b""), "malformed or truncated"),
        (producer_id(b"\xff\xff\xff\xff\x0f"), "malformed or truncated"),
        (producer_id(b"\x01\x05\xff\xff\xff\xff\x0f"), "malformed or truncated"),
        (producer_id(b"\x01\x05" + b"\xff" * 9 + b"\x01"), "malformed or truncated"),
        (producer_id(b"\x00\x00"), "1 bytes left over"),
    ],
)
def test_impossible_lengths_are_refused_before_anything_is_allocated(
    data: bytes, says: str
) -> None:
    entity = metadata.MetadataResponse if len(data) > 60 else InitProducerIdResponse
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=says):
            decode_response(entity, data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_negative_count_or_length_of_an_old_version_is_refused() -> None:
    head = struct.pack(">ii", 7, 0)
    with pytest.raises(DecodeError, match="claims -2 elements"):
        decode_response(log_dirs_v1.DescribeLogDirsResponse, head + struct.pack(">i", -2))
    one_directory = head + struct.pack(">ihh", 1, 0, -5) + b"\0" * 8
    with pytest.raises(DecodeError, match="malformed or truncated"):
        decode_response(log_dirs_v1.DescribeLogDirsResponse, one_directory)
    no_name = head + struct.pack(">ihh", 1, 0, -1) + b"\0" * 8
    with pytest.raises(DecodeError, match="null where a string is required"):
        decode_response(log_dirs_v1.DescribeLogDirsResponse, no_name)


def test_text_that_is_not_utf8_is_refused() -> None:
    broker = struct.pack(">i", 1) + b"\x03\xff\xfe" + struct.pack(">i", 9092) + b"\0\0"
    data = struct.pack(">i", 7) + b"\0" + struct.pack(">i", 0) + b"\x02" + broker + b"\0" * 40
    with pytest.raises(DecodeError, match="not UTF-8"):
        decode_response(metadata.MetadataResponse, data)


@pytest.mark.parametrize("tail", [b"\x01\x05\x02ab", b"\x02\x05\x00\x05\x01z"])
def test_unknown_tagged_fields_are_skipped(tail: bytes) -> None:
    # KIP-482: a newer broker may add them to any flexible version.
    answer = decode_response(InitProducerIdResponse, producer_id(tail))
    assert answer.producer_id == 5


def test_tagged_fields_in_the_header_are_skipped() -> None:
    plain = producer_id(b"\0")
    tagged = plain[:4] + b"\x01\x09\x03xyz" + plain[5:]
    assert decode_response(InitProducerIdResponse, tagged).producer_id == 5


def test_an_error_code_newer_than_the_table_stays_a_number() -> None:
    data = struct.pack(">i", 7) + b"\0" + struct.pack(">ihqh", 0, 31000, -1, -1) + b"\0"
    answer = decode_response(InitProducerIdResponse, data)
    assert answer.error_code == 31000
    assert not isinstance(answer.error_code, ErrorCode)


@pytest.mark.parametrize("change", [lambda d: d + b"\0", lambda d: d[:-1]])
def test_a_message_must_end_where_its_frame_does(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodeError):
        decode_response(InitProducerIdResponse, change(producer_id(b"\0")))
