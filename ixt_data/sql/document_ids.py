"""The document that a user names: by its doc_id, the first digits of it, or the user's own id."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ixt_data.console import format_count
from ixt_data.errors import StoreError, UnknownDocument

MAX_NAMED = 20
"""Documents that an error about an ambiguous name lists."""

_DIGITS = 32

Query = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
"""Function that runs SQL with named parameters, and returns its rows."""


def find_document(query: Query, name: str) -> str:
    """Return the doc_id of a document, as text.

    A whole doc_id has precedence over a source_id, and that over the start of a doc_id.

    Args:
        query: runs SQL over the view `documents`.
        name: a doc_id, with or without dashes; its first digits; or a source_id.

    Raises:
        UnknownDocument: no document has this name.
        StoreError: several documents have it; the message lists them.
    """
    digits = name.replace("-", "").lower()
    attempts = [("source_id", "source_id = $name", {"name": name})]
    if re.fullmatch(rf"[0-9a-f]{{1,{_DIGITS}}}", digits):
        ends = {"low": digits.ljust(_DIGITS, "0"), "high": digits.ljust(_DIGITS, "f")}
        start = ("start of a doc_id", "doc_id BETWEEN $low::UUID AND $high::UUID", ends)
        attempts.insert(0 if len(digits) == _DIGITS else 1, start)
    for what, predicate, values in attempts:
        rows = query(
            f"SELECT doc_id, any_value(corpus) AS corpus FROM documents WHERE {predicate} "
            f"GROUP BY doc_id ORDER BY 2, 1 LIMIT {MAX_NAMED + 1}",
            values,
        )
        if len(rows) > 1:
            raise StoreError(_several(name, what, rows))
        if rows:
            return str(rows[0]["doc_id"])
    raise UnknownDocument(f"no document {name!r}: not a doc_id, the start of one, or a source_id")


def _several(name: str, what: str, rows: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{row['doc_id']} ({row['corpus']})" for row in rows[:MAX_NAMED])
    if len(rows) > MAX_NAMED:
        return f"{what} {name!r} names more than {MAX_NAMED} documents: {named}, and more"
    return f"{what} {name!r} names {format_count(len(rows), 'document')}: {named}"
