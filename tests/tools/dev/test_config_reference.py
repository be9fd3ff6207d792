"""The configuration is a promise: a key that changes must change the reference."""

from config_reference import PAGE, page


def test_the_reference_is_current() -> None:
    assert PAGE.read_text() == page(), "docs/config.md is old; run: make docs"


def test_every_key_says_what_it_means() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row[0] for row in rows if row[-1].strip(" |") == ""] == []
