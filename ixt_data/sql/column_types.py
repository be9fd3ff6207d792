"""DuckDB types of columns: their parts, the type that holds two of them, and their stored form."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(\w+)|([][(),])|\s+')
_SIGNED = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_UNSIGNED = {"UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32, "UBIGINT": 64}
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20, 128: 38}
MAX_DIGITS = 38
_FLOATS = ("FLOAT", "DOUBLE")
_NESTED = ("LIST", "STRUCT", "MAP")
MAX_LISTS = 16
"""Lists inside of lists: DuckDB's reader of Parquet takes 2**n steps, 2.4 s at 24."""
NULL = "NULL"
"""The type of a column without values. It gives way to any other type."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A DuckDB type.

    Attributes:
        name: such as BIGINT, DECIMAL, LIST, STRUCT, MAP.
        children: types of a list's items, of a struct's fields, or of a map's keys and values.
        fields: names of a struct's fields.
        digits: all digits of a DECIMAL, and those after the point.
    """

    name: str
    children: tuple["ColumnType", ...] = ()
    fields: tuple[str, ...] = ()
    digits: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """Return the type as DuckDB writes it."""
        if self.name == "LIST":
            return f"{self.children[0]}[]"
        if self.name == "MAP":
            return f"MAP({self.children[0]}, {self.children[1]})"
        if self.name == "STRUCT":
            pairs = zip(self.fields, self.children, strict=True)
            quoted = (f'"{field.replace(chr(34), chr(34) * 2)}" {kind}' for field, kind in pairs)
            return f"STRUCT({', '.join(quoted)})"
        if self.name == "DECIMAL":
            return "DECIMAL({},{})".format(*self.digits)
        return self.name

    @property
    def lists(self) -> int:
        """Number of lists and maps around the innermost value."""
        inner = max((child.lists for child in self.children), default=0)
        return inner + (self.name in ("LIST", "MAP"))

    def with_leaves(self, change: Callable[["ColumnType"], "ColumnType"]) -> "ColumnType":
        """Return the type with each type without children replaced."""
        if not self.children:
            return change(self)
        children = tuple(child.with_leaves(change) for child in self.children)
        return replace(self, children=children)


def parse_type(text: str) -> ColumnType:
    """Parse a type as `str` of a `ColumnType` writes it.

    Raises:
        ValueError: the text is not such a type.
    """
    found = (match for match in _TOKEN.finditer(text) if match.group().strip())
    tokens: list[_Token] = [(match[1], match[2], match[3]) for match in found]
    kind, rest = _parse(tokens)
    if rest:
        raise ValueError(f"{text!r} is not a type of a column")
    return kind


_Token = tuple[str | None, str | None, str | None]


def _parse(tokens: list[_Token]) -> tuple[ColumnType, list[_Token]]:
    """Parse one type; return it and the remaining tokens."""
    # DuckDB quotes the type "NULL".
    name, rest = (tokens[0][1] or tokens[0][0] or "").upper(), tokens[1:]
    children: list[ColumnType] = []
    fields: list[str] = []
    numbers: list[int] = []
    if rest and rest[0][2] == "(":
        rest = rest[1:]
        while True:
            if name == "DECIMAL":
                numbers.append(int(rest[0][1] or ""))
                rest = rest[1:]
            else:
                if name == "STRUCT":
                    quoted, plain, _ = rest[0]
                    fields.append((plain or "") if quoted is None else quoted.replace('""', '"'))
                    rest = rest[1:]
                child, rest = _parse(rest)
                children.append(child)
            closing, rest = rest[0][2], rest[1:]
            if closing == ")":
                break
    width, scale = numbers or (0, 0)
    kind = ColumnType(name, tuple(children), tuple(fields), (width, scale))
    while len(rest) > 1 and rest[0][2] == "[" and rest[1][2] == "]":
        kind, rest = ColumnType("LIST", (kind,)), rest[2:]
    return kind, rest


def merge_types(one: ColumnType, other: ColumnType) -> ColumnType | None:
    """Return the type that holds the values of both, or None; the rules are in docs/types.md."""
    if one == other or other.name == NULL:
        return one
    if one.name == NULL:
        return other
    if one.name == other.name and one.name in _NESTED:
        return _merge_nested(one, other)
    names = {one.name, other.name}
    if number := _merge_numbers(one, other):
        return number
    if names == {"DATE", "TIMESTAMP"}:
        return ColumnType("TIMESTAMP")
    if "VARCHAR" in names and not names & {*_NESTED, "BLOB"}:
        return ColumnType("VARCHAR")
    return None


def _merge_nested(one: ColumnType, other: ColumnType) -> ColumnType | None:
    if one.name != "STRUCT":
        pairs = zip(one.children, other.children, strict=True)
        children = [merge_types(a, b) for a, b in pairs]
        known = tuple(child for child in children if child is not None)
        return replace(one, children=known) if len(known) == len(children) else None
    merged = dict(zip(one.fields, one.children, strict=True))
    spelling = {field.lower(): field for field in one.fields}
    for field, kind in zip(other.fields, other.children, strict=True):
        name = spelling.get(field.lower(), field)
        both = merge_types(merged[name], kind) if name in merged else kind
        if both is None:
            return None
        merged[name] = both
    return replace(one, fields=tuple(merged), children=tuple(merged.values()))


def _merge_numbers(one: ColumnType, other: ColumnType) -> ColumnType | None:
    digits = [_digits(kind) for kind in (one, other)]
    if {one.name, other.name} <= {*_FLOATS}:
        return ColumnType("DOUBLE")
    if {one.name, other.name} & {*_FLOATS} and any(digits):
        return ColumnType("DOUBLE")
    if digits[0] is None or digits[1] is None:
        return None
    if "DECIMAL" not in (one.name, other.name):
        return _merge_integers(one.name, other.name)
    whole = max(width - scale for width, scale in filter(None, digits))
    scale = max(scale for _, scale in filter(None, digits))
    if whole + scale > MAX_DIGITS:
        return ColumnType("DOUBLE")
    return ColumnType("DECIMAL", digits=(whole + scale, scale))


def _digits(kind: ColumnType) -> tuple[int, int] | None:
    """Return the digits of a number, and those after the point; None for other types."""
    if kind.name == "DECIMAL":
        return kind.digits
    bits = _SIGNED.get(kind.name) or _UNSIGNED.get(kind.name)
    return (_DIGITS[bits], 0) if bits else None


def _merge_integers(one: str, other: str) -> ColumnType:
    names = {one, other}
    for kinds in (_SIGNED, _UNSIGNED):
        if names <= kinds.keys():
            return ColumnType(max(names, key=kinds.__getitem__))
    (unsigned,), (signed,) = names & _UNSIGNED.keys(), names & _SIGNED.keys()
    bits = max(_SIGNED[signed], 2 * _UNSIGNED[unsigned])
    return ColumnType(next(name for name, size in _SIGNED.items() if size == bits))


def read_column(quoted: str, present: str, kind: str) -> str:
    """Return SQL for a column's value of the type `kind`, from a file of rows.

    Parquet has no integers of 128 bits, and its INTERVAL has milliseconds. So a file has HUGEINT as
    DECIMAL(38,0) and INTERVAL as microseconds in a BIGINT; it may have a column of NULL as text.
    """
    if present == NULL:
        return f"NULL::{shown_type(kind)}"
    if present == "INTERVAL":
        value = f"to_microseconds({quoted})"
        return value if kind == present else f"{value}::{kind}"
    return quoted if kind == present and "HUGEINT" not in kind else f"{quoted}::{kind}"


def store_column(value: str, kind: str) -> str:
    """Return SQL for the stored form of a value of the type `kind`; see `read_column`."""
    if kind == "INTERVAL":
        return f"epoch_us({value})"
    if "HUGEINT" not in kind:
        return value

    def stored(leaf: ColumnType) -> ColumnType:
        whole = ColumnType("DECIMAL", digits=(MAX_DIGITS, 0))
        return whole if leaf.name == "HUGEINT" else leaf

    return f"{value}::{parse_type(kind).with_leaves(stored)}"


def shown_type(kind: str) -> str:
    """Return the type that a view shows: text for a column without values."""
    return "VARCHAR" if kind == NULL else kind
