"""lz4 frames made from the matches of older frames: whatever those say, the content is right."""

from __future__ import annotations

import random

import lz4.frame
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.codec import CodecError
from copycore.retrace import retraced
from kit.oracle import packed
from kit.oracle.retraced import (
    BLOCK,
    FRAMES,
    FRONTS,
    Rewrite,
    any_bytes,
    any_rewrite,
    best,
    check,
    damaged,
    records,
    rewrite,
    source,
)
from kit.oracle.wire_strategies import exact

seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("form", FRAMES)
@given(seed=seeds)
def test_the_content_is_the_new_one(form: str, seed: int) -> None:
    rng = random.Random(seed)
    made, content = [], b""
    for _ in range(rng.randrange(4)):
        content += any_bytes(rng, rng.choice([0, 0, 7, BLOCK]))  # from no source
        one = any_rewrite(rng)
        made.append(source(FRAMES[form](one.old, rng), one, len(content)))
        content += one.new
    content += any_bytes(rng, rng.choice([0, 0, 7, BLOCK]))
    check(retraced(exact(content), made), content)


@given(seed=seeds)
def test_wrong_places_cost_size_only(seed: int) -> None:
    rng = random.Random(seed)
    one = any_rewrite(rng)
    content = one.new if rng.random() < 0.5 else any_bytes(rng, rng.randrange(3 * BLOCK))
    old_size = rng.choice([len(one.old), rng.randrange(len(one.old) + 2), 3 * BLOCK])
    olds = sorted(rng.randrange(old_size + 1) for _ in range(20))
    news = sorted(rng.randrange(len(content) + 1) for _ in range(20))
    frame = packed.forms(one.old)["lz4"][1]
    end = rng.randrange(news[-1], len(content) + 1)
    places = list(zip(olds, news, strict=True))
    found = retraced(exact(content), [(exact(frame), old_size, 0, end, places)])
    check(found, content)


@given(seed=seeds)
@example(0)
def test_damaged_frames_are_refused_or_cost_size_only(seed: int) -> None:
    rng = random.Random(seed)
    one = any_rewrite(rng)
    form = rng.choice(list(FRAMES))
    frame = damaged(FRAMES[form](one.old, rng), rng)
    try:
        found = retraced(exact(one.new), [source(frame, one)])
    except CodecError:
        return
    check(found, one.new)


def test_every_byte_that_changes() -> None:
    """The byte may be in literals, in a match or its source, or at the end of a block."""
    text = packed.text(700)
    frame = best(text)
    for at in range(len(text)):
        changed = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        check(retraced(exact(changed), [source(frame, Rewrite(text, changed, []))]), changed)


@pytest.mark.parametrize("growth", [-3, -1, 1, 3])
def test_every_place_that_moves(growth: int) -> None:
    text = packed.text(700)
    frame = best(text)
    for at in range(len(text) - 3):
        behind = at + max(0, -growth)
        moved = text[:at] + b"!" * max(0, growth) + text[behind:]
        places = [(behind, at + max(0, growth))]
        check(retraced(exact(moved), [source(frame, Rewrite(text, moved, places))]), moved)


@pytest.mark.parametrize("name", ["same", "longer"])
def test_blocks_that_break_off(name: str) -> None:
    """At every byte, in runs of matches that stay as they are."""
    one = records(FRONTS[name], 12)
    frame = best(one.old)
    block = frame[11:-4]
    for size in range(1, len(block)):
        cut = frame[:7] + size.to_bytes(4, "little") + block[:size] + bytes(4)
        check(retraced(exact(one.new), [source(cut, one)]), one.new)


# --- that it does follow --------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [False, True], ids=["", "checksum"])
@pytest.mark.parametrize("block_size", [4, 5, 7])
@pytest.mark.parametrize("name", FRONTS)
def test_matches_are_kept(name: str, block_size: int, checksum: bool) -> None:
    """The old frame was compressed with far more effort, so the new one is smaller than one made
    anew.
    """
    one = records(FRONTS[name])
    frame = best(one.old, block_size, checksum)
    found = check(retraced(exact(one.new), [source(frame, one)]), one.new)
    assert len(found) < 1.03 * len(frame)
    assert len(found) < 0.9 * len(lz4.frame.compress(one.new, block_linked=False))


@pytest.mark.parametrize("form", ["lz4-linked", "flushed", "lz4"])
def test_without_matches_it_is_compressed_as_usual(form: str) -> None:
    """Linked blocks, blocks that are not full, and content without any known places."""
    one = records(FRONTS["longer"])
    if form == "lz4":
        one = one._replace(places=[])
    frame = FRAMES[form](one.old, random.Random(1))
    found = check(retraced(exact(one.new), [source(frame, one)]), one.new)
    usual = lz4.frame.compress(one.new, block_linked=False)
    assert len(found) < 1.02 * max(len(usual), len(frame))


def test_sources_follow_one_another() -> None:
    one, other = records(FRONTS["changed"], 300), records(FRONTS["longer"], 500)
    frames = best(one.old), best(other.old)
    between = b"from no source"
    content = one.new + between + other.new
    made = [source(frames[0], one), source(frames[1], other, len(one.new + between))]
    found = check(retraced(exact(content), made), content)
    assert len(found) < 1.03 * sum(map(len, frames))


def test_a_match_goes_on_after_a_byte_that_changed() -> None:
    """One match that reaches over all records, whose fronts differ now."""
    one = rewrite([(b"front", b"fro%ct" % (n % 250), b"the same body") for n in range(3000)])
    found = check(retraced(exact(one.new), [source(best(one.old), one)]), one.new)
    assert len(found) < len(one.new) // 3


@pytest.mark.parametrize(("name", "block_id"), [("same", 4), ("shorter", 4), ("longer", 5)])
def test_blocks_that_grow_make_it_a_frame_of_larger_ones(name: str, block_id: int) -> None:
    one = records(FRONTS[name])
    found = retraced(exact(one.new), [source(packed.forms(one.old)["lz4"][1], one)])
    assert found[5] >> 4 == block_id


def test_a_block_of_the_largest_size_that_grows_is_compressed_anew() -> None:
    one = rewrite([(b"a", b"ab", packed.text(100, n)) for n in range(42_000)])
    assert len(one.old) > 4 << 20
    check(retraced(exact(one.new), [source(best(one.old, 7), one)]), one.new)


def test_what_does_not_shrink_is_stored() -> None:
    rng = random.Random(5)
    one = rewrite([(b"a", b"b", rng.randbytes(1000)) for _ in range(200)])
    found = check(retraced(exact(one.new), [source(best(one.old), one)]), one.new)
    assert len(found) <= len(one.new) + 40


def test_a_block_that_is_larger_than_what_it_holds() -> None:
    """The block has only literals: brokers refuse such a block of full size unless it is stored."""
    data = random.Random(6).randbytes(BLOCK)
    block = b"\xf0" + b"\xff" * ((BLOCK - 15) // 255) + bytes([(BLOCK - 15) % 255]) + data
    frame = best(b"")[:7] + len(block).to_bytes(4, "little") + block + bytes(4)
    found = check(retraced(data, [source(frame, Rewrite(data, data, []))]), data)
    assert len(found) == 7 + 4 + BLOCK + 4


@pytest.mark.parametrize(
    "sources",
    [
        [(0, 5, [])],
        [(0, 4, [(3, 1), (2, 2)])],
        [(0, 4, [(1, 3), (2, 2)])],
        [(0, 4, [(4, 1)])],
        [(0, 4, [(1, 5)])],
        [(3, 2, [])],
        [(0, 3, []), (2, 4, [])],
    ],
    ids=str,
)
def test_places_have_to_be_in_order(sources: list[tuple[int, int, list[tuple[int, int]]]]) -> None:
    frame = best(b"old")
    with pytest.raises(ValueError, match="out of order"):
        retraced(b"new!", [(frame, 3, *one) for one in sources])


def test_no_frame_at_all() -> None:
    for frame in (b"", b"no frame", best(b"x" * 100)[:-5]):
        with pytest.raises(CodecError):
            retraced(b"new", [(frame, 3, 0, 3, [])])
    assert lz4.frame.decompress(retraced(b"", [])) == b""
