"""The order in which the draws of one phase come: shard by shard, shuffled, found piece by piece.

The draws of a shard stand in a row, document by document. With K the most draws of one of its
documents, the shard is read in K *passes*; every K-th draw of the row belongs to the same pass, so
that no document is twice in a pass and all passes are alike. Passes of all shards are put in order
of time, those of one shard evenly apart, and shuffled in blocks that end where the next pass of the
same shard begins. Only the piece that is asked for
is ever laid out, so memory is bounded by it and not by the run.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from ixt_data.errors import MixError
from ixt_data.mix.counts import Counts, Ints, lattice

SAMPLE_BITS, OCCURRENCE_BITS, REGIME_BITS = 36, 20, 7
MAX_OCCURRENCE = 1 << OCCURRENCE_BITS
_SAMPLE_MASK = (1 << SAMPLE_BITS) - 1
_REGIME_SHIFT = SAMPLE_BITS + OCCURRENCE_BITS


@dataclass(frozen=True, slots=True)
class Draw:
    """What the number of a draw says.

    Attributes:
        sample: offset of the document's shard in the plan's shards, plus its row.
        occurrence: how many draws of this document came before it in its row of the phase.
        phase: place in the mix's phases.
        cooled: whether it falls into the cooldown.
    """

    sample: int
    occurrence: int
    phase: int
    cooled: bool


def decode(draw: int) -> Draw:
    """The parts of one draw's number."""
    regime = draw >> _REGIME_SHIFT
    occurrence = (draw >> SAMPLE_BITS) & (MAX_OCCURRENCE - 1)
    return Draw(draw & _SAMPLE_MASK, occurrence, regime >> 1, bool(regime & 1))


def samples_of(draws: Ints) -> Ints:
    """The samples that some draws read, as numbers like `Draw.sample`."""
    return draws & _SAMPLE_MASK


def regimes_of(draws: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The phase of some draws, and whether each is in the cooldown."""
    regimes = draws >> _REGIME_SHIFT
    return regimes >> 1, (regimes & 1).astype(bool)


def regime_bits(phase: int, cooled: bool) -> int:
    """What to add to a draw's number for its phase and cooldown."""
    return (2 * phase + cooled) << _REGIME_SHIFT


class PhaseOrder:
    """The draws of one phase."""

    def __init__(self, counts: Counts, shard_starts: Ints, rng: np.random.Generator) -> None:
        """Lays the passes out in time; documents are not touched.

        Args:
            counts: how often each sample is drawn.
            shard_starts: first sample of each shard, ascending from 0.
            rng: decides when a shard's passes come.
        """
        most = int(counts.max(initial=0))
        if most >= MAX_OCCURRENCE:
            raise MixError(
                f"a document would be drawn {most:,} times in one phase; the most is "
                f"{MAX_OCCURRENCE - 1:,}. Set max_repeats, or draw fewer samples"
            )
        rows = np.add.reduceat(counts, shard_starts, dtype=np.int64)
        passes = np.maximum.reduceat(counts, shard_starts).astype(np.int64)
        drawn = rows > 0
        ends = np.append(shard_starts[1:], len(counts))
        self._counts = counts
        self._from, self._to = shard_starts[drawn], ends[drawn]
        self.samples = int(rows.sum())
        self._lay_out(rows[drawn], passes[drawn], rng)

    def _lay_out(self, rows: Ints, passes: Ints, rng: np.random.Generator) -> None:
        self._shards = shards = len(rows)
        # Stratified: the first passes of the shards are themselves evenly spread.
        offsets = (rng.permutation(shards) + rng.random(shards)) / max(shards, 1)
        turns = rng.integers(1 << 30, size=shards)
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
        self._starts = np.concatenate([[0], np.cumsum(self._size)]).astype(np.int64)

    def shards_at_once(self, block: int) -> int:
        """Shards that are read in turns when documents are spread over `block` samples."""
        if not self.samples:
            return 0
        per_pass = self.samples / len(self._size)
        return min(self._shards, ceil(block / per_pass) + 1)

    def draws(
        self, start: int, stop: int, block: int, lanes: int, rng: np.random.Generator
    ) -> Ints:
        """The draws `start` to `stop` of this phase, shuffled among themselves.

        Args:
            start: first draw, 0 to `samples`.
            stop: after the last.
            block: samples over which a pass is spread, at most to the shard's next one.
            lanes: parts in which draws stay near each other, dealt out in turn; divides the length.
            rng: the shuffle.
        """
        length = stop - start
        if not length:
            return np.empty(0, np.int64)
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        skip = np.zeros(last - first, np.int64)
        skip[0] = start - self._starts[first]
        take = self._size[first:last] - skip
        take[-1] -= self._starts[last] - stop
        unit = np.repeat(np.arange(last - first), take)
        place = _ramp(take) + skip[unit]
        row = self._first[first:last][unit] + place * self._stride[first:last][unit]
        # A pass is spread over the block, but never into the shard's next one: a document comes
        # again only after all others did (random reshuffling; drawing with repeats learns slower).
        period = self.samples / self._stride[first:last]
        width = np.maximum(np.minimum(block, period), take)
        middle = self._starts[first:last] - start + skip + take / 2
        keys = middle[unit] + (rng.random(length) - 0.5) * width[unit]
        shard = self._shard[first:last][unit]
        return self._numbers(shard, row)[_shuffled(keys, lanes)]

    def _numbers(self, shard: Ints, row: Ints) -> Ints:
        """The numbers of some draws, by shard and place in the shard's row."""
        used = np.zeros(self._shards, bool)
        used[shard] = True
        numbers = np.flatnonzero(used)
        bounds = [(int(self._from[k]), int(self._to[k])) for k in numbers]
        counts = np.concatenate([self._counts[a:b] for a, b in bounds]).astype(np.int64)
        ends = np.cumsum(counts)
        # Row of each shard's first draw, and sample of its first document, among those laid out.
        sizes = self._to[numbers] - self._from[numbers]
        edges = np.cumsum(sizes)
        begins = np.zeros(self._shards, np.int64)
        begins[numbers] = np.append(0, ends[edges[:-1] - 1])
        shift = np.zeros(self._shards, np.int64)
        shift[numbers] = self._from[numbers] - (edges - sizes)
        row = row + begins[shard]
        document = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[row]
        occurrence = row - (ends - counts)[document]
        found: Ints = (document + shift[shard]) | occurrence << SAMPLE_BITS
        return found


def _shuffled(keys: npt.NDArray[np.float64], lanes: int) -> Ints:
    """Places in ascending order of key within each lane; the lanes take turns."""
    lane = len(keys) // lanes
    order = np.argsort(keys.reshape(lanes, lane), axis=1, kind="stable")
    places: Ints = (order + np.arange(lanes)[:, None] * lane).T.reshape(-1)
    return places


def _ramp(lengths: Ints) -> Ints:
    """0 to n - 1 for each length n, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - lengths, lengths)
