"""The order of the draws of one phase: shuffled, shard by shard, computed range by range.

The draws of a shard form a row, document by document. K is the maximum number of draws of one of
its documents. The shard is read in K *passes*. Every K-th draw of the row belongs to the same pass,
so no document occurs twice in a pass, and all passes have nearly equal size.

The passes of all shards are ordered in time, those of one shard at equal distances. Each pass is
spread over a block that ends where the next pass of its shard begins. Time is a circle: draws
before the start of the phase move to its end. So the first batch mixes as many shards as any other.

The time of a draw follows from its pass and its position in the pass. Only the requested range of
draws is computed, so memory depends on the range and not on the run.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import MixError
from ixt_data.mix.draw_counts import Counts, Ints, lattice
from ixt_data.mix.random_numbers import RandomNumbers

SAMPLE_BITS, OCCURRENCE_BITS, REGIME_BITS = 36, 20, 7
MAX_OCCURRENCE = 1 << OCCURRENCE_BITS
# Time steps per draw of a phase: integers, because every machine must compute the same order.
_TICKS = 256
_SAMPLE_MASK = (1 << SAMPLE_BITS) - 1
_REGIME_SHIFT = SAMPLE_BITS + OCCURRENCE_BITS


@dataclass(frozen=True, slots=True)
class Draw:
    """The parts of a draw's number.

    Attributes:
        sample: offset of the document's shard in the plan's shards, plus its row.
        occurrence: number of earlier draws of this document in its row of the phase.
        phase: index of the phase in the mix's phases.
        cooled: True if the draw is in the cooldown.
    """

    sample: int
    occurrence: int
    phase: int
    cooled: bool


def decode(draw: int) -> Draw:
    """Decode the number of one draw."""
    regime = draw >> _REGIME_SHIFT
    occurrence = (draw >> SAMPLE_BITS) & (MAX_OCCURRENCE - 1)
    return Draw(draw & _SAMPLE_MASK, occurrence, regime >> 1, bool(regime & 1))


def samples_of(draws: Ints) -> Ints:
    """Return the samples of some draws, as numbers like `Draw.sample`; int64[draws]."""
    return draws & _SAMPLE_MASK


def regimes_of(draws: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the phases of some draws, and True for draws in the cooldown."""
    regimes = draws >> _REGIME_SHIFT
    return regimes >> 1, (regimes & 1).astype(bool)


def regime_bits(phase: int, cooled: bool) -> int:
    """Return the bits of a draw's number for its phase and cooldown."""
    return (2 * phase + cooled) << _REGIME_SHIFT


class PhaseOrder:
    """The draws of one phase.

    Attributes:
        counts: number of draws of each sample.
        samples: number of draws.
    """

    def __init__(
        self, counts: Counts, shard_starts: Ints, numbers: RandomNumbers, block: int
    ) -> None:
        """Compute the times of the passes, without work per document.

        Args:
            counts: number of draws of each sample.
            shard_starts: first sample of each shard, ascending from 0.
            numbers: the times of the passes, and the shuffle.
            block: samples over which a pass is spread, at most up to the shard's next pass.
        """
        largest = int(counts.max(initial=0))
        if largest >= MAX_OCCURRENCE:
            raise MixError(
                f"a document would be drawn {largest:,} times in one phase; the maximum is "
                f"{MAX_OCCURRENCE - 1:,}. Set max_repeats, or draw fewer samples"
            )
        rows = np.add.reduceat(counts, shard_starts, dtype=np.int64)
        passes = np.maximum.reduceat(counts, shard_starts).astype(np.int64)
        drawn = rows > 0
        ends = np.append(shard_starts[1:], len(counts))
        self.counts = counts
        self._from, self._to = shard_starts[drawn], ends[drawn]
        self.samples = int(rows.sum())
        self._lay_out(rows[drawn], passes[drawn], numbers)
        self._spread(block, numbers)

    def _lay_out(self, rows: Ints, passes: Ints, numbers: RandomNumbers) -> None:
        self._shards = shards = len(rows)
        # Stratified sampling: the first passes of the shards are evenly spread.
        offsets = (numbers.permutation(shards) + numbers.fractions(shards)) / max(shards, 1)
        turns = numbers.bits(shards, 30)
        shard = np.repeat(np.arange(shards), passes)
        number = _ramp(passes)
        time = (number + offsets[shard]) / passes[shard]
        known = {int(k): lattice(int(k))[1] for k in np.unique(passes)}
        inverse = np.array([known[int(k)] for k in passes], np.int64)
        first = (number + turns[shard]) * inverse[shard] % passes[shard]
        size = (rows[shard] - first + passes[shard] - 1) // passes[shard]
        order = np.argsort(time, kind="stable")
        self._shard, self._first = shard[order], first[order]
        self._stride = passes[shard][order]
        self._size = size[order]

    def _spread(self, block: int, numbers: RandomNumbers) -> None:
        """Assign a time interval to each pass; one over an end of the circle has two pieces."""
        self._salt = numbers.bits(len(self._size), 32).astype(np.uint32)
        n_ticks = self.samples * _TICKS
        # A pass is spread over the block, but never into the shard's next one. So a document
        # repeats only after all others (random reshuffling; sampling with replacement is slower).
        period = self.samples / self._stride
        width = np.minimum(np.maximum(np.minimum(block, period), self._size), self.samples)
        middle = np.cumsum(self._size) - self._size / 2
        begin = np.floor((middle - width / 2) * _TICKS).astype(np.int64)
        self._width = np.floor(width * _TICKS).astype(np.int64)
        begins = begin + np.array([[0], [n_ticks], [-n_ticks]])
        turn, which = np.nonzero((begins < n_ticks) & (begins + self._width > 0))
        begins = begins[turn, which]
        order = np.argsort(begins, kind="stable")
        self._pass, self._begin = which[order], begins[order]
        self._end = self._begin + self._width[self._pass]
        self._draws = self._size[self._pass]
        cut = np.flatnonzero((self._begin < 0) | (self._end > n_ticks))
        piece, _, times = self._times(cut)
        inside = piece[(times >= 0) & (times < n_ticks)]
        self._draws[cut] = np.bincount(inside, minlength=len(cut))
        self._last = np.argsort(self._end, kind="stable")

    def _times(self, pieces: Ints) -> tuple[npt.NDArray[np.int32], Ints, Ints]:
        """Return for each draw of some pieces: index of the piece, index in its pass, and time."""
        of = self._pass[pieces]
        size = self._size[of]
        piece, place = np.repeat(np.arange(len(pieces), dtype=np.int32), size), _ramp(size)
        chance = _scattered(place.astype(np.uint32), self._salt[of][piece])
        away = chance * (self._width[of] / (1 << 32))[piece]
        return piece, place, self._begin[pieces][piece] + away.astype(np.int64)

    def shards_at_once(self, block: int) -> int:
        """Return the number of shards in use at a time for a spread over `block` samples."""
        if not self.samples:
            return 0
        per_pass = self.samples / len(self._size)
        return min(self._shards, ceil(block / per_pass) + 1)

    def draws(self, start: int, stop: int, nodes: int = 1) -> Ints:
        """Return the draws `start` to `stop` of this phase, in order; int64[stop - start].

        Args:
            start: index of the first draw, 0 to `samples`.
            stop: index after the last draw.
            nodes: nodes that read different shards; must divide `stop - start`.
        """
        if start == stop:
            return np.empty(0, np.int64)
        # Pieces that begin before `early` have at most `start` draws, and those that end by `late`
        # at least `stop`. The requested draws are between these times.
        first = int(np.searchsorted(np.cumsum(self._draws), start, "right"))
        last = int(np.searchsorted(np.cumsum(self._draws[self._last]), stop, "left"))
        early, late = max(int(self._begin[first]), 0), int(self._end[self._last[last]])
        done = self._end <= early
        pieces = np.flatnonzero(~done & (self._begin < late))
        piece, place, times = self._times(pieces)
        before = int(self._draws[done].sum()) + np.count_nonzero((times >= 0) & (times < early))
        late = min(late, self.samples * _TICKS)
        inside = np.flatnonzero((times >= early) & (times < late))
        inside = inside[_ascending(times[inside] - early)[start - before : stop - before]]
        of, place = self._pass[pieces][piece[inside]], place[inside]
        numbers = self._numbers(self._shard[of], self._first[of] + place * self._stride[of])
        return numbers.reshape(nodes, -1).T.reshape(-1)

    def _numbers(self, shard: Ints, row: Ints) -> Ints:
        """Return the numbers of some draws, by shard and index in the shard's row."""
        used = np.zeros(self._shards, bool)
        used[shard] = True
        numbers = np.flatnonzero(used)
        bounds = [(int(self._from[k]), int(self._to[k])) for k in numbers]
        counts = np.concatenate([self.counts[a:b] for a, b in bounds]).astype(np.int64)
        ends = np.cumsum(counts)
        # Index of each shard's first draw, and of its first document, in the concatenated counts.
        sizes = self._to[numbers] - self._from[numbers]
        edges = np.cumsum(sizes)
        begins = np.zeros(self._shards, np.int64)
        begins[numbers] = np.append(0, ends[edges[:-1] - 1])
        shift = np.zeros(self._shards, np.int64)
        shift[numbers] = self._from[numbers] - (edges - sizes)
        row = row + begins[shard]
        document = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[row]
        occurrence = row - (ends - counts)[document]
        draws: Ints = (document + shift[shard]) | occurrence << SAMPLE_BITS
        return draws


def _scattered(numbers: npt.NDArray[np.uint32], salt: npt.NDArray[np.uint32]) -> Any:
    """Return pseudorandom uint32 numbers: the last steps of MurmurHash3 (Appleby 2011)."""
    x = numbers * np.uint32(0x9E3779B1) + salt
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return x


def _ascending(times: Ints) -> Ints:
    """Return the indices that sort the times; a stable sort."""
    bits = len(times).bit_length()
    if not len(times) or int(times.max()).bit_length() + bits > 63:
        return np.argsort(times, kind="stable")
    # Several times as fast as a stable argsort.
    packed = times << bits | np.arange(len(times))
    packed.sort()
    return packed & ((1 << bits) - 1)


def _ramp(lengths: Ints) -> Ints:
    """Return 0 to n - 1 for each length n, concatenated."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - lengths, lengths)
