"""Messages of magic 0 and 1 that are damaged or lie: a named error, or what the oracle reads."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycore.codec import CodecError
from copycore.legacy import LegacyError, unwrap
from kit.oracle import legacy as legacy_oracle
from kit.oracle.legacy import APPEND_TIME, GZIP, LZ4, SNAPPY, Told, entry, sized, wrap, write
from kit.oracle.legacy_strategies import CODECS, LIMIT, TOP, seen, sets, whole_entries
from kit.oracle.wire_strategies import damaged, exact, i8

PLAIN = [write(Told(0, 7, None, b"key", b"value")), write(Told(1, 7, 99, None, b"value"), 8)]
MESSAGES = [write(Told(1, number, number, b"k", b"value" * number)) for number in range(3)]
SET = b"".join(MESSAGES)
WRAPPERS = [
    wrap(SET, codec, magic=magic, offset=8, timestamp=5, attributes=APPEND_TIME)
    for codec in CODECS
    for magic in (0, 1)
]


def refused(data: bytes, why: str, error: type[ValueError] = LegacyError) -> None:
    with pytest.raises(error, match=why):
        unwrap(exact(data), LIMIT)


def check(data: bytes) -> None:
    """What the oracle reads of it, or an error where it has one."""
    try:
        expected = legacy_oracle.read(data)
    except ValueError:
        refused(data, ".")
    else:
        assert seen(data) == expected


@pytest.mark.parametrize("data", PLAIN + WRAPPERS, ids=range(8))
def test_every_truncation(data: bytes) -> None:
    check(data)
    for size in range(len(data)):
        refused(data[:size], "a message ends early")


@pytest.mark.parametrize("data", PLAIN + WRAPPERS, ids=range(8))
def test_every_flipped_bit(data: bytes) -> None:
    """The CRC does not cover offset and length; it detects any other flipped bit."""
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        if bit // 8 < 8:
            check(bytes(flipped))
        elif bit // 8 < 12:
            refused(bytes(flipped), "ends early|impossible length|does not match its CRC")
        else:
            refused(bytes(flipped), "a message does not match its CRC")


@given(data=damaged(whole_entries))
def test_damage_in_several_places(data: bytes) -> None:
    check(data)


@given(data=st.binary(max_size=80), offset=st.integers(-5, 5))
def test_random_bytes(data: bytes, offset: int) -> None:
    check(data)
    check(entry(offset, data))


@given(magic=i8, attributes=st.integers(0, 0x7F), rest=st.binary(max_size=40))
def test_random_bytes_with_a_right_crc(magic: int, attributes: int, rest: bytes) -> None:
    check(entry(3, struct.pack(">bb", magic, attributes & 0x78) + rest))
    check(entry(3, struct.pack(">bb", magic & 1, attributes & 0x78) + rest))
    check(wrap(entry(3, struct.pack(">bb", magic & 1, attributes) + rest), GZIP, magic=1, offset=3))


def with_right_crcs(data: bytes) -> bytes:
    """Entries with their CRCs made right, as far as they can be told apart."""
    out, position = bytearray(data), 0
    while len(data) - position >= 16:
        (size,) = struct.unpack_from(">i", data, position + 8)
        end = position + 12 + size
        if size < 4 or end > len(data):
            break
        out[position + 12 : position + 16] = entry(0, data[position + 16 : end])[12:16]
        position = end
    return bytes(out)


@given(
    content=damaged(sets().map(lambda messages: b"".join(map(write, messages)))),
    codec=st.sampled_from(CODECS),
    magic=st.sampled_from([0, 1]),
    offset=st.sampled_from([0, 1, 5, TOP]),
    attributes=st.sampled_from([0, APPEND_TIME]),
)
def test_damage_in_a_set(
    content: bytes, codec: int, magic: int, offset: int, attributes: int
) -> None:
    """Each set is read as damaged, and once more with all CRCs made right."""
    for inner in (content, with_right_crcs(content)):
        check(wrap(inner, codec, magic=magic, offset=offset, timestamp=7, attributes=attributes))


@given(
    packed=damaged(st.sampled_from([legacy_oracle.compress(c, 1, SET) for c in CODECS])),
    codec=st.sampled_from(CODECS),
    magic=st.sampled_from([0, 1]),
)
def test_damage_in_compressed_bytes(packed: bytes, codec: int, magic: int) -> None:
    """The codec may or may not notice: the result is a named error, or messages at ascending
    offsets.
    """
    data = write(Told(magic, 2, 5 if magic else None, None, packed), codec)
    try:
        messages = seen(data)
    except (LegacyError, CodecError):
        return
    assert [offset for offset, *_ in messages] == sorted({offset for offset, *_ in messages})


def plain(magic: int, content: bytes) -> bytes:
    return entry(5, struct.pack(">bb", magic, 0) + bytes(8 * magic) + content)


LENGTHS: list[Callable[[int], bytes]] = [
    lambda n: struct.pack(">i", n) + sized(b"v"),
    lambda n: sized(b"k") + struct.pack(">i", n),
    lambda n: sized(None) + struct.pack(">i", n) + b"value",
]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("length", [-2, -(2**31), 6, 2**31 - 1])
@pytest.mark.parametrize("content", LENGTHS, ids=["key", "value", "value before bytes"])
def test_lengths_of_key_and_value(magic: int, length: int, content: Callable[[int], bytes]) -> None:
    bad = plain(magic, content(length))
    refused(bad, "^a message has a key and a value that do not fill it$")
    refused(wrap(PLAIN[1] + bad, GZIP, magic=1, offset=8), "^inner message 1 has a key and a value")


def test_bytes_after_the_value() -> None:
    refused(plain(1, sized(None) + sized(b"v") + b"\0"), "do not fill it")


@pytest.mark.parametrize("size", [-(2**31), -1, 0, 3, 13, 2**31 - 1])
def test_lengths_of_a_message(size: int) -> None:
    data = struct.pack(">qi", 5, size) + bytes(max(0, min(size, 100)))
    refused(data, "^a message (ends early or )?has an impossible length")
    refused(wrap(data, GZIP, magic=0, offset=5), "^inner message 0 (ends early or )?has an imposs")


def test_a_message_of_magic_1_too_short_for_its_time() -> None:
    refused(entry(5, b"\1\0" + sized(None) + sized(None)), "do not fill it")


@pytest.mark.parametrize("magic", [-128, -1, 2, 3, 127])
def test_other_magics(magic: int) -> None:
    bad = entry(5, struct.pack(">bb", magic, 0) + bytes(16))
    refused(bad, f"^a message has magic {magic}$")
    refused(wrap(bad, GZIP, magic=1, offset=5), f"^inner message 0 has magic {magic}$")


def test_more_than_one_entry() -> None:
    refused(PLAIN[0] + PLAIN[1], f"^{len(PLAIN[1])} bytes are left behind a message$")
    refused(WRAPPERS[0] + b"\0", "^1 bytes are left behind a message$")


@pytest.mark.parametrize("data", [PLAIN[0], PLAIN[1], WRAPPERS[0], WRAPPERS[1]], ids=range(4))
def test_a_negative_offset(data: bytes) -> None:
    refused(struct.pack(">q", -1) + data[8:], "^a message has offset -1$")
    refused(struct.pack(">q", -(2**63)) + data[8:], "^a message has offset -9223372036854775808$")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("magic", [0, 1])
def test_wrappers_within_wrappers(magic: int, codec: int) -> None:
    inner = wrap(SET, codec, magic=magic, offset=2)
    refused(wrap(PLAIN[0] + inner, GZIP, magic=magic, offset=2), "^inner message 1 is compressed")
    claimed = write(Told(magic, 8, 5 if magic else None, None, b"x"), 4)
    refused(wrap(PLAIN[0] + claimed, GZIP, magic=1, offset=8), "^inner message 1 is compressed")


@pytest.mark.parametrize(("codec", "name"), [(4, "zstd"), (5, "5"), (6, "6"), (7, "7")])
@pytest.mark.parametrize("magic", [0, 1])
def test_codecs_that_came_later(magic: int, codec: int, name: str) -> None:
    time = 5 if magic else None
    refused(write(Told(magic, 2, time, None, b"x"), codec), f"^a wrapper has codec {name}$")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("magic", [0, 1])
def test_wrappers_of_nothing(magic: int, codec: int) -> None:
    time = 5 if magic else None
    refused(write(Told(magic, 2, time, b"k", None), codec), "^a wrapper has no value$")
    refused(write(Told(magic, 2, time, None, b""), codec), "ends early", CodecError)
    if codec != SNAPPY:
        refused(wrap(b"", codec, magic=magic, offset=2), "^a wrapper holds no messages$")


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("offsets", [[-1], [0, 0], [1, 0], [0, 5, 4], [-(2**63), 0], [3, -3]])
def test_inner_offsets_that_do_not_ascend(magic: int, offsets: list[int]) -> None:
    content = b"".join(write(Told(magic, at, 5 if magic else None, None, b"v")) for at in offsets)
    for offset in (0, 9, TOP):
        refused(wrap(content, GZIP, magic=magic, offset=offset), r"has offset -?\d+ behind -?\d+$")


@pytest.mark.parametrize("magic", [0, 1])
def test_a_set_that_ends_within_a_message(magic: int) -> None:
    for number, message in enumerate(MESSAGES):
        whole = b"".join(MESSAGES[:number])
        for size in range(1, len(message)):
            data = wrap(whole + message[:size], GZIP, magic=magic, offset=2)
            refused(data, f"^inner message {number} ends early")


@pytest.mark.parametrize("crc", [0, 1, 0x80000000, 0xFFFFFFFF])
def test_special_crc_values_are_checked_like_any_other(crc: int) -> None:
    data = PLAIN[0][:12] + crc.to_bytes(4, "big") + PLAIN[0][16:]
    refused(data, "^a message does not match its CRC$")
    refused(wrap(data, GZIP, magic=0, offset=7), "^inner message 0 does not match its CRC$")


def test_a_set_with_a_wrong_crc() -> None:
    bad = bytearray(SET)
    bad[-1] ^= 1
    refused(wrap(bytes(bad), LZ4, magic=0, offset=2), "^inner message 2 does not match its CRC$")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("magic", [0, 1])
def test_more_than_the_limit(magic: int, codec: int) -> None:
    content = write(Told(1, 0, 5, None, bytes(100_000)))
    data = wrap(content, codec, magic=magic, offset=0)
    assert seen(data, limit=len(content)) == [(0, 5, None, bytes(100_000))]
    for limit in (len(content) - 1, 0):
        with pytest.raises(CodecError, match=f"more than {limit} bytes"):
            unwrap(exact(data), limit)


def test_the_broken_lz4_header_is_that_of_magic_0_alone() -> None:
    """KAFKA-3160 was fixed with magic 1: there a wrong header checksum is refused."""
    broken = legacy_oracle.compress(LZ4, 0, SET)
    assert len(seen(write(Told(0, 2, None, None, broken), LZ4))) == 3
    refused(write(Told(1, 2, 5, None, broken), LZ4), "lz4 data is damaged", CodecError)


def test_a_bomb() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    with pytest.raises(CodecError, match=f"more than {LIMIT} bytes"):
        unwrap(write(Told(1, 0, 5, None, bomb), GZIP), LIMIT)
