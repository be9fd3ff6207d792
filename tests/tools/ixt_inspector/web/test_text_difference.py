"""The difference of two texts: complete, by words, and in bounded time."""

import random
import time

import pytest

from ixt_inspector.web.text_difference import MAX_CHARS, DifferencePart, compare_texts


def test_changed_words_are_marked_on_both_sides() -> None:
    found = compare_texts("The fox is brown. It jumps.", "The fox is  red. It jumps high.")
    assert [part.text for part in found.before if part.is_changed] == ["brown"]
    assert [part.text for part in found.after if part.is_changed] == ["red", "high"]
    assert not found.is_same
    assert compare_texts("a b", "a\n b").is_same
    assert compare_texts("", "").before == []
    assert compare_texts("", "x").after == [DifferencePart("x", True)]


def test_characters_of_texts_without_spaces_are_words() -> None:
    found = compare_texts("\u732b\u304c\u597d\u304d", "\u72ac\u304c\u597d\u304d")
    assert [part.text for part in found.before if part.is_changed] == ["\u732b"]


@pytest.mark.parametrize("vocabulary", [2, 40, 3000])
def test_parts_are_the_texts_and_time_is_bounded(vocabulary: int) -> None:
    chooser = random.Random(vocabulary)
    starts = ("w", "words", "of")
    words = [f"{chooser.choice(starts)}{chooser.randrange(vocabulary)}" for _ in range(30_000)]
    other = list(words)
    for _ in range(200):
        other[chooser.randrange(len(other))] = "new. "
    shuffled = chooser.sample(words, len(words))
    for changed in (other, shuffled):
        one, two = " ".join(words), " ".join(changed)
        start = time.perf_counter()
        found = compare_texts(one, two)
        assert time.perf_counter() - start < 10
        assert "".join(part.text for part in found.before) == one[:MAX_CHARS]
        assert "".join(part.text for part in found.after) == two[:MAX_CHARS]
        assert found.is_cut is (len(one) > MAX_CHARS or len(two) > MAX_CHARS)
