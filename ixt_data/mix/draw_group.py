"""The documents of a selection under one predicate, with their share of the draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ixt_data.mix.draw_counts import Counts, Ints
from ixt_data.mix.predicates import Matches


@dataclass
class DrawGroup:
    """The documents of one selection under one predicate, and its share of each phase.

    `critics` are the indexes of the group's critics in those of the mix: one, or those of an order.
    A document that is drawn with the critiques of two critics has a position for each: positions of
    the second critic follow those of the first.
    """

    name: str
    where: str
    critics: tuple[int, ...]
    matches: Matches
    weights: Ints
    max_repeats: int | None
    shares: list[Fraction]

    @property
    def capacity(self) -> int | None:
        """Maximum number of draws; None for no limit."""
        if self.max_repeats is None:
            return None
        return self.max_repeats * self.matches.documents

    def positions(self, values: Counts, documents: int) -> tuple[Counts, Any]:
        """Return a view of the values of positions, and the group's documents as an index of it.

        Args:
            values: one value per position: the documents of each critic of the mix.
            documents: number of documents.
        """
        if self.matches.ranks is not None:
            of = np.array(self.critics, np.int64)[self.matches.ranks]
            return values, self.matches.numbers() + documents * of
        own = values[self.critics[0] * documents :][:documents]
        return own, slice(None) if self.matches.places is None else self.matches.places


def count_distinct(groups: Sequence[DrawGroup]) -> int:
    """Count the distinct documents of some groups."""
    masks = [group.matches.places for group in groups]
    if len(masks) == 1 or any(mask is None for mask in masks):
        return max(group.matches.documents for group in groups)
    return int(np.count_nonzero(np.logical_or.reduce([m for m in masks if m is not None])))


def mark_positions(
    drawn_for: Counts,
    group: DrawGroup,
    counts: Counts,
    selection: int,
    selections: int,
    documents: int,
) -> None:
    """Note the selection that draws each position, or that several do; see `MixPlan.drawn_for`.

    Args:
        drawn_for: the values so far of all positions; changed in place.
        group: a group of the selection.
        counts: draws of each of its documents.
        selection: index of the selection.
        selections: number of selections.
        documents: number of documents.
    """
    drawn_for, places = group.positions(drawn_for, documents)
    known, own = drawn_for[places], selection + 1
    is_other = (known != 0) & (known != own)
    drawn_for[places] = np.where(counts == 0, known, np.where(is_other, selections + 1, own))
