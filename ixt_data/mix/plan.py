"""The plan of a train run: the drawn documents, their draw counts, and their order."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.console import html_table, html_title
from ixt_data.log import ShardInfo
from ixt_data.mix.condition import Condition
from ixt_data.mix.config import Mix
from ixt_data.mix.draw_counts import Counts, Floats, Ints
from ixt_data.mix.order import PhaseOrder, regime_bits, regimes_of
from ixt_data.mix.random_numbers import uniform

# First words of the seeds of independent random streams.
COUNTS, SPLIT, PASSES, DROPOUT, NOISE, PARTNER = range(6)


@dataclass(frozen=True)
class SelectionPlan:
    """The part of one selection in the run.

    Attributes:
        name, where: name and predicate in the mix.
        use: the saved selection, NAME@VERSION; None for a predicate of the mix.
        documents: number of documents that match its predicates in any phase.
        samples: number of draws from it.
        characters: number of characters in those draws.
        weight: its share of the draws in the mix.
        max_draws: largest number of draws of one document.
    """

    name: str
    where: str
    documents: int
    samples: int
    characters: int
    weight: float
    max_draws: int
    use: str | None = None


@dataclass(frozen=True, eq=False)
class MixPlan:
    """All draws of a train run, exact and in order. The order is computed epoch by epoch.

    Attributes:
        version: the pinned snapshot.
        shards: the drawn text shards, each with its critique shard or None.
        mix: the planned mix, with saved selections resolved.
        samples: total number of draws.
        epoch_samples: draws per epoch; the last one may be shorter.
        phases: index of the first draw of each phase, and the total.
        selections: metrics of each selection.
        documents: number of distinct documents among the draws.
        warnings: human-readable deviations from the mix.
        digest: 12 hex digits over everything that determines the order of the samples.
        block, nodes: see `plan_mix`.
        characters_per_token: ratio for the estimate of tokens.
        orders: the order of each phase.
        drawn_for: per sample the number of the selection that draws it, from 1; the number of
            selections + 1 if several do, 0 if none does. None with one selection.
        token_shards: token shards, by path of the shard that they encode, and family.
    """

    version: int
    shards: tuple[tuple[ShardInfo, ShardInfo | None], ...]
    mix: Mix
    samples: int
    epoch_samples: int
    phases: tuple[int, ...]
    selections: tuple[SelectionPlan, ...]
    documents: int
    warnings: tuple[str, ...]
    digest: str
    block: int
    nodes: int
    characters_per_token: float
    orders: tuple[PhaseOrder, ...] = field(repr=False)
    drawn_for: Counts | None = field(default=None, repr=False)
    token_shards: Mapping[tuple[str, str], ShardInfo] = field(default_factory=dict, repr=False)

    @property
    def epochs(self) -> int:
        """Number of parts of the order, which bound memory; not passes over the data."""
        return -(-self.samples // self.epoch_samples)

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """The condition of each phase."""
        return tuple(self.mix.condition_in(phase) for phase in self.mix.phases())

    def _repr_html_(self) -> str:
        """Return what each selection draws, for notebooks."""
        names = ["selection", "documents", "draws", "share", "epochs", "most draws of one document"]
        rows = [
            (
                one.name,
                one.documents,
                one.samples,
                one.samples / max(1, self.samples),
                one.samples / max(1, one.documents),
                one.max_draws,
            )
            for one in self.selections
        ]
        title = f"snapshot {self.version}, {self.samples:,} draws, digest {self.digest}"
        warnings = "".join(map(html_title, self.warnings))
        return html_title(title) + html_table(names, rows) + warnings

    def counts_digest(self) -> str:
        """Return 12 hex digits over the draws of every document in each phase."""
        digest = hashlib.blake2b(digest_size=6)
        for order in self.orders:
            digest.update(np.ascontiguousarray(order.counts).data)
        return digest.hexdigest()

    def order(self, epoch: int) -> Ints:
        """Return the draws of one epoch, in order, int64[draws]; see `ixt_data.mix.decode`.

        Args:
            epoch: index of the epoch, from 0; after the last one the plan repeats.
        """
        epoch %= self.epochs
        begin = epoch * self.epoch_samples
        end = min(begin + self.epoch_samples, self.samples)
        pieces = []
        for phase, order in enumerate(self.orders):
            first = self.phases[phase]
            start, stop = max(begin, first), min(end, self.phases[phase + 1])
            if start < stop:
                draws = order.draws(start - first, stop - first, self.nodes)
                pieces.append(draws | regime_bits(phase, cooled=False))
        draws = np.concatenate(pieces)
        cool = self.samples - round(self.samples * self.mix.condition.cooldown)
        draws[max(cool - begin, 0) :] |= regime_bits(0, cooled=True)
        return draws

    def gives_feedback(self, draw: int) -> bool:
        """Return True if a draw has feedback: it is not in the cooldown, and not dropped out."""
        return bool(self.feedback_given(np.array([draw], np.int64))[0])

    def feedback_given(self, draws: Ints) -> npt.NDArray[np.bool_]:
        """Return `gives_feedback` of some draws, bool[draws]."""
        phases, cooled = regimes_of(draws)
        dropout = np.array([condition.dropout for condition in self.conditions])
        given: npt.NDArray[np.bool_] = _uniform(draws, self.mix.seed, DROPOUT) >= dropout[phases]
        return given & ~cooled

    def feedback_rows(self, draws: Ints, rows: Ints, samples: Ints) -> Ints:
        """Return the rows of the feedback of some draws: their own, or another of their shard.

        Args:
            draws: numbers of the draws, int64[draws].
            rows: rows of the draws in their shards, int64[draws].
            samples: number of samples in the shard of each draw, int64[draws].
        """
        noisy = np.array([condition.shuffled for condition in self.conditions])
        if not noisy.any():
            return rows
        phases, _ = regimes_of(draws)
        other = _uniform(draws, self.mix.seed, NOISE) < noisy[phases]
        away = 1 + np.floor(_uniform(draws, self.mix.seed, PARTNER) * (samples - 1)).astype(
            np.int64
        )
        return np.where(other & (samples > 1), (rows + away) % samples, rows)

    @property
    def shards_at_once(self) -> int:
        """Maximum number of shards that the shuffle reads at the same time."""
        return max(order.shards_at_once(self.block) for order in self.orders)

    def summary(self) -> dict[str, Any]:
        """Return the metrics of the plan as JSON values."""
        return {
            "digest": self.digest,
            "snapshot": self.version,
            "samples": self.samples,
            "documents": self.documents,
            "tokens": self.tokens(sum(part.characters for part in self.selections)),
            "tokens_estimated": True,
            "characters_per_token": self.characters_per_token,
            "shards": len(self.shards),
            "selections": [self._selection_metrics(part) for part in self.selections],
            "phases": [
                {"samples": end - begin, "share": (end - begin) / self.samples}
                for begin, end in pairwise(self.phases)
            ],
            "warnings": list(self.warnings),
        }

    def _selection_metrics(self, part: SelectionPlan) -> dict[str, Any]:
        return {
            "name": part.name,
            "where": part.where,
            "use": part.use,
            "documents": part.documents,
            "samples": part.samples,
            "tokens": self.tokens(part.characters),
            "weight": part.weight,
            "share": part.samples / self.samples,
            "epochs": part.samples / part.documents if part.documents else 0.0,
            "most_repeats": part.max_draws,
        }

    def tokens(self, characters: int) -> int:
        """Estimate the number of tokens of some characters."""
        return round(characters / self.characters_per_token)


def _uniform(numbers: Ints, seed: int, stream: int) -> Floats:
    return uniform(numbers, seed * 5 + stream + 1)
