"""What DuckDB says of a statement that it refuses, in one line, with the nearest valid name."""

import difflib
import re
from collections.abc import Iterable, Mapping

from ixt_data.errors import QueryError

_PLACE = re.compile(r"\n+LINE (\d+): ?(.*)\n[ \t]*\^*[ \t]*\Z", re.DOTALL)
_CANDIDATES = re.compile(r"\n+Candidate bindings: (?:: )?(.*)")
_NO_COLUMN = re.compile(r'Referenced column "(.+?)" not found|not have a column named "(.+?)"')
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist!")
_NAME = re.compile(r'"((?:[^"]|"")*)"')
_KINDS = re.compile(
    r"\A(Binder|Catalog|Parser|Conversion|Invalid Input|Invalid|Out of Range) Error: "
)
_LINE = 100


def explain_error(message: str, columns: Mapping[str, Iterable[str]]) -> QueryError:
    """DuckDB's message in one line: what is wrong, which name comes nearest, and where it is.

    Args:
        message: as DuckDB gives it.
        columns: of each view, to find names that DuckDB does not offer.
    """
    place = _PLACE.search(message)
    said = message[: place.start()] if place else message
    offered = _CANDIDATES.search(said)
    said = _CANDIDATES.sub("", said)
    said = _KINDS.sub("", said).strip()
    if found := _NO_COLUMN.search(said):
        name = found[1] or found[2]
        said += _near_column(name, _NAME.findall(offered[1]) if offered else [], columns)
    elif found := _NO_TABLE.search(said):
        # DuckDB offers its own tables too, which are nothing to a curator.
        near = _did_you_mean(_close(found[1], columns))
        said = f"{found.group()} {near or 'Views: ' + ', '.join(columns)}"
    where = f"[line {place[1]}: {_cut(place[2])}]" if place and place[2].strip() else ""
    return QueryError(" ".join(said.split()), where)


def _near_column(name: str, offered: list[str], columns: Mapping[str, Iterable[str]]) -> str:
    """What to write instead: a candidate that looks alike, or where else there is such a column."""
    owners: dict[str, list[str]] = {}
    for view, known in columns.items():
        for column in known:
            owners.setdefault(column.lower(), []).append(view)
    if name.lower() in owners and name not in offered:
        views = " and ".join(owners[name.lower()])
        return f" {name!r} is a column of {views}: join it, or give a critic"
    if near := _close(name, offered):
        return f" {_did_you_mean(near)}".rstrip()
    if near := _close(name, owners)[:1]:
        return f' Did you mean "{near[0]}" of {" or ".join(owners[near[0].lower()])}?'
    return f" {_did_you_mean(offered[:3])}".rstrip()


def _close(name: str, known: Iterable[str]) -> list[str]:
    by_lower = {one.lower(): one for one in known}
    return [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 2, 0.6)]


def _did_you_mean(names: Iterable[str]) -> str:
    shown = " or ".join(f'"{name}"' for name in names)
    return f"Did you mean {shown}? " if shown else ""


def _cut(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"
