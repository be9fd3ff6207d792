"""Repeated n-grams of words, counted by their share of the characters (Gopher, table A1)."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

MIN_REPEATED_SHARE = 0.02
"""Below this share of repeated n-grams no limit is near, so the rest is not computed."""
MIN_TOP_COUNT = 3
"""Occurrences from which an n-gram counts as frequent. Ours."""
# Odd constants of 64 bits. n-grams are compared by a hash; two of a document's at most 2^20 words
# share one with a chance of some 10^-8.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(29)


class NGrams:
    """The n-grams of a text.

    Args:
        words: the words in order, not empty.
        distinct: each of them once.
    """

    def __init__(self, words: Sequence[str], distinct: Collection[str]) -> None:
        numbers = {word: number for number, word in enumerate(distinct, 1)}
        ids = np.fromiter(map(numbers.__getitem__, words), np.uint64, len(words)) * _MIX
        self._words: Words = ids ^ (ids >> _SHIFT)
        self._sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        self._total = int(self._sizes.sum())

    def top_share(self, n: int) -> float:
        """Return the share of the text in its most frequent n-gram, 0 below 3 occurrences."""
        grams = self._grams(n)
        ordered = np.sort(grams)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(starts, append=len(ordered))
        max_count = int(counts.max(initial=0))
        if max_count < MIN_TOP_COUNT:
            return 0.0
        first = int(np.argmax(grams == ordered[starts[int(counts.argmax())]]))
        return min(1.0, max_count * int(self._sizes[first : first + n].sum()) / self._total)

    def copied_share(self, n: int) -> float:
        """Return the share of the text in n-grams that occurred before, each character once."""
        grams = self._grams(n)
        ordered = np.sort(grams)
        if np.count_nonzero(ordered[1:] == ordered[:-1]) <= MIN_REPEATED_SHARE * len(grams):
            return 0.0
        order = np.argsort(grams, kind="stable")
        copies = order[1:][grams[order[1:]] == grams[order[:-1]]]
        depth = np.zeros(len(self._words) + 1, np.int64)
        depth[copies] += 1
        depth[copies + n] -= 1
        return float(self._sizes[np.cumsum(depth)[:-1] > 0].sum() / self._total)

    def _grams(self, n: int) -> Words:
        """Return one hash per n-gram, in order."""
        size = max(0, len(self._words) - n + 1)
        grams = np.zeros(size, np.uint64)
        for offset in range(n):
            grams = grams * _BASE + self._words[offset : offset + size]
        return grams
