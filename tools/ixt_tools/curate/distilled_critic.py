"""The critic that a distillation makes: the scores of a small scorer, without texts."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document
from ixt_tools.curate.text_scorer import FEATURES, TextScorer, vectorize

KIND = "distilled"
DISTILLED = f"{__name__}:DistilledCritic"
"""Name of the critic for `load_critic`."""
_BATCH = 256


class DistilledCritic:
    """Critic that scores documents as a judge would, by a scorer trained on the judge's scores.

    Its critiques have a score and an empty text: no judge has read the document.

    Args:
        config: the critic's config, with the scorer in it; see `distillation.distill`.

    Raises:
        CriticError: the config is not that of a distilled critic, or of another version.
    """

    name = KIND
    pipelined = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        if config.get("critic") != KIND:
            raise CriticError(f"the config is not that of a distilled critic: {config!r:.80}")
        if config.get("features") != FEATURES:
            raise CriticError(
                f"this scorer reads texts as {config.get('features')}, this version of ixt as "
                f"{FEATURES}. Train it again with ixt distill"
            )
        self._config = dict(config)
        self._scorer = TextScorer.from_json(config.get("scorer"))

    def config(self) -> dict[str, Any]:
        """Return the scorer, the sample it was trained on, and its agreement with the judge."""
        return self._config

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield the critiques in the order of the documents; see `Critic.run`."""
        remaining = iter(documents)
        while batch := list(islice(remaining, _BATCH)):
            scores = self._scorer.predict(vectorize([document.text for document in batch]))
            for document, score in zip(batch, scores.tolist(), strict=True):
                yield Critique(document.doc_id, score=score)
