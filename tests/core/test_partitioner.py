"""Partitioners: known values from Kafka's and librdkafka's tests, peers, slow oracles, the
spread.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections import Counter
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from copycore.partitioner import KINDS, choose_all, hash_key

KEEP, MURMUR2, CONSISTENT, FNV1A, MODULO = range(5)
HASHING = [MURMUR2, CONSISTENT, FNV1A]
RUN = 1024  # consecutive keyless records of one partition

counts = st.integers(1, 2**31 - 1) | st.integers(1, 50)
sources = st.integers(0, 2**31 - 1) | st.integers(0, 50)
numbers = st.integers(0, 2**64 - 1) | st.integers(0, 100 * RUN)
keys = st.binary(max_size=40)


def choose(kind: int, key: bytes | None, partitions: int, source: int = 0, number: int = 0) -> int:
    (partition,) = choose_all(kind, [key], array("Q", [number]), source, partitions)
    return partition


def test_kinds() -> None:
    assert KINDS == ("keep", "murmur2", "consistent", "fnv1a", "modulo")


# org.apache.kafka.common.utils.UtilsTest.testMurmur2 (Java's int is signed).
KAFKAS_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
# librdkafka's unittest_fnv1a, taken from Go by its author.
UNALIGNED = b"PreAmbleWillBeRemoved,ThePrePartThatIs"
LIBRDKAFKAS_FNV1A = {
    b"kafka": 0xD33C4E1,
    b"giberish123456789": 0x77A58295,
    b"1234": 0x23BDD03,
    b"234": 0x2DEA3CD2,
    b"34": 0x740FA83E,
    b"4": 0x310CA263,
    UNALIGNED: 0x65CBD69C,
    UNALIGNED[1:]: 0x6E49C79A,
    UNALIGNED[2:]: 0x69EED356,
    UNALIGNED[3:]: 0x6ABCC023,
    b"": 0x7EE3623B,
}
# librdkafka's unittest_murmur2, from Java.
LIBRDKAFKAS_MURMUR2 = {
    b"kafka": 0xD067CF64,
    b"giberish123456789": 0x8F552B0C,
    b"1234": 0x9FC97B14,
    b"234": 0xE7C009CA,
    b"34": 0x873930DA,
    b"4": 0x5A4B5CA1,
    UNALIGNED: 0x78424F1C,
    UNALIGNED[1:]: 0x4A62B377,
    UNALIGNED[2:]: 0xE0E4E09E,
    UNALIGNED[3:]: 0x62B8B43F,
    b"": 0x106E08D9,
}


@pytest.mark.parametrize(("key", "value"), KAFKAS_MURMUR2.items())
def test_murmur2_of_kafkas_tests(key: bytes, value: int) -> None:
    assert hash_key(MURMUR2, key) == value & 0xFFFFFFFF


@pytest.mark.parametrize("key", LIBRDKAFKAS_MURMUR2)
def test_hashes_of_librdkafkas_tests(key: bytes) -> None:
    assert hash_key(MURMUR2, key) == LIBRDKAFKAS_MURMUR2[key]
    assert hash_key(FNV1A, key) == LIBRDKAFKAS_FNV1A[key]


def unsigned_fnv1a(key: bytes) -> int:
    value = 0x811C9DC5
    for byte in key:
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def slow_fnv1a(key: bytes) -> int:
    value = unsigned_fnv1a(key)
    return abs(value - 2**32 if value >= 2**31 else value)


@example(key=b"")
@given(key=st.binary(max_size=300))
def test_hashes_equal_their_peers(key: bytes) -> None:
    assert hash_key(MURMUR2, key) == murmur2(key) & 0xFFFFFFFF
    assert hash_key(CONSISTENT, key) == zlib.crc32(key)
    assert hash_key(FNV1A, key) == slow_fnv1a(key)


@given(key=keys, partitions=counts, source=sources, number=numbers)
def test_a_key_alone_decides(key: bytes, partitions: int, source: int, number: int) -> None:
    expected = {
        MURMUR2: (murmur2(key) & 0x7FFFFFFF) % partitions,
        CONSISTENT: zlib.crc32(key) % partitions,
        FNV1A: slow_fnv1a(key) % partitions,
    }
    for kind, partition in expected.items():
        assert choose(kind, key, partitions, source, number) == partition


def test_the_sign_of_fnv1a() -> None:
    """Half of all hashes are negative numbers; −2^31 is its own opposite as an int32."""
    every = [b"%d" % n for n in range(100)]
    negative = [key for key in every if unsigned_fnv1a(key) >= 2**31]
    assert 20 < len(negative) < 80
    for key in negative:
        assert hash_key(FNV1A, key) == 2**32 - unsigned_fnv1a(key)
    assert unsigned_fnv1a(b"upld1pi") == hash_key(FNV1A, b"upld1pi") == 2**31
    assert choose(FNV1A, b"upld1pi", 7) == 2**31 % 7


@given(key=st.none() | keys, partitions=counts, source=sources, number=numbers)
def test_the_source_partition_alone_decides(
    key: bytes | None, partitions: int, source: int, number: int
) -> None:
    assert choose(KEEP, key, partitions, source, number) == source
    assert choose(MODULO, key, partitions, source, number) == source % partitions


# --- Without a key --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HASHING)
@given(partitions=counts, source=sources, number=numbers)
def test_keyless_records_go_by_their_place_in_the_source(
    kind: int, partitions: int, source: int, number: int
) -> None:
    chosen = choose(kind, None, partitions, source, number)
    assert chosen == (source + number // RUN) % partitions
    run = number - number % RUN
    alike = {choose(kind, None, partitions, source, n) for n in (run, number, run + RUN - 1)}
    assert alike == {chosen}


@pytest.mark.parametrize("partitions", [1, 3, 12, 16])
def test_keyless_records_are_spread_in_large_runs(partitions: int) -> None:
    total = 10 * partitions * RUN
    for source in range(5):
        chosen = choose_all(MURMUR2, [None] * total, array("Q", range(total)), source, partitions)
        assert set(Counter(chosen).values()) == {total // partitions}
        if partitions > 1:
            assert {len(list(run)) for _, run in groupby(chosen)} == {RUN}
    first = {choose(MURMUR2, None, partitions, source) for source in range(partitions)}
    assert first == set(range(partitions)), "source partitions begin apart"


def test_keyed_records_are_spread() -> None:
    for kind in HASHING:
        chosen = Counter(choose(kind, b"key %d" % n, 16) for n in range(16_000))
        assert set(chosen) == set(range(16))
        assert all(700 < count < 1300 for count in chosen.values()), kind


# --- A batch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(5))
@given(batch=st.lists(st.tuples(st.none() | keys, numbers), max_size=20), partitions=counts)
def test_a_batch_is_its_records(
    kind: int, batch: list[tuple[bytes | None, int]], partitions: int
) -> None:
    chosen = choose_all(
        kind, [key for key, _ in batch], array("Q", [n for _, n in batch]), 3, partitions
    )
    assert (type(chosen), chosen.typecode) == (array, "i")
    assert chosen.tolist() == [choose(kind, key, partitions, 3, n) for key, n in batch]


def test_long_keys() -> None:
    for size in range(1000, 1010):
        key = random.Random(size).randbytes(size)
        assert hash_key(MURMUR2, key) == murmur2(key) & 0xFFFFFFFF
        assert hash_key(CONSISTENT, key) == zlib.crc32(key)


def test_what_cannot_be_is_refused() -> None:
    one = array("Q", [0])
    for kind in (-1, 5):
        with pytest.raises(ValueError, match="not known"):
            choose_all(kind, [b"k"], one, 0, 1)
    for kind in (KEEP, MODULO, 5):
        with pytest.raises(ValueError, match="does not hash"):
            hash_key(kind, b"k")
    with pytest.raises(ValueError, match="as many"):
        choose_all(MURMUR2, [b"k", b"l"], one, 0, 1)
    for source, partitions in ((-1, 1), (0, 0), (0, -5)):
        with pytest.raises(ValueError, match="partition"):
            choose_all(MURMUR2, [b"k"], one, source, partitions)
    with pytest.raises(TypeError):
        choose_all(MURMUR2, ["text"], one, 0, 1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"dtype|format|Buffer"):
        choose_all(MURMUR2, [b"k"], array("q", [0]), 0, 1)
