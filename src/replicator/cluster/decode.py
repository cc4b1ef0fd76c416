"""Kafka control-plane answers, decoded into kio's schema classes under our own checks.

kio supplies the schemas; its reader is not used, because it trusts the broker: an array length
of 2^32 makes it allocate 32 GiB and abort the process, a tagged field it does not know (legal:
KIP-482) is an error to it, and so is an error code newer than its table.

Here every length is checked against the bytes that are left before anything is allocated,
unknown tagged fields are skipped, and unknown error codes stay plain integers.

Wire grammar: the Kafka protocol guide, "Protocol Primitive Types"; non-flexible versions use
INT16/INT32 lengths, flexible ones unsigned varints of length + 1.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin

from copycore.cursor import Cursor

E = TypeVar("E")
Read = Callable[[Cursor], Any]

_EPOCH = datetime.fromtimestamp(0, UTC)
_NO_UUID = uuid.UUID(int=0)


class DecodeError(ValueError):
    """The bytes are not a message of the expected schema."""


def decode_response(entity: type[E], frame: bytes | bytearray | memoryview) -> E:
    """Decode a response frame, from its correlation id to its last byte.

    The header that comes first is the one ``entity`` names (flexible or not).
    Raises DecodeError when the bytes end early, go on afterwards, or break the schema.
    """
    cursor = Cursor(frame)
    try:
        _reader(cast(Any, entity).__header_schema__)(cursor)
        value = _reader(cast(Any, entity))(cursor)
    except DecodeError:
        raise
    except ValueError as error:  # the cursor's
        raise DecodeError(str(error)) from error
    if cursor.remaining:
        raise DecodeError(f"{cursor.remaining} bytes left over after {entity.__name__}")
    return cast(E, value)


_FLOAT64 = struct.Struct(">d")


def _error_code(cursor: Cursor) -> int:
    from kio.schema.errors import ErrorCode  # noqa: PLC0415 - see the package's note on imports

    code = cursor.i16()
    try:
        return ErrorCode(code)
    except ValueError:
        return code


def _uuid(cursor: Cursor) -> uuid.UUID | None:
    value = uuid.UUID(bytes=cursor.take(16))
    return None if value == _NO_UUID else value


def _milliseconds(number: Callable[[Cursor], int]) -> Read:
    def read(cursor: Cursor) -> timedelta:
        value = number(cursor)
        try:
            return timedelta(milliseconds=value)
        except OverflowError as error:
            raise DecodeError("a duration is out of range") from error

    return read


def _timestamp(cursor: Cursor) -> datetime | None:
    value = cursor.i64()
    if value == -1:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError as error:
        raise DecodeError(f"timestamp {value} is out of range") from error


_FIXED: dict[str, tuple[int, Read]] = {
    "int8": (1, Cursor.i8),
    "int16": (2, Cursor.i16),
    "int32": (4, Cursor.i32),
    "int64": (8, Cursor.i64),
    "uint16": (2, lambda cursor: cursor.i16() & 0xFFFF),
    "float64": (8, lambda cursor: _FLOAT64.unpack(cursor.take(8))[0]),
    "bool": (1, lambda cursor: cursor.take(1)[0] != 0),
    "error_code": (2, _error_code),
    "uuid": (16, _uuid),
    "timedelta_i32": (4, _milliseconds(Cursor.i32)),
    "timedelta_i64": (8, _milliseconds(Cursor.i64)),
    "datetime_i64": (8, _timestamp),
}


def _sized(kind: str, flexible: bool, optional: bool) -> tuple[int, Read]:
    """Reader of a string or of bytes, and the fewest bytes it can take."""
    text = kind == "string"
    length, width = (Cursor.i16, 2) if text else (Cursor.i32, 4)

    def read(cursor: Cursor) -> str | bytes | None:
        size = cursor.uvarint() - 1 if flexible else length(cursor)
        if size == -1:
            if optional:
                return None
            raise DecodeError(f"null where a {kind} is required, before byte {cursor.position}")
        raw = cursor.take(size)
        if not text:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"text is not UTF-8 before byte {cursor.position}") from error

    return 1 if flexible else width, read


def _array(item: Read, smallest: int, flexible: bool, optional: bool) -> Read:
    def read(cursor: Cursor) -> tuple[object, ...] | None:
        count = cursor.uvarint() - 1 if flexible else cursor.i32()
        if count == -1:
            if optional:
                return None
            raise DecodeError(f"null where an array is required, before byte {cursor.position}")
        if count < 0 or count * smallest > cursor.remaining:
            raise DecodeError(
                f"an array claims {count} elements before byte {cursor.position}, "
                f"{cursor.remaining} bytes left"
            )
        return tuple([item(cursor) for _ in range(count)])

    return read


def _nullable(read: Read) -> Read:
    return lambda cursor: None if cursor.take(1)[0] == 0xFF else read(cursor)


def _strip_optional(annotation: Any) -> tuple[Any, bool]:
    arguments = get_args(annotation)
    if NoneType in arguments:
        return next(a for a in arguments if a is not NoneType), True
    return annotation, False


def _field(field: Field[Any], flexible: bool) -> tuple[int, Read]:
    """Reader of one field, and the fewest bytes it can take."""
    annotation, optional = _strip_optional(field.type)
    is_array = get_origin(annotation) is tuple
    if is_array:
        annotation, inner_optional = _strip_optional(get_args(annotation)[0])
    else:
        inner_optional = optional
    if is_dataclass(annotation):
        entity: Any = annotation
        smallest, read = _smallest(entity), _reader(entity)
        if inner_optional:  # KIP-893: nullable structs start with a marker byte
            smallest, read = 1, _nullable(read)
    else:
        kind = field.metadata["kafka_type"]
        smallest, read = _FIXED.get(kind) or _sized(kind, flexible, inner_optional)
    if is_array:
        return (1 if flexible else 4), _array(read, smallest, flexible, optional)
    return smallest, read


def _plain_fields(entity: Any) -> list[Field[Any]]:
    return [field for field in fields(entity) if "tag" not in field.metadata]


@cache
def _smallest(entity: Any) -> int:
    flexible: bool = entity.__flexible__
    sizes = [_field(field, flexible)[0] for field in _plain_fields(entity)]
    return sum(sizes) + (1 if flexible else 0)


@cache
def _reader(entity: Any) -> Read:
    flexible: bool = entity.__flexible__
    plain = [(field.name, _field(field, flexible)[1]) for field in _plain_fields(entity)]
    tagged: dict[int, tuple[str, Read]] = {}
    for field in fields(entity):
        if "tag" in field.metadata:
            if field.default is MISSING:
                raise TypeError(f"{entity.__name__}.{field.name}: tagged field without default")
            tagged[field.metadata["tag"]] = (field.name, _field(field, flexible)[1])

    def read(cursor: Cursor) -> object:
        values = {name: read_field(cursor) for name, read_field in plain}
        if flexible:
            for _ in range(cursor.uvarint()):
                tag = cursor.uvarint()
                content = Cursor(cursor.take(cursor.uvarint()))
                known = tagged.get(tag)
                if known is not None:
                    name, read_field = known
                    values[name] = read_field(content)
        return entity(**values)

    return read
