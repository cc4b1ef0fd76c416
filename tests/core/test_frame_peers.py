"""Fetch and Produce frames against two independent implementations: kio and kafka-python.

Both are generated from Kafka's own message descriptions, kio ahead of time and kafka-python when
it is imported. Requests of ours are read by them, responses of theirs are read by us.
"""

from __future__ import annotations

import datetime
import importlib
import io
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.protocol.consumer.fetch import FetchRequest, FetchResponse
from kafka.protocol.producer.produce import ProduceRequest, ProduceResponse
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from copycore.frames import decode_fetch, decode_produce, encode_fetch, encode_produce
from kit.oracle.wire_strategies import (
    dense_batches,
    fetch_responses,
    i32,
    i64,
    produce_responses,
    topic_ids,
)

few = settings(max_examples=40)  # the peers are slow
text_names = st.text("abcXYZ019._-", min_size=1, max_size=249)
byte_names = text_names.map(str.encode)
milliseconds = st.integers(0, 2**31 - 1)
error_codes = st.sampled_from([code.value for code in ErrorCode])
partition_requests = st.lists(st.tuples(i32, i32, i64, i32), max_size=4)
fetch_topics = st.lists(st.tuples(byte_names, topic_ids, partition_requests), max_size=4)
produce_topics = st.lists(
    st.tuples(
        byte_names,
        st.lists(st.tuples(i32, dense_batches()), max_size=3, unique_by=lambda entry: entry[0]),
    ),
    max_size=3,
    unique_by=lambda entry: entry[0],
)


def kio_module(api: str, version: int, kind: str) -> Any:
    return importlib.import_module(f"kio.schema.{api}.v{version}.{kind}")


def kio_read(api: str, version: int, name: str, frame: bytes) -> tuple[Any, Any]:
    """Header and body of a request frame of ours, which must hold nothing else."""
    entity = getattr(kio_module(api, version, "request"), name)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    header, read = entity_reader(entity.__header_schema__)(frame, 4)
    body, rest = entity_reader(entity)(frame, 4 + read)
    assert 4 + read + rest == len(frame)
    return header, body


def kio_write(entity: Any, *, header: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(header))(buffer, header)
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()[4:]  # after the correlation id


def peer_read(schema: Any, version: int, frame: bytes) -> tuple[Any, dict[str, Any]]:
    request = schema.decode(frame, version=version, header=True, framed=True)
    return request.header, request.to_dict(json=False)


def duration(ms: int) -> datetime.timedelta:
    return datetime.timedelta(milliseconds=ms)


def plain_fetch(response: Mapping[str, Any]) -> dict[str, Any]:
    """What ``decode_fetch`` must say, for a response as the strategy draws it."""
    topics = [
        (
            key,
            [
                p
                | {
                    "aborted": sorted(p["aborted"] or (), key=lambda entry: entry[1]),
                    "records": p["records"] or b"",
                }
                for p in partitions
            ],
        )
        for key, partitions in response["topics"]
    ]
    return {**response, "topics": topics}


def by_offset_and_producer(decoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transactions with the same first offset come in any order: sorts them."""
    for _, partitions in decoded["topics"]:
        for p in partitions:
            p["aborted"].sort(key=lambda entry: (entry[1], entry[0]))
    return decoded


def plain_produce(version: int, response: Mapping[str, Any]) -> dict[str, Any]:
    def partition(p: Mapping[str, Any]) -> dict[str, Any]:
        texts = [text for _, text in p["record_errors"]] + [p["error_message"]]
        found = [text for text in texts if text is not None] if version >= 8 else []
        kept = ("partition", "error", "base_offset", "log_start_offset")
        return {name: p[name] for name in kept} | {"message": found[0] if found else None}

    topics = [(name, [partition(p) for p in ps]) for name, ps in response["topics"]]
    return {"throttle_ms": response["throttle_ms"], "topics": topics}


@pytest.mark.parametrize("version", [11, 12, 13])
@few
@given(data=st.data(), correlation=i32, client=text_names, topics=fetch_topics)
def test_fetch_requests(
    version: int, data: Any, correlation: int, client: str, topics: Any
) -> None:
    limits = {
        "max_wait_ms": data.draw(milliseconds),
        "min_bytes": data.draw(i32),
        "max_bytes": data.draw(i32),
    }
    committed = data.draw(st.booleans())
    frame = encode_fetch(
        version, correlation, client.encode(), topics, read_committed=committed, **limits
    )
    header, body = kio_read("fetch", version, "FetchRequest", frame)
    assert (header.request_api_key, header.request_api_version) == (1, version)
    assert (header.correlation_id, header.client_id) == (correlation, client)
    assert (body.max_wait, body.min_bytes) == (duration(limits["max_wait_ms"]), limits["min_bytes"])
    assert (body.max_bytes, body.isolation_level) == (limits["max_bytes"], committed)
    assert (body.replica_id, body.session_id, body.session_epoch) == (-1, 0, -1)
    assert (body.forgotten_topics_data, body.rack_id) == ((), "")
    assert len(body.topics) == len(topics)
    for got, (name, topic_id, partitions) in zip(body.topics, topics, strict=True):
        if version >= 13:
            assert (got.topic_id or uuid.UUID(int=0)).bytes == topic_id
        else:
            assert got.topic == name.decode()
        assert [
            (p.partition, p.current_leader_epoch, p.fetch_offset, p.partition_max_bytes)
            for p in got.partitions
        ] == partitions
        assert all(p.log_start_offset == -1 for p in got.partitions)
        assert all(version < 12 or p.last_fetched_epoch == -1 for p in got.partitions)

    header, other = peer_read(FetchRequest, version, frame)
    assert (header.request_api_key, header.request_api_version) == (1, version)
    assert (header.correlation_id, header.client_id) == (correlation, client)
    assert {name: other[name] for name in limits} == limits
    assert [
        [tuple(p[name] for name in ("partition", "current_leader_epoch", "fetch_offset",
                                    "partition_max_bytes")) for p in t["partitions"]]
        for t in other["topics"]
    ] == [partitions for _, _, partitions in topics]  # fmt: skip


@pytest.mark.parametrize("version", [7, 8, 9])
@few
@given(correlation=i32, client=text_names, topics=produce_topics, timeout=milliseconds)
def test_produce_requests(
    version: int, correlation: int, client: str, topics: Any, timeout: int
) -> None:
    frame = encode_produce(version, correlation, client.encode(), topics, timeout_ms=timeout)
    header, body = kio_read("produce", version, "ProduceRequest", frame)
    assert (header.request_api_key, header.request_api_version) == (0, version)
    assert (header.correlation_id, header.client_id) == (correlation, client)
    assert (body.transactional_id, body.acks, body.timeout) == (None, -1, duration(timeout))
    assert [
        (t.name.encode(), [(p.index, bytes(p.records)) for p in t.partition_data])
        for t in body.topic_data
    ] == topics

    header, other = peer_read(ProduceRequest, version, frame)
    assert (header.request_api_key, header.request_api_version) == (0, version)
    assert (other["transactional_id"], other["acks"], other["timeout_ms"]) == (None, -1, timeout)
    assert [
        (t["name"].encode(), [(p["index"], bytes(p["records"])) for p in t["partition_data"]])
        for t in other["topic_data"]
    ] == topics


@pytest.mark.parametrize("version", [11, 12, 13])
@few
@given(data=st.data())
def test_fetch_responses_of_kio(version: int, data: Any) -> None:
    response = data.draw(fetch_responses(version, error_codes, milliseconds))
    tagged = data.draw(st.booleans())
    m = kio_module("fetch", version, "response")

    def topic(key: bytes) -> dict[str, Any]:
        if version >= 13:
            return {"topic_id": uuid.UUID(bytes=key)}
        return {"topic": key.hex()}

    def tags() -> dict[str, Any]:
        if version < 12 or not tagged:
            return {}
        return {
            "diverging_epoch": m.EpochEndOffset(epoch=3, end_offset=900),
            "current_leader": m.LeaderIdAndEpoch(leader_id=2, leader_epoch=5),
        }

    entity = m.FetchResponse(
        throttle_time=duration(response["throttle_ms"]),
        error_code=ErrorCode(response["error"]),
        session_id=77,
        responses=tuple(
            m.FetchableTopicResponse(
                **topic(key),
                partitions=tuple(
                    m.PartitionData(
                        partition_index=p["partition"],
                        error_code=ErrorCode(p["error"]),
                        high_watermark=p["high_watermark"],
                        last_stable_offset=p["last_stable_offset"],
                        log_start_offset=p["log_start_offset"],
                        aborted_transactions=None
                        if p["aborted"] is None
                        else tuple(
                            m.AbortedTransaction(producer_id=pid, first_offset=first)
                            for pid, first in p["aborted"]
                        ),
                        preferred_read_replica=p["preferred_replica"],
                        records=p["records"],
                        **tags(),
                    )
                    for p in partitions
                ),
            )
            for key, partitions in response["topics"]
        ),
    )
    header = m.FetchResponse.__header_schema__(correlation_id=5)
    decoded = decode_fetch(version, kio_write(entity, header=header))
    expected = plain_fetch(response)
    if version < 13:
        expected["topics"] = [(key.hex().encode(), ps) for key, ps in expected["topics"]]
    assert by_offset_and_producer(decoded) == by_offset_and_producer(expected)


@pytest.mark.parametrize("version", [11, 12, 13])
@few
@given(data=st.data())
def test_fetch_responses_of_kafka_python(version: int, data: Any) -> None:
    response = data.draw(fetch_responses(version))
    name = "topic_id" if version >= 13 else "topic"

    def topic(key: bytes) -> Any:
        return uuid.UUID(bytes=key) if version >= 13 else key.hex()

    peer = FetchResponse(
        version=version,
        throttle_time_ms=response["throttle_ms"],
        error_code=response["error"],
        session_id=1,
        responses=[
            FetchResponse.FetchableTopicResponse(
                version=version,
                **{name: topic(key)},
                partitions=[
                    FetchResponse.FetchableTopicResponse.PartitionData(
                        version=version,
                        partition_index=p["partition"],
                        error_code=p["error"],
                        high_watermark=p["high_watermark"],
                        last_stable_offset=p["last_stable_offset"],
                        log_start_offset=p["log_start_offset"],
                        aborted_transactions=p["aborted"],
                        preferred_read_replica=p["preferred_replica"],
                        records=p["records"],
                    )
                    for p in partitions
                ],
            )
            for key, partitions in response["topics"]
        ],
    )
    peer.with_header(correlation_id=5)
    decoded = decode_fetch(version, peer.encode(header=True)[4:])
    expected = plain_fetch(response)
    if version < 13:
        expected["topics"] = [(key.hex().encode(), ps) for key, ps in expected["topics"]]
    assert by_offset_and_producer(decoded) == by_offset_and_producer(expected)


@pytest.mark.parametrize("version", [7, 8, 9])
@few
@given(response=produce_responses(error_codes, byte_names).filter(lambda r: r["throttle_ms"] >= 0))
def test_produce_responses_of_kio(version: int, response: dict[str, Any]) -> None:
    m = kio_module("produce", version, "response")

    def errors(p: Mapping[str, Any]) -> dict[str, Any]:
        if version < 8:
            return {}
        return {
            "record_errors": tuple(
                m.BatchIndexAndErrorMessage(
                    batch_index=index,
                    batch_index_error_message=None if text is None else text.decode(),
                )
                for index, text in p["record_errors"]
            ),
            "error_message": None if p["error_message"] is None else p["error_message"].decode(),
        }

    entity = m.ProduceResponse(
        throttle_time=duration(response["throttle_ms"]),
        responses=tuple(
            m.TopicProduceResponse(
                name=name.hex(),
                partition_responses=tuple(
                    m.PartitionProduceResponse(
                        index=p["partition"],
                        error_code=ErrorCode(p["error"]),
                        base_offset=p["base_offset"],
                        log_append_time=None,
                        log_start_offset=p["log_start_offset"],
                        **errors(p),
                    )
                    for p in partitions
                ),
            )
            for name, partitions in response["topics"]
        ),
    )
    header = m.ProduceResponse.__header_schema__(correlation_id=5)
    expected = plain_produce(version, response)
    expected["topics"] = [(name.hex().encode(), ps) for name, ps in expected["topics"]]
    assert decode_produce(version, kio_write(entity, header=header)) == expected


@pytest.mark.parametrize("version", [7, 8, 9])
@few
@given(response=produce_responses(texts=byte_names))
def test_produce_responses_of_kafka_python(version: int, response: dict[str, Any]) -> None:
    topic_class = ProduceResponse.TopicProduceResponse
    partition_class = topic_class.PartitionProduceResponse

    def errors(p: Mapping[str, Any]) -> dict[str, Any]:
        if version < 8:
            return {}
        return {
            "record_errors": [
                partition_class.BatchIndexAndErrorMessage(
                    version=version,
                    batch_index=index,
                    batch_index_error_message=None if text is None else text.decode(),
                )
                for index, text in p["record_errors"]
            ],
            "error_message": None if p["error_message"] is None else p["error_message"].decode(),
        }

    peer = ProduceResponse(
        version=version,
        throttle_time_ms=response["throttle_ms"],
        responses=[
            topic_class(
                version=version,
                name=name.hex(),
                partition_responses=[
                    partition_class(
                        version=version,
                        index=p["partition"],
                        error_code=p["error"],
                        base_offset=p["base_offset"],
                        log_append_time_ms=p["log_append_time"],
                        log_start_offset=p["log_start_offset"],
                        **errors(p),
                    )
                    for p in partitions
                ],
            )
            for name, partitions in response["topics"]
        ],
    )
    peer.with_header(correlation_id=5)
    expected = plain_produce(version, response)
    expected["topics"] = [(name.hex().encode(), ps) for name, ps in expected["topics"]]
    assert decode_produce(version, peer.encode(header=True)[4:]) == expected
