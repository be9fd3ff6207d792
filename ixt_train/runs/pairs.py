"""The pairs of answers that a train run of stage preference draws."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ixt_data.export import PairTable
from ixt_data.mix import Matches, Mix, Scope
from ixt_data.store import Store
from ixt_train.config import TrainConfig
from ixt_train.runs import run_folder


def read_pairs(folder: Path, config: TrainConfig) -> PairTable | None:
    """Return the pairs in a run folder; None in other stages."""
    return PairTable(folder / run_folder.PAIRS) if config.stage == "preference" else None


def scope_of(pairs: PairTable | None) -> Callable[..., Scope]:
    """Return the constructor of the scope of a mix: with pairs, of their better answers only."""
    return Scope if pairs is None else partial(_PairScope, pairs)


class _PairScope(Scope):
    """The scope of a mix without the documents that are not the better answer of a pair."""

    noun = "better answer of a pair"

    def __init__(self, pairs: PairTable, store: Store, mix: Mix, holdout: float = 0.0) -> None:
        super().__init__(store, mix, holdout)
        starts = {s.path: int(at) for s, at in zip(self.shards, self.starts, strict=True)}
        self._places = pairs.places(starts, sum(shard.samples for shard in self.shards))

    def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
        """Find the better answers for which `where` is true; see `Scope.find`."""
        found = super().find(name, where, value, critic)
        numbers = found.numbers()
        kept = self._places[numbers]
        places = np.zeros(len(self._places), bool)
        places[numbers[kept]] = True
        values = None if found.values is None else found.values[kept]
        ranks = None if found.ranks is None else found.ranks[kept]
        return Matches(places, found.chars[kept], values, ranks)
