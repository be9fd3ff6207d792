"""Selections and queries that a store contains under a name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SelectionInfo:
    """A selection that the store contains under a name, for queries and mixes.

    Attributes:
        name: name of the selection.
        where: the predicate, SQL over the columns of documents and of the critic's critiques.
        critic: name or id of the critic whose critiques are in scope; None: only documents.
        note: a human-readable reason.
        documents: number of matches in the snapshot that it was saved from.
    """

    name: str
    where: str
    critic: str | None = None
    note: str = ""
    documents: int = 0


@dataclass(frozen=True, slots=True)
class SavedSelection(SelectionInfo):
    """A selection in a snapshot, with the version that saved it and the time of that commit."""

    version: int = 0
    created: str = ""


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """A statement that the store contains under a name.

    Attributes:
        name: name of the query.
        sql: one read-only statement, with `$name` for its parameters.
        note: the question that it answers.
    """

    name: str
    sql: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SavedQuery(QueryInfo):
    """A query in a snapshot, with the version that saved it and the time of that commit."""

    version: int = 0
    created: str = ""
