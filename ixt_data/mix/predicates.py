"""The scope of a mix's predicates: its documents, each with a critic's latest critique."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import MixError, QueryError
from ixt_data.log import HUMAN, ShardInfo
from ixt_data.mix.config import Mix
from ixt_data.mix.draw_counts import Floats
from ixt_data.mix.saved_selections import resolve_selections
from ixt_data.records import OK
from ixt_data.sql import critic_order, join_clause, parenthesize, sql_literal
from ixt_data.store import Store


@dataclass(frozen=True)
class Matches:
    """The documents that match a predicate.

    The position of a document is the offset of its text shard plus its row.

    Attributes:
        places: True for each matching position, bool[positions]; None if all match.
        chars: number of characters of each matching document, uint32[documents].
        values: weighting value of each matching document, NaN for NULL, float64[documents]; None
            without a weighting.
        ranks: with an order of critics, the index in it of the critic of each matching document,
            uint8[documents]; else None.
    """

    places: npt.NDArray[np.bool_] | None
    chars: npt.NDArray[np.uint32]
    values: Floats | None
    ranks: npt.NDArray[np.uint8] | None = None

    @property
    def documents(self) -> int:
        """Number of matching documents."""
        return len(self.chars)

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return the matching positions, ascending, int64[documents]."""
        everything = np.arange(self.documents)
        return everything if self.places is None else np.flatnonzero(self.places)


_MAX_CHARS = 2**32 - 1

CriticPredicate = tuple[str | None, str]
"""A critic, and the predicate of the documents that are drawn with its critiques."""


class Scope:
    """The documents and critiques of one pinned snapshot that a mix can draw from.

    Attributes:
        snapshot: the pinned snapshot.
        holdout: share of documents that is out of scope.
        mix: with its saved selections resolved.
        critics: the mix's critics; those of an order are separate.
        shards: text shards of the mix's corpora, in the order of their commits.
        starts: position of each shard's first document, int64[shards].
        noun: what a document of the scope is, for errors.
    """

    noun = "document"

    def __init__(self, store: Store, mix: Mix, holdout: float = 0.0) -> None:
        """Resolve the mix and open the views of its snapshot.

        Args:
            store: the store to draw from.
            mix: the mix, with its snapshot, corpora and critics.
            holdout: share of documents, by doc_id, that is out of scope.

        Raises:
            MixError: a corpus, critic or saved selection does not exist in this snapshot.
        """
        self.snapshot, self.holdout = store.snapshot(mix.snapshot), holdout
        mix = resolve_selections(store, mix, self.snapshot)
        self.mix = mix
        self.critics = tuple(dict.fromkeys(chain.from_iterable(map(critics_in, mix.critics))))
        self._check(store, mix)
        self.shards = self.snapshot.text_shards(mix.corpus)
        self.starts = np.cumsum([0] + [shard.samples for shard in self.shards])[:-1]
        self._only = "true"
        if mix.corpus is not None:
            self._only = f"documents.corpus IN ({', '.join(map(sql_literal, mix.corpus))})"
        if holdout:
            self._only += f" AND NOT {held_out_predicate(holdout)}"
        self._catalog = store.catalog(self.snapshot.version)

    def __enter__(self) -> "Scope":
        return self

    def __exit__(self, *error: object) -> None:
        self._catalog.close()

    def _check(self, store: Store, mix: Mix) -> None:
        at = f"in snapshot {self.snapshot.version} of {store.root}"
        for corpus in mix.corpus or ():
            if corpus not in self.snapshot.corpora:
                known = ", ".join(self.snapshot.corpora) or "none"
                raise MixError(f"corpus: no {corpus!r} {at}. Corpora: {known}")
        critics = self.snapshot.critics
        names = {critic.name for critic in critics.values()}
        for critic in self.critics:
            if critic is not None and critic not in names | critics.keys():
                known = ", ".join(sorted(names)) or "none"
                command = f"ixt critique --corpus NAME --critic {critic}"
                if critic == HUMAN:
                    command = "ixt label DOCUMENT --score .. --by NAME"
                raise MixError(
                    f"critic: no critiques by {critic!r} {at}. Critics: {known}. "
                    f"Create them: {command}"
                )

    def critiques_of(self, shard: ShardInfo, critic: str | None) -> ShardInfo | None:
        """Return the critique shard aligned with a text shard, None without critiques."""
        if critic is None:
            return None
        if critic in self.snapshot.critics:
            return self.snapshot.aligned(shard.path, f"critique/{critic}")
        return self.snapshot.newest_critique(shard.path, critic)

    def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
        """Find the documents for which `where` is true.

        Args:
            name: name of the selection, for errors.
            where: SQL predicate.
            value: SQL expression of the weighting, or None.
            critic: name or id of the critic whose critiques are in scope, an order of critics, or
                None.

        Raises:
            MixError: DuckDB refuses the predicate or the expression.
        """
        with self._translating_errors(f"selection {name!r}", where):
            condition = parenthesize(where)
            expression = "NULL" if value is None else parenthesize(value)
        order = critics_in(critic)
        inner = (
            "SELECT documents.shard AS _ixt_shard, documents.row AS _ixt_row, "
            f"documents.n_chars AS _ixt_chars, ({expression})::DOUBLE AS _ixt_value, "
            f"{_rank(order)} AS _ixt_rank "
            f"{join_clause(self.snapshot, critic)} WHERE {self._only} AND {condition}"
        )
        sql = (
            f"SELECT start + _ixt_row AS place, _ixt_chars AS chars, _ixt_value AS value, "
            "_ixt_rank AS rank "
            f"FROM ({inner}) AS found JOIN (SELECT unnest($1::VARCHAR[]) AS _ixt_shard, "
            "unnest($2::BIGINT[]) AS start) AS starts USING (_ixt_shard)"
        )
        paths = [shard.path for shard in self.shards]
        total = sum(shard.samples for shard in self.shards)
        places = np.zeros(total, bool)
        chars = np.zeros(total, np.uint32)
        values = None if value is None else np.full(total, np.nan)
        ranks = None if len(order) == 1 else np.zeros(total, np.uint8)
        rows = 0
        parameters = [paths, self.starts.tolist()]
        with self._translating_errors(f"selection {name!r}", where):
            self._catalog.check_repeatable(inner)
        for batch in self._run(f"selection {name!r}", where, sql, parameters):
            at = _column(batch, "place", np.int64)
            rows += len(at)
            places[at] = True
            chars[at] = _column(batch, "chars", np.int64).clip(0, _MAX_CHARS)
            if values is not None:
                values[at] = _column(batch, "value", np.float64)
            if ranks is not None:
                ranks[at] = _column(batch, "rank", np.uint8)
        if rows != np.count_nonzero(places):
            raise MixError(f"selection {name!r}: {where!r} matches some documents twice")
        if rows == total:
            return Matches(None, chars, values, ranks)
        return Matches(
            places,
            chars[places],
            None if values is None else values[places],
            None if ranks is None else ranks[places],
        )

    def feedback(self, drawn: Sequence[CriticPredicate], best: bool) -> tuple[float, str] | None:
        """Return the highest (or lowest) score bin of some documents, and its modal critique."""
        direction = "DESC" if best else "ASC"
        sql = (
            "SELECT round(round(score * 10, 4)) / 10 AS bin, critique, count(*) AS n "
            f"FROM ({self._scored(drawn)}) GROUP BY bin, critique "
            f"ORDER BY bin {direction}, n DESC, critique LIMIT 1"
        )
        for batch in self._run("feedback", _any_of(drawn), sql, []):
            for row in batch.to_pylist():
                return float(row["bin"]), str(row["critique"])
        return None

    def score_quantiles(
        self, drawn: Sequence[CriticPredicate], shares: Sequence[float]
    ) -> tuple[float, ...]:
        """Return the distinct quantiles of some documents' scores at `shares`, ascending."""
        sql = f"SELECT quantile_disc(score, {list(shares)}) AS edges FROM ({self._scored(drawn)})"
        quantiles: set[float] = set()
        for batch in self._run("score quantiles", _any_of(drawn), sql, []):
            for row in batch.to_pylist():
                quantiles.update(row["edges"] or ())
        return tuple(sorted(quantiles))

    def _scored(self, drawn: Sequence[CriticPredicate]) -> str:
        """Return a SELECT of the scores and critiques of some documents, for all their critics."""
        return " UNION ALL ".join(
            "SELECT critiques.score AS score, critiques.critique AS critique "
            f"{join_clause(self.snapshot, critic)} WHERE {self._only} "
            f"AND ({_any_of([pair for pair in drawn if pair[0] == critic])}) "
            f"AND critiques.status = '{OK}' AND critiques.score IS NOT NULL"
            for critic in dict.fromkeys(critic for critic, _ in drawn)
        )

    def _run(self, what: str, where: str, sql: str, parameters: list[Any]) -> Iterator[Any]:
        """Yield the result in Arrow record batches."""
        with self._translating_errors(what, where):
            yield from self._catalog.batches(sql, parameters)

    @contextmanager
    def _translating_errors(self, what: str, where: str) -> Iterator[None]:
        try:
            yield
        except QueryError as error:
            message = " ".join(f"{what}: {where.strip()!r} is refused: {error.reason}".split())
            if None in self.critics and "critiques" not in where:
                message += ". Without `critic:` only the columns of documents are in scope"
            raise MixError(message) from None


def critics_in(order: str | None) -> list[str | None]:
    """Return the critics of an order; `[None]` without a critic."""
    return [None] if order is None else list(critic_order(order))


def _rank(order: Sequence[str | None]) -> str:
    """Return SQL for the index in an order of the critic of a critique."""
    if len(order) == 1:
        return "0"
    # A document that no critic has judged counts as one of the last, which has a placeholder.
    cases = " ".join(
        f"WHEN {sql_literal(str(name))} IN (critiques.critic, critiques.critic_id) THEN {rank}"
        for rank, name in enumerate(order)
    )
    return f"CASE {cases} ELSE {len(order) - 1} END"


def _any_of(drawn: Sequence[CriticPredicate]) -> str:
    return " OR ".join(f"(\n{where}\n)" for _, where in drawn)


def held_out_predicate(share: float) -> str:
    """Return a SQL predicate for a share of documents, the same ones in every snapshot."""
    # doc_ids are hashes, and their hexadecimal digits sort as text.
    bound = min(int(share * 2**32), 2**32 - 1)
    return f"(left(doc_id::VARCHAR, 8) < '{bound:08x}')"


def _column(batch: Any, name: str, kind: npt.DTypeLike) -> Any:
    return batch.column(name).to_numpy(zero_copy_only=False).astype(kind, copy=False)
