"""Completion at the prompt of `ixt query`: commands, views, columns, SQL keywords, functions."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from ixt_data.sql import QueryOutput

if TYPE_CHECKING:
    from ixt_data.sql import Catalog
    from ixt_data.store import Store

COMMANDS = {
    ".help": ("", "list the commands"),
    ".tables": ("", "list the views and the saved selections"),
    ".schema": ("[VIEW]", "list columns and types"),
    ".at": ("[VERSION|TAG]", "query another snapshot, by default the latest"),
    ".mode": ("MODE [FILE]", "format of the rows; each result replaces FILE"),
    ".limit": ("N", "print at most N rows of a table; 0 prints all"),
    ".param": ("[NAME=VALUE]", "set the value of $NAME; list the values"),
    ".read": ("FILE", "run the statements in a file"),
    ".quit": ("", "exit"),
}
_WORD = re.compile(r"[\w.\"-]*\Z")
_OPAQUE = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\$\$.*?\$\$", re.DOTALL
)


def is_complete(text: str) -> bool:
    """Return whether a text ends with a `;` outside strings, names and comments."""
    plain = _OPAQUE.sub(" ", text)
    return plain.rstrip().endswith(";") and not re.search(r"['\"]|/\*|\$\$", plain)


class Completions(Completer):
    """Completions for the word at the cursor."""

    def __init__(self, catalog: "Callable[[], Catalog]", store: "Store") -> None:
        """Create completions for the snapshot that `catalog` returns at the time."""
        self._catalog, self._store = catalog, store
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """See `Completer.get_completions`."""
        line = document.current_line_before_cursor
        if document.text.lstrip().startswith("."):
            command, space, rest = line.lstrip().partition(" ")
            if space and command == ".read":
                yield from self._paths.get_completions(Document(rest), complete_event)
                return
            words, typed = (self._after(command), rest) if space else (list(COMMANDS), command)
        else:
            found = _WORD.search(line)
            typed = found.group() if found else ""
            words = list(self._sql(document.text, typed))
        for word in dict.fromkeys(words):
            if word.lower().startswith(typed.lower()) and word != typed:
                yield Completion(word, -len(typed))

    def _after(self, command: str) -> list[str]:
        """Return the arguments that a command accepts."""
        if command == ".schema":
            return list(self._catalog().columns)
        if command == ".at":
            return list(self._store.tags())
        return list(QueryOutput) if command == ".mode" else []

    def _sql(self, text: str, typed: str) -> Iterator[str]:
        """Yield names and SQL words, first those of the views that the text names."""
        columns = self._catalog().columns
        if "." in typed:
            prefix = typed.rpartition(".")[0]
            if prefix.lower() == "selected":
                yield from (f"selected.{name}" for name in self._catalog().snapshot.selections)
            view = _aliases(text, columns).get(prefix.lower(), prefix)
            yield from (f"{prefix}.{name}" for name in columns.get(view.lower(), ()))
            return
        named = [view for view in columns if re.search(rf"\b{view}\b", text, re.IGNORECASE)]
        for view in named or columns:
            yield from columns[view]
        yield from columns
        yield "selected."
        yield from self._words

    @cached_property
    def _words(self) -> list[str]:
        """Return the keywords and functions of DuckDB."""
        catalog = self._catalog()
        words = "SELECT upper(keyword_name) FROM duckdb_keywords() ORDER BY 1"
        functions = (
            "SELECT DISTINCT function_name || '(' FROM duckdb_functions() "
            "WHERE regexp_matches(function_name, '^[a-z][a-z_0-9]+$') ORDER BY 1"
        )
        return [row[0] for sql in (words, functions) for row in catalog.rows(sql)[1]]


def _aliases(text: str, views: Iterable[str]) -> dict[str, str]:
    """Return the view of each alias in the text."""
    pattern = rf"\b({'|'.join(views)})\s+(?:AS\s+)?(\w+)"
    return {alias.lower(): view for view, alias in re.findall(pattern, text, re.IGNORECASE)}
