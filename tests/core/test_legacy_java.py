"""Messages of magic 0 and 1 against Kafka's own record classes, whole and damaged.

They define what such an entry holds: it is what a consumer of the source gets.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycore.codec import CodecError
from copycore.legacy import LegacyError, unwrap
from kit.oracle.java_peer import JavaPeer
from kit.oracle.legacy import APPEND_TIME, GZIP, LZ4, SNAPPY, Seen, Told, entry, wrap, write
from kit.oracle.legacy_strategies import LIMIT, TOP, seen

pytestmark = pytest.mark.timeout(180)

# Java ignores these, ``unwrap`` refuses them.
STRICTER = ("do not fill it", "ends early", "has magic", "has offset")


class JavaLegacy(JavaPeer):
    """Writes and reads messages as Kafka 3 does."""

    def __init__(self, config_dir: Path) -> None:
        super().__init__("JavaLegacy.java", config_dir)

    def _text(self, text: str) -> str | None:
        answer = self.ask(struct.pack(">H", len(text)) + text.encode())
        return None if answer is None else answer.decode()

    def write(self, magic: int, codec: int, append_time: int, base: int, messages: Seen) -> bytes:
        """A set; ``append_time`` is −1 where the topic keeps the producer's time."""

        def content(data: bytes | None) -> str:
            return "-" if data is None else data.hex()

        listed = ";".join(
            f"{offset},{time},{content(key)},{content(value)}"
            for offset, time, key, value in messages
        )
        written = self._text(f"w {magic} {codec} {append_time} {base} {listed}")
        assert written is not None
        return bytes.fromhex(written)

    def read(self, data: bytes) -> Seen | None:
        """None where Java refuses."""

        def content(text: str) -> bytes | None:
            return None if text == "-" else bytes.fromhex(text)

        answer = self._text(f"r {data.hex()}")
        if answer is None:
            return None
        messages = [message.split(",") for message in answer.split(";") if message]
        return [(int(m[0]), int(m[1]), content(m[2]), content(m[3])) for m in messages]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaLegacy]:
    with JavaLegacy(tmp_path_factory.mktemp("java")) as peer:
        yield peer


def agree(java: JavaLegacy, data: bytes) -> bool:
    """Whether both read ``data``, with the same result. If not, both refuse it, or a stricter rule
    does.
    """
    theirs = java.read(data)
    try:
        ours = seen(data)
    except (LegacyError, CodecError) as error:
        assert theirs is None or any(why in str(error) for why in STRICTER), f"{error}: {theirs}"
        return False
    assert theirs == ours
    return True


@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY, LZ4])
@pytest.mark.parametrize(("magic", "append_time"), [(0, -1), (1, -1), (1, 777)])
def test_what_java_writes(java: JavaLegacy, magic: int, append_time: int, codec: int) -> None:
    dice = random.Random(f"{magic} {append_time} {codec}")
    for base in (0, 1000, TOP - 200):
        messages: Seen = []
        for number in range(1 if codec == 0 else 100):
            key, value = (
                dice.choice([None, b"", dice.randbytes(dice.randrange(60))]) for _ in "kv"
            )
            messages.append((base + number, dice.randrange(2**40), key, value))
        data = java.write(magic, codec, append_time, base, messages)
        time = append_time if append_time >= 0 else -1 if magic == 0 else None
        expected = [(at, own if time is None else time, k, v) for at, own, k, v in messages]
        assert seen(data) == java.read(data) == expected


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4])
@pytest.mark.parametrize("inner", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1)])
@pytest.mark.parametrize("magic", [0, 1])
def test_the_same_rules(java: JavaLegacy, magic: int, inner: tuple[int, ...], codec: int) -> None:
    """Whether the wrapper's or the message's offset and time count, in sets of one magic or both,
    dense and with gaps.
    """
    for offsets in ((0, 1, 2), (0, 2, 9), (5, 6, 7), (1000, 1001, 5000), (TOP - 2, TOP - 1, TOP)):
        content = b"".join(
            write(Told(m, at, 10 + at % 9 if m else None, b"k%d" % at, None))
            for m, at in zip(inner, offsets, strict=True)
        )
        for offset in (0, offsets[-1] - 1, offsets[-1], TOP):
            for attributes in (0, APPEND_TIME):
                data = wrap(
                    content, codec, magic=magic, offset=offset, timestamp=7, attributes=attributes
                )
                behind = magic == 1 and 0 < offset < offsets[-1]
                assert agree(java, data) == (not behind)


@pytest.mark.parametrize("magic", [0, 1])
def test_damage_that_both_notice(java: JavaLegacy, magic: int) -> None:
    time = 5 if magic else None
    plain = write(Told(magic, 3, time, b"key", b"value"))
    wrapped = wrap(plain, LZ4, magic=magic, offset=3)
    for data in (plain, wrapped):
        assert agree(java, data)
        for bit in range(8 * 12, 8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            assert not agree(java, bytes(flipped))


@pytest.mark.parametrize("magic", [0, 1])
def test_lies_with_right_crcs(java: JavaLegacy, magic: int) -> None:
    """Every byte of a message within a set replaced, its CRC made right again."""
    dice = random.Random(magic)
    time = 5 if magic else None
    before, told = (write(Told(magic, at, time, b"k", b"value")) for at in (0, 1))
    read = 0
    for position in [*range(12), *range(16, len(told))]:
        for value in (0, 1, 2, 5, 0x7F, 0x80, 0xFF, dice.randrange(256)):
            changed = told[:position] + bytes([value]) + told[position + 1 :]
            checked = entry(0, changed[16:])[12:16]
            lie = before + changed[:12] + checked + changed[16:]
            for offset in (0, 1, 1000):
                read += agree(java, wrap(lie, GZIP, magic=magic, offset=offset))
    assert read > 100


@pytest.mark.parametrize("magic", [0, 1])
def test_what_no_wrapper_may_be(java: JavaLegacy, magic: int) -> None:
    time = 5 if magic else None
    plain = write(Told(magic, 3, time, b"key", b"value"))
    nested = wrap(wrap(plain, GZIP, magic=magic, offset=3), GZIP, magic=magic, offset=3)
    for data in (
        nested,
        wrap(b"", GZIP, magic=magic, offset=3),
        write(Told(magic, 3, time, None, None), GZIP),
        *(write(Told(magic, 3, time, None, b"value"), codec) for codec in range(1, 8)),
    ):
        assert java.read(data) is None
        with pytest.raises((LegacyError, CodecError)):
            unwrap(data, LIMIT)
