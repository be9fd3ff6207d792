"""Repeated n-grams of words, counted as in Gopher's table A1: by their share of the characters."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

SCREEN = 0.02
"""Below this share of repeated n-grams no limit is near, and nothing further is counted."""
MIN_TOP = 3
"""How often an n-gram must come to be called frequent. Ours."""
# Odd constants of 64 bits. n-grams are compared by a hash; two of a document's at most 2^20 words
# share one with a chance of some 10^-8.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(29)


class NGrams:
    """The n-grams of a text.

    Args:
        words: in their order, not empty.
        distinct: each of them once.
    """

    def __init__(self, words: Sequence[str], distinct: Collection[str]) -> None:
        numbers = {word: number for number, word in enumerate(distinct, 1)}
        ids = np.fromiter(map(numbers.__getitem__, words), np.uint64, len(words)) * _MIX
        self._words: Words = ids ^ (ids >> _SHIFT)
        self._sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        self._total = int(self._sizes.sum())

    def top_share(self, n: int) -> float:
        """Share of the text in its most frequent n-gram, 0 where that comes once or twice."""
        grams = self._grams(n)
        ordered = np.sort(grams)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        times = np.diff(starts, append=len(ordered))
        most = int(times.max(initial=0))
        if most < MIN_TOP:
            return 0.0
        first = int(np.argmax(grams == ordered[starts[int(times.argmax())]]))
        return min(1.0, most * int(self._sizes[first : first + n].sum()) / self._total)

    def copied_share(self, n: int) -> float:
        """Share of the text in n-grams that came before, no character counted twice."""
        grams = self._grams(n)
        ordered = np.sort(grams)
        if np.count_nonzero(ordered[1:] == ordered[:-1]) <= SCREEN * len(grams):
            return 0.0
        places = np.argsort(grams, kind="stable")
        copies = places[1:][grams[places[1:]] == grams[places[:-1]]]
        depth = np.zeros(len(self._words) + 1, np.int64)
        depth[copies] += 1
        depth[copies + n] -= 1
        return float(self._sizes[np.cumsum(depth)[:-1] > 0].sum() / self._total)

    def _grams(self, n: int) -> Words:
        """One hash for each place where an n-gram begins."""
        size = max(0, len(self._words) - n + 1)
        grams = np.zeros(size, np.uint64)
        for offset in range(n):
            grams = grams * _BASE + self._words[offset : offset + size]
        return grams
