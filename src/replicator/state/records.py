"""Every record in a state topic: its key, its value, and their formats.

A key is a JSON list that begins with the kind; a value is a JSON object with its ``format``, except
of chunks and claims:

====================================================  ===============================
``["session", session]``                              ``Process``
``["claim", flow, topic, session]``                   its format as a JSON number
``["producer", flow, producer id]``                   ``ProducerIdentity``
``["filler"]``                                        its format as a JSON number
``["binding", flow, topic, partition, generation]``   ``Binding``
``["epochs", flow, topic, partition, generation]``    ``Epochs``
``["split", flow, topic, partition, generation]``     ``SplitState``
``["chunk", flow, topic, partition, generation,       ``Segments``, as bytes; with an end
first counter]`` or ``[…, first counter, end]``       it says nothing of counters from there on
====================================================  ===============================

The first four lie in the registry, the others in the offset map. A record without a value is a
tombstone. A value without a format is of format 1: it was written before values had one. Readers
pass over fields that they do not know, so a new field with a default needs no new format; whatever
an old reader would misunderstand does. Kinds that are not known are passed over as well, so what no
reader may miss is a new format of a known kind.

Everything here is plain data and functions without state: any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from copycore.segments import Segments
from replicator.errors import StateError
from replicator.process import host_id, start_ticks
from replicator.terms import TopicPartition

FORMAT = 1
NO_END = 1 << 62  # more records than any partition has
# How a chunk of a later format begins, before a byte with its number. In format 1 the first varint
# is a source offset, and this one is negative: to a reader of format 1 the chunk is malformed.
CHUNK_MARK = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
LATEST_EPOCHS = 100  # kept of a partition; the position of a copy is in one of the last

MARKER = str(FORMAT).encode()  # the value of a record that its key says everything of

Record = tuple[bytes, bytes | None]  # key and value as they are written
Entry = tuple[int, bytes, bytes | None]  # offset, key and value as they are read
K = TypeVar("K", bound="Key")


# --- keys -----------------------------------------------------------------------------------------


class Key(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A key; its class is the record's kind."""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


class SessionKey(Key, frozen=True, tag="session"):
    session: str  # a UUID, in hexadecimal digits


class ClaimKey(Key, frozen=True, tag="claim"):
    """Its offset in the registry is the generation of the session for this topic."""

    flow: str
    topic: str  # of the source
    session: str


class ProducerKey(Key, frozen=True, tag="producer"):
    flow: str
    producer_id: int


class FillerKey(Key, frozen=True, tag="filler"):
    """A record that only takes up an offset."""


class MapKey(Key, frozen=True):
    """What all keys of the offset map begin with. ``flow`` is ``identity.flow_name``."""

    flow: str
    topic: str  # of the source
    partition: int
    generation: int  # of the session that wrote the record, see ``generations``

    @property
    def tp(self) -> TopicPartition:
        return self.topic, self.partition


class BindingKey(MapKey, frozen=True, tag="binding"):
    pass


class EpochsKey(MapKey, frozen=True, tag="epochs"):
    pass


class SplitKey(MapKey, frozen=True, tag="split"):
    pass


class ChunkKey(MapKey, frozen=True, tag="chunk"):
    """Segments from the counter ``first`` on, up to ``end`` (exclusive) unless that is −1.

    No record has a number of ``NO_END`` or more, so such an end is none either. It tells a chunk
    apart from one of the same session with the same first counter: of two records with one key
    compaction keeps the later one, also where that is a late one of a session that was taken over
    and counts for nothing.
    """

    first: int
    end: int = -1

    @property
    def limit(self) -> int:
        """``end`` where there is one, else −1."""
        return self.end if self.end < NO_END else -1

    def encode(self) -> bytes:
        fields = ["chunk", *msgspec.structs.astuple(self)]
        return msgspec.json.encode(fields[:-1] if self.end < 0 else fields)


# --- values ---------------------------------------------------------------------------------------


class Process(Struct, frozen=True, tag_field="format", tag=FORMAT):
    """The process of a session. ``beat`` grows with each sign of life."""

    host_id: str = msgspec.field(name="place")  # boot id and PID namespace: where the pid counts
    host: str  # name, for people
    pid: int
    started: int  # clock ticks from the host's boot to the process's start
    beat: int

    def alive_here(self) -> bool | None:
        """Whether the process lives; None when it runs on another machine or container."""
        if self.host_id != host_id():
            return None
        return self.started == start_ticks(self.pid)


class ProducerIdentity(Struct, frozen=True, tag_field="format", tag=FORMAT):
    """What a flow writes with, so that brokers enforce the order of its records (KIP-98)."""

    producer_id: int
    producer_epoch: int
    origin: str  # cluster whose records carry this id, see ``identity.origin_name``


class Binding(Struct, frozen=True, tag_field="format", tag=FORMAT):
    """Between which two partitions a map is, and by which numbers its records were written.

    A topic that is created anew has another topic id (KIP-516), so the map of the old one is never
    taken for its own.
    """

    source_id: str  # topic id
    target_topic: str
    target_id: str
    base: int  # target offset of record number 0
    producer_id: int
    producer_epoch: int


class Epochs(Struct, frozen=True, tag_field="format", tag=FORMAT):
    """Leader epochs of the source partition as (source offset, epoch): no batch from there on has
    an older epoch, and none before has this one.

    A leader stamps every batch with its epoch, and knows where each epoch ends (KIP-101). Where the
    epoch of the last batch copied ends before the position of the copy, the source no longer holds
    what was copied, and other records may have taken those offsets (KIP-320).
    """

    starts: tuple[tuple[int, int], ...] = ()

    def at(self, offset: int) -> int:
        """The epoch of the batch before this source offset; −1 where it is not known."""
        return max((epoch for start, epoch in self.starts if start < offset), default=-1)

    def missing(self, others: Epochs, offset: int) -> tuple[tuple[int, int], ...]:
        """Those of ``others`` before this source offset that are not among these."""
        return tuple(pair for pair in others.starts if pair[0] < offset and pair not in self.starts)

    def merged(self, new: Sequence[tuple[int, int]]) -> Epochs:
        """With ``new`` ones, which replace those from their first offset on."""
        if not new:
            return self
        kept = [pair for pair in self.starts if pair[0] < new[0][0] and pair[1] < new[0][1]]
        return Epochs(tuple([*kept, *new][-LATEST_EPOCHS:]))


class SplitBinding(Struct, frozen=True):
    """As ``Binding``, of a source partition whose records go to all partitions of the target topic.
    Each source partition has a producer id of its own, and a counter for each target partition.
    """

    source_id: str  # topic id
    target_topic: str
    target_id: str
    producer_id: int
    producer_epoch: int
    partitioner: str
    bases: tuple[int, ...]  # log ends of the target's partitions before anything was written


class Point(Struct, frozen=True, array_like=True):
    """The counters of a split partition before a source offset."""

    source: int  # offset
    counters: tuple[int, ...]  # of the next record for each target partition


class Arrival(Struct, frozen=True, array_like=True):
    """All our records before number ``counter`` lie before ``offset`` in the target partition."""

    offset: int
    counter: int


class SplitState(Struct, frozen=True, tag_field="format", tag=FORMAT):
    """All that is durable of a split partition.

    Everything before the first point is on the target. The other points are the ends of strides
    that were cut and may not have arrived. A stride's records are sent once the state with its end
    is durable, so the target's logs never have more than the last point says.
    """

    binding: SplitBinding
    points: tuple[Point, ...]
    arrivals: tuple[Arrival, ...]  # for each target partition
    epochs: Epochs = Epochs()  # of the source
    seen: int = -1  # source offset after the last batch fetched; −1 unknown

    @property
    def settled_seen(self) -> int:
        """``seen`` as far as it is settled: strides end where batches do, but for the last one."""
        return min(self.seen, self.points[0].source)

    @property
    def settled(self) -> bool:
        """Whether all that was ever cut has arrived."""
        return len(self.points) == 1


# --- reading and writing --------------------------------------------------------------------------


class Stored(Struct, Generic[K], frozen=True):
    """A record as it was read."""

    topic: str
    offset: int
    key: K
    raw_key: bytes
    raw_value: bytes | None

    @property
    def deleted(self) -> bool:
        """Whether it is a tombstone."""
        return self.raw_value is None

    def value(self) -> Any:
        """The value, of the class that belongs to the key's; for records with one.

        Raises ``StateError`` where it is malformed, or of a format that is not known.
        """
        raw = self.raw_value or b""
        try:
            return _VALUES[type(self.key)](raw)
        except _NewerFormat as newer:
            raise StateError(
                f"{self._where} of format {newer.found}, and this version of copystream knows "
                f"formats up to {FORMAT}",
                hint="a newer copystream wrote it: use that version",
            ) from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise _unreadable(self._where, error) from None

    @property
    def _where(self) -> str:
        return _where(self.topic, self.raw_key)


class Handlers:
    """Decodes the records of a topic and hands each to the handler of its kind.

    For one thread at a time, which also runs the handlers.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._handlers: dict[type[Key], Callable[[Stored[Any]], None]] = {}
        self.read_to = 0  # offset up to which the topic has been read

    def on(self, kind: type[K], handler: Callable[[Stored[K]], None]) -> None:
        """Have ``handler`` called with each record of a kind."""
        self._handlers[kind] = handler

    def read(self, entries: Iterable[Entry]) -> None:
        """Take records in, in order. Raises ``StateError`` for one that is malformed, or of a
        format that is not known.
        """
        for offset, raw_key, raw_value in entries:
            key = _decode_key(self._topic, raw_key)
            handler = self._handlers.get(type(key))
            if handler is not None:
                handler(Stored(self._topic, offset, key, raw_key, raw_value))
            self.read_to = offset + 1


def encode_value(value: Struct | Segments) -> bytes:
    """A value as it is stored, of any kind but markers. Raises ``ValueError`` for segments that
    are none.
    """
    return value.encode() if isinstance(value, Segments) else msgspec.json.encode(value)


class _NewerFormat(Exception):
    def __init__(self, found: int) -> None:
        super().__init__(found)
        self.found = found


def _decode_key(topic: str, raw: bytes) -> Any:
    """The key of a record; None for a kind that is not known."""
    if not raw.startswith(_KINDS):
        return None
    try:
        return _KEYS.decode(raw)
    except msgspec.MsgspecError as error:
        raise _unreadable(_where(topic, raw), error) from None


def _where(topic: str, key: bytes) -> str:
    return f"{topic} holds a record {key[:200].decode(errors='replace')}"


def _unreadable(where: str, error: Exception) -> StateError:
    return StateError(
        f"{where} that cannot be read: {error}",
        hint="a newer copystream may have written it: use that version",
    )


def _json(kind: type[Struct]) -> Callable[[bytes], Any]:
    decoder = msgspec.json.Decoder(kind)

    def read(raw: bytes) -> Any:
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError:
            _require_known(msgspec.json.decode(raw, type=_Format).format)
            raise

    return read


class _Format(Struct):
    format: int = FORMAT


def _marker(raw: bytes) -> int:
    found = msgspec.json.decode(raw, type=int)
    _require_known(found)
    return found


def _chunk(raw: bytes) -> Segments:
    if raw.startswith(CHUNK_MARK):
        _require_known(int.from_bytes(raw[len(CHUNK_MARK) : len(CHUNK_MARK) + 1]))
    return Segments.decode(raw)


def _require_known(found: int) -> None:
    if found > FORMAT:
        raise _NewerFormat(found)


_VALUES: dict[type[Key], Callable[[bytes], Any]] = {
    SessionKey: _json(Process),
    ClaimKey: _marker,
    ProducerKey: _json(ProducerIdentity),
    FillerKey: _marker,
    BindingKey: _json(Binding),
    EpochsKey: _json(Epochs),
    SplitKey: _json(SplitState),
    ChunkKey: _chunk,
}
_KEYS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    SessionKey | ClaimKey | ProducerKey | FillerKey | BindingKey | EpochsKey | SplitKey | ChunkKey
)
_KINDS = tuple(f'["{kind.__struct_config__.tag}"'.encode() for kind in _VALUES)
