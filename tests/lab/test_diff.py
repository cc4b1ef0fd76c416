"""The classification used by the comparison: every kind of damage is named, and only damage."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.lab.diff import Difference, Print, classify


def prints(values: str | list[str]) -> list[Print]:
    return [
        Print(offset=index, timestamp=b"t" + v.encode(), key=b"k", value=v.encode(), headers=b"")
        for index, v in enumerate(values)
    ]


def changes(source: str | list[str], target: str | list[str]) -> list[Difference]:
    return classify(prints(source), prints(target), topic="a", target_topic="b", partition=3)


def summary(found: list[Difference]) -> list[tuple[str, int | None, int | None]]:
    return [(d.kind, d.source_offset, d.target_offset) for d in found]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("", "", []),
        ("abc", "abc", []),
        ("aabbaa", "aabbaa", []),
        ("abcd", "abd", [("missing", 2, None)]),
        ("abcd", "bcd", [("missing", 0, None)]),
        ("abcd", "abc", [("missing", 3, None)]),
        ("abcd", "", [("missing", i, None) for i in range(4)]),
        ("abcd", "abbcd", [("doubled", None, 2)]),
        ("abcd", "abcdab", [("doubled", None, 4), ("doubled", None, 5)]),
        ("aab", "aaab", [("doubled", None, 2)]),
        ("abcd", "acbd", [("reordered", 1, 2)]),
        ("abcdef", "defabc", [("reordered", 0, 3), ("reordered", 1, 4), ("reordered", 2, 5)]),
        ("", "x", [("foreign", None, 0)]),
    ],
)
def test_each_kind_of_damage_has_its_name_and_place(
    source: list[str], target: str, expected: list[tuple[str, int | None, int | None]]
) -> None:
    found = summary(changes(source, target))
    if expected and expected[0][0] == "reordered":
        # which of two swapped runs "moved" is arbitrary; how many had to is not
        assert [kind for kind, _, _ in found] == [kind for kind, _, _ in expected]
    else:
        assert found == expected


@pytest.mark.parametrize("field", ["timestamp", "key", "value", "headers"])
def test_an_altered_record_is_named_with_what_differs(field: str) -> None:
    source = prints("abcde")
    target = list(source)
    target[2] = Print(**(target[2]._asdict() | {field: b"other"}))
    (found,) = classify(source, target, topic="a", target_topic="b", partition=3)
    assert (found.kind, found.source_offset, found.target_offset) == ("altered", 2, 2)
    assert found.fields == (field,)
    assert str(found) == (
        f"altered: a -> b partition 3, source offset 2, target offset 2, differs in {field}"
    )


def test_a_foreign_record_in_the_place_of_a_lost_one_is_not_an_alteration() -> None:
    source = prints("abc")
    stranger = Print(offset=1, timestamp=b"?", key=b"?", value=b"?", headers=b"?")
    target = [source[0], stranger, source[2]]
    found = classify(source, target, topic="a", target_topic="a", partition=0)
    assert sorted(d.kind for d in found) == ["foreign", "missing"]


def test_a_window_that_was_cut_leaves_its_tail_undecided() -> None:
    source, target = prints("abcdefgh"), prints("abdef")
    found = classify(source, target, topic="a", target_topic="a", partition=0, whole=False)
    assert summary(found) == [("missing", 2, None)]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.data())
def test_counts_explain_the_change_of_every_record(source: list[str], data: st.DataObject) -> None:
    target = data.draw(st.permutations(source))[: data.draw(st.integers(0, len(source)))]
    target += data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=5))
    kinds = Counter(d.kind for d in changes(source, target))
    lost = Counter(source) - Counter(target)
    gained = Counter(target) - Counter(source)
    assert (not kinds) == (source == target)
    assert kinds["missing"] + kinds["altered"] == lost.total()
    assert kinds["doubled"] + kinds["foreign"] + kinds["altered"] == gained.total()


@given(st.lists(st.integers(), unique=True, min_size=2, max_size=40), st.data())
def test_one_moved_record_is_one_reordered_record(numbers: list[int], data: st.DataObject) -> None:
    names = [str(n) for n in numbers]
    here = data.draw(st.integers(0, len(names) - 1))
    there = data.draw(st.integers(0, len(names) - 1).filter(lambda i: i != here))
    moved = names[:here] + names[here + 1 :]
    moved.insert(there, names[here])
    assert [d.kind for d in changes(names, moved)] == ["reordered"]
