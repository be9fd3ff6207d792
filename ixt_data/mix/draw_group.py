"""The documents of a selection under one predicate, with their share of the draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ixt_data.mix.draw_counts import Counts, Ints
from ixt_data.mix.predicates import Matches


@dataclass
class DrawGroup:
    """The documents of one selection under one predicate, and its share of each phase.

    `critic` is the index in the mix's critics. A document that is drawn with the critiques of two
    critics has a position for each: positions of the second critic follow those of the first.
    """

    name: str
    where: str
    critic: int
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


def count_distinct(groups: Sequence[DrawGroup]) -> int:
    """Count the distinct documents of some groups."""
    masks = [group.matches.places for group in groups]
    if len(masks) == 1 or any(mask is None for mask in masks):
        return max(group.matches.documents for group in groups)
    return int(np.count_nonzero(np.logical_or.reduce([m for m in masks if m is not None])))


def mark_positions(
    drawn_for: Counts, group: DrawGroup, counts: Counts, selection: int, selections: int
) -> None:
    """Note the selection that draws each position, or that several do; see `MixPlan.drawn_for`.

    Args:
        drawn_for: the values so far of the positions of the group's critic; changed in place.
        group: a group of the selection.
        counts: draws of each of its documents.
        selection: index of the selection.
        selections: number of selections.
    """
    places = slice(None) if group.matches.places is None else group.matches.places
    known, own = drawn_for[places], selection + 1
    is_other = (known != 0) & (known != own)
    drawn_for[places] = np.where(counts == 0, known, np.where(is_other, selections + 1, own))
