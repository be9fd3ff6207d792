"""The critic that combines the scores of other critics of a store."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ixt_data.errors import CriticError
from ixt_data.records import OK, Critique, Document, format_id
from ixt_data.sql import sql_literal
from ixt_data.store import Store
from ixt_tools.curate.score_combination import ScoreCombination

KIND = "ensemble"
ENSEMBLE = f"{__name__}:EnsembleCritic"
"""Name of the critic for `load_critic`."""
MISSING_SCORES = "missing_scores"
"""Status of a document that too few of the critics have scored."""
ESTIMATED_SCORE = "estimated_score"
"""Flag of a document of which a score is missing and estimated."""
_BATCH = 16_384


class EnsembleCritic:
    """Critic that combines the scores of other critics of a store; no judge reads a document.

    The text is that of the critic whose score is closest to the combined one. `scores` has each
    critic's score.

    Args:
        store: root of the store.
        config: the critic's config, with the combination in it; see `ensembles.build_ensemble`.

    Raises:
        CriticError: the config is not that of an ensemble.
    """

    name = KIND
    statuses = (OK, MISSING_SCORES)

    def __init__(self, store: str, config: Mapping[str, Any]) -> None:
        if config.get("critic") != KIND:
            raise CriticError(f"the config is not that of an ensemble: {config!r:.80}")
        self._config = dict(config)
        self._members = list(config["members"])
        self._combination = ScoreCombination.from_json(config.get("combination"))
        self._store = Store.open(store)

    def config(self) -> dict[str, Any]:
        """Return the ids of the critics, the combination, and its agreement with other scores."""
        return self._config

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield the critiques in the order of the documents; see `Critic.run`."""
        remaining = iter(documents)
        while batch := [document.doc_id for document in islice(remaining, _BATCH)]:
            yield from self._judge(batch)

    def _judge(self, doc_ids: Sequence[bytes]) -> Iterator[Critique]:
        scores = np.full((len(doc_ids), len(self._members)), np.nan)
        texts: dict[tuple[int, int], str] = {}
        rows = {doc_id: row for row, doc_id in enumerate(doc_ids)}
        columns = {critic: column for column, critic in enumerate(self._members)}
        for record in self._read(doc_ids):
            row, column = rows[record["doc_id"].bytes], columns[record["critic_id"]]
            scores[row, column] = record["score"]
            texts[row, column] = record["critique"]
        combined = self._combination.combine(scores)
        for row, doc_id in enumerate(doc_ids):
            known = [column for column in columns.values() if not np.isnan(scores[row, column])]
            given = {self._members[column]: float(scores[row, column]) for column in known}
            if np.isnan(combined[row]):
                missing = ", ".join(one for one in self._members if one not in given)
                error = f"no score by {missing}"
                yield Critique(doc_id, MISSING_SCORES, scores=given, error=error)
                continue
            closest = min(known, key=lambda column: abs(scores[row, column] - combined[row]))
            yield Critique(
                doc_id,
                critique=texts[row, closest],
                score=float(combined[row]),
                scores=given,
                flags=() if len(known) == len(columns) else (ESTIMATED_SCORE,),
            )

    def _read(self, doc_ids: Sequence[bytes]) -> list[dict[str, Any]]:
        members = ", ".join(map(sql_literal, self._members))
        rows: list[dict[str, Any]] = (
            self._store.sql(
                "SELECT doc_id, critic_id, score, critique FROM (SELECT * FROM critiques_all "
                f"WHERE critic_id IN ({members}) "
                "AND doc_id IN (SELECT unnest($doc_ids::UUID[])) QUALIFY row_number() OVER "
                "(PARTITION BY doc_id, critic_id ORDER BY generation DESC) = 1) "
                f"WHERE status = '{OK}' AND score IS NOT NULL",
                parameters={"doc_ids": [format_id(doc_id) for doc_id in doc_ids]},
            )
            .arrow()
            .to_pylist()
        )
        return rows
