"""Names in messages."""

from ixt_inspector.web.text import MAX_NAME_CHARS, MAX_NAMES, list_names


def test_long_names_and_long_lists_are_cut() -> None:
    assert list_names([]) == "none"
    assert list_names(["a", "b"]) == "a, b"
    names = ["x" * 1000, *(f"n{number}" for number in range(999))]
    listed = list_names(names)
    assert listed.startswith("x" * MAX_NAME_CHARS + "…, n0")
    assert listed.endswith(f"n{MAX_NAMES - 2} and {1000 - MAX_NAMES} more")
