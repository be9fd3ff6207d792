"""Pseudorandom numbers from integer arithmetic alone, equal on any machine and with any NumPy.

SplitMix64 (Steele, Lea and Flood 2014): a counter, mixed by shifts and multiplications. NumPy's own
generators may change their streams between versions.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
Words = npt.NDArray[np.uint64]


def mix_words(words: Words) -> Words:
    """Return the output of SplitMix64 for some states, uint64."""
    x = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = x ^ (x >> np.uint64(31))
    return mixed


class RandomNumbers:
    """A stream of pseudorandom numbers; equal keys give equal streams."""

    def __init__(self, *key: int) -> None:
        """Start the stream of some non-negative integers; those over 64 bits are shortened."""
        self._state = 0
        for number in key:
            state = np.array([(self._state + GOLDEN ^ number) & _MASK], np.uint64)
            self._state = int(mix_words(state)[0])

    def words(self, n: int) -> Words:
        """Return the next `n` numbers, each of 64 random bits."""
        steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        words = mix_words(steps + np.uint64(self._state))
        self._state = (self._state + n * GOLDEN) & _MASK
        return words

    def bits(self, n: int, count: int) -> npt.NDArray[np.int64]:
        """Return `n` integers of `count` random bits, at most 63."""
        return (self.words(n) >> np.uint64(64 - count)).astype(np.int64)

    def fractions(self, n: int) -> npt.NDArray[np.float64]:
        """Return `n` multiples of 2**-53 in [0, 1)."""
        return self.bits(n, 53) * 2.0**-53

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit` - 1."""
        return int(self.words(1)[0]) * limit >> 64

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """Return the integers 0 to n - 1 in random order."""
        return np.argsort(self.words(n), kind="stable")


def uniform(numbers: npt.NDArray[Any], key: int) -> npt.NDArray[np.float64]:
    """Return pseudorandom numbers in [0, 1) that depend only on each integer and a key."""
    start = key * GOLDEN & _MASK
    words = mix_words(numbers.astype(np.uint64) + np.uint64(start))
    return words.astype(np.float64) / 2.0**64
