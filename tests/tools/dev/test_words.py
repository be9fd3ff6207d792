"""The check of words finds them in prose and in identifiers, and spares plain words."""

import pytest
from words import findings


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The store lets old versions go.", "lets old versions go"),
        ("told_text = 1", "told"),
        ("self._begun.append(x)", "begun"),
        ("x is no run folder", "is no run"),
        ("meta/<table>/<lane>/", "lane"),
        ("A run goes on where it stopped.", "goes on"),
        ("PATIENCE = 3", "PATIENCE"),
        ("bake_mix()", "bake"),
        ("Somebody must.", "Somebody"),
    ],
)
def test_a_former_word_is_found(text: str, word: str) -> None:
    assert [found[1] for found in findings(text)] == [word]


@pytest.mark.parametrize(
    "text",
    [
        "it is no longer needed",
        "the plane landed",
        "planes, amended, recommend, tamed",
        'key = "lanes"  # words: keep, it enters the digest',
    ],
)
def test_plain_words_are_spared(text: str) -> None:
    assert list(findings(text)) == []


def test_a_finding_names_line_and_replacement() -> None:
    assert list(findings("one\ntwo lanes\n")) == [(2, "lanes", "partition; node")]
