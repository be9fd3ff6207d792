"""DuckDB's error messages in one line, with the nearest valid name."""

import difflib
import re
from collections.abc import Iterable, Mapping

from ixt_data.errors import QueryError

_POSITION = re.compile(r"\n+LINE (\d+): ?(.*)\n[ \t]*\^*[ \t]*\Z", re.DOTALL)
_CANDIDATES = re.compile(r"\n+Candidate bindings: (?:: )?(.*)")
_NO_COLUMN = re.compile(r'Referenced column "(.+?)" not found|not have a column named "(.+?)"')
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist!")
_NAME = re.compile(r'"((?:[^"]|"")*)"')
_KINDS = re.compile(
    r"\A(Binder|Catalog|Parser|Conversion|Invalid Input|Invalid|Out of Range) Error: "
)
_LINE = 100


def explain_error(message: str, columns: Mapping[str, Iterable[str]]) -> QueryError:
    """Translate DuckDB's message to one line: the problem, the nearest name, the position.

    Args:
        message: DuckDB's message.
        columns: columns by view, for names that DuckDB does not suggest.
    """
    position = _POSITION.search(message)
    text = message[: position.start()] if position else message
    offered = _CANDIDATES.search(text)
    text = _CANDIDATES.sub("", text)
    text = _KINDS.sub("", text).strip()
    if match := _NO_COLUMN.search(text):
        name = match[1] or match[2]
        text += _suggest_column(name, _NAME.findall(offered[1]) if offered else [], columns)
    elif match := _NO_TABLE.search(text):
        # DuckDB suggests its internal tables too, which do not help a user.
        near = _did_you_mean(_close_names(match[1], columns))
        text = f"{match.group()} {near or 'Views: ' + ', '.join(columns)}"
    where = ""
    if position and position[2].strip():
        where = f"[line {position[1]}: {_shorten(position[2])}]"
    return QueryError(" ".join(text.split()), where)


def _suggest_column(name: str, offered: list[str], columns: Mapping[str, Iterable[str]]) -> str:
    """Return a hint: a similar column, or the other views that have a column of this name."""
    if name.lower() == "text":
        return (
            " Texts are in the shards: `ixt inspect DOC_ID` prints one, "
            "`ixt export --selection NAME` writes many"
        )
    owners: dict[str, list[str]] = {}
    for view, known in columns.items():
        for column in known:
            owners.setdefault(column.lower(), []).append(view)
    if name.lower() in owners and name not in offered:
        views = " and ".join(owners[name.lower()])
        return f" {name!r} is a column of {views}: join it, or name a critic"
    if near := _close_names(name, offered):
        return f" {_did_you_mean(near)}".rstrip()
    if near := _close_names(name, owners)[:1]:
        return f' Did you mean "{near[0]}" of {" or ".join(owners[near[0].lower()])}?'
    return f" {_did_you_mean(offered[:3])}".rstrip()


def _close_names(name: str, known: Iterable[str]) -> list[str]:
    by_lower = {one.lower(): one for one in known}
    return [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 2, 0.6)]


def _did_you_mean(names: Iterable[str]) -> str:
    shown = " or ".join(f'"{name}"' for name in names)
    return f"Did you mean {shown}? " if shown else ""


def _shorten(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"
