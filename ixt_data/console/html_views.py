"""HTML for notebooks: tables, and a text beside its critiques. Every value is escaped."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ixt_data.console.tables import cell_text

NOTEBOOK_TEXT = 20_000
"""Characters of a text that a notebook shows; a longer one ends with its length."""


def html_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as a table; nested values as DuckDB prints them."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell_text(value))}</td>' for value in row)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_title(text: str) -> str:
    """Return a line in bold."""
    return f"<p><b>{html.escape(text)}</b></p>"


def html_text(text: str, marks: Iterable[tuple[int, int, str]] = ()) -> str:
    """Return a text with its line ends; stretches of it are marked and have a comment.

    Args:
        text: the text; at most `NOTEBOOK_TEXT` characters of it are shown.
        marks: start and end of each stretch in characters, and its comment; one that overlaps the
            one before it is left out.
    """
    shown, parts, position = text[:NOTEBOOK_TEXT], [], 0
    for start, end, comment in sorted(marks):
        if position <= start < end <= len(shown):
            parts.append(html.escape(shown[position:start]))
            marked, said = html.escape(shown[start:end]), html.escape(comment, quote=True)
            parts.append(f'<mark title="{said}">{marked}</mark>')
            position = end
    parts.append(html.escape(shown[position:]))
    if len(text) > len(shown):
        parts.append(f"… ({len(text):,} characters)")
    return f'<div style="white-space: pre-wrap; text-align: left">{"".join(parts)}</div>'


def html_columns(left: str, right: str) -> str:
    """Return two parts beside each other, or below each other on a narrow page."""
    column = '<div style="flex: 1 1 24em; min-width: 0">'
    return (
        f'<div style="display: flex; flex-wrap: wrap; gap: 2em">{column}{left}</div>'
        f"{column}{right}</div></div>"
    )


def html_details(title: str, inside: str) -> str:
    """Return a part that opens at a click."""
    return f"<details><summary>{html.escape(title)}</summary>{inside}</details>"
