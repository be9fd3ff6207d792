"""Exact integer draw counts per document, and their split over phases.

All counts come from integers and fractions, so they are equal on any machine: floating-point sums
and exponentials depend on the processor and on the version of NumPy.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.mix.random_numbers import RandomNumbers

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.unsignedinteger[Any]]
"""Draws per document, in the smallest integer type that fits, to save memory."""

# Fits the caches of a processor.
_CHUNK = 1 << 18
_GOLDEN = (math.sqrt(5) - 1) / 2
# A weight has at most 40 bits, and the sum of all weights at most 60: see `_quotients`.
_WEIGHT_BITS, _SUM_BITS = 40, 60
_TABLE_BITS = 11
_FRACTION_BITS = 3 * _TABLE_BITS


def softmax_weights(scores: Floats, temperature: float) -> Ints:
    """Return exp(score / temperature), scaled and rounded to integers of at least 1.

    The largest is about 2**40, or less for more than a million documents. The power of two is
    a product of table entries in fixed-point arithmetic, with a relative error below 2**-30.

    Args:
        scores: float64[documents].
        temperature: positive.
    """
    bits = min(_WEIGHT_BITS, _SUM_BITS - len(scores).bit_length())
    weights = np.empty(len(scores), np.int64)
    high, middle, low = _power_tables()
    mask = (1 << _TABLE_BITS) - 1
    scale, largest = temperature * math.log(2), scores.max()
    for part in chunks(len(scores)):
        # Each operation is exact or correctly rounded.
        exponents = np.minimum((largest - scores[part]) / scale, 63.0)
        fixed = np.floor(exponents * 2.0**_FRACTION_BITS).astype(np.int64)
        power = high[fixed >> 2 * _TABLE_BITS & mask]
        power = power * middle[fixed >> _TABLE_BITS & mask] >> np.uint64(31)
        power = power * low[fixed & mask] >> np.uint64(31)
        shift = (fixed >> _FRACTION_BITS).astype(np.uint64)
        shifted = (power << np.uint64(bits - 31)) >> shift if bits >= 31 else power >> shift
        weights[part] = np.maximum(shifted.astype(np.int64), 1)
    return weights


@cache
def _power_tables() -> tuple[npt.NDArray[np.uint64], ...]:
    """Return 2**-(i / 2**11), 2**-(i / 2**22) and 2**-(i / 2**33), times 2**31, for i < 2**11."""
    tables = []
    one, root = 1 << 128, 1 << 127
    for _ in range(3):
        for _ in range(_TABLE_BITS):
            root = math.isqrt(root << 128)
        entries, power = [], one
        for _ in range(1 << _TABLE_BITS):
            entries.append(power + (1 << 96) >> 97)
            power = power * root >> 128
        tables.append(np.array(entries, np.uint64))
    return tuple(tables)


def count_draws(weights: Ints, total: int, cap: int | None, numbers: RandomNumbers) -> Counts:
    """Return integer counts that sum to `total`, each less than 1 from its expectation.

    Expectations are proportional to the weights, at most `cap` each. Systematic resampling
    (Kitagawa 1996) in integers. A document of weight 0 is never drawn, and an integer expectation
    is exact.

    Args:
        weights: integers >= 0, int64[documents]; their sum is at most 2**60.
        total: number of draws; at most `cap` times the documents of weight > 0.
        cap: maximum draws of one document; None sets no limit.
        numbers: the start of the resampling.
    """
    full, mass, left = _full_documents(weights, total, cap)
    dtype = smallest_dtype(int(weights.max(initial=0)) * left // max(mass, 1) + 1)
    if full is not None:
        dtype = smallest_dtype(cap or 0)
    counts: Counts = np.zeros(len(weights), dtype)
    start = numbers.below(mass) if mass else 0
    begin = taken = 0
    for part in chunks(len(weights)):
        own = weights[part]
        if full is not None:
            counts[part] = np.where(full[part], cap or 0, 0).astype(dtype)
            own = np.where(full[part], 0, own)
        if not mass:
            continue
        edges = begin + np.cumsum(own)
        steps = _quotients(edges, left, mass, start)
        counts[part] += np.diff(steps, prepend=taken).astype(dtype)
        begin, taken = int(edges[-1]), int(steps[-1])
    return counts


def _full_documents(
    weights: Ints, total: int, cap: int | None
) -> tuple[npt.NDArray[np.bool_] | None, int, int]:
    """Return which documents reach the cap, the weight of the others, and the draws left."""
    mass, left = int(weights.sum(dtype=np.int64)), total
    if cap is None or not mass or int(weights.max()) * left <= cap * mass:
        return None, mass, left
    full = np.zeros(len(weights), bool)
    while mass and (over := (weights > cap * mass // left) & ~full).any():
        full |= over
        mass -= int(weights[over].sum())
        left -= cap * int(np.count_nonzero(over))
        if left <= 0:
            break
    return full, mass if left > 0 else 0, max(left, 0)


def _quotients(edges: Ints, factor: int, divisor: int, start: int) -> Ints:
    """Return floor((edges x factor + start) / divisor), exactly.

    A product has up to 128 bits. The quotient in floating point is off by 1 at most, and the
    remainder of it fits 64 bits, so that arithmetic modulo 2**64 corrects it.

    Args:
        edges: from 0 to `divisor`, int64.
        factor: below 2**48.
        divisor: at most 2**60.
        start: below `divisor`.
    """
    steps: Ints = (edges * (factor / divisor)).astype(np.int64)
    product = edges.view(np.uint64) * np.uint64(factor) + np.uint64(start)
    rest = (product - steps.view(np.uint64) * np.uint64(divisor)).view(np.int64)
    while (below := rest < 0).any():
        steps -= below
        rest += below * divisor
    while (above := rest >= divisor).any():
        steps += above
        rest -= above * divisor
    return steps


def equal_weights(n: int) -> Ints:
    """Return `n` weights of 1 as a broadcast view of one number."""
    return np.broadcast_to(np.int64(1), n)


def chunks(n: int) -> Iterator[slice]:
    """Yield slices of `n` documents, to bound temporary memory."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def smallest_dtype(maximum: int) -> npt.DTypeLike:
    """Return the smallest unsigned type for counts up to `maximum`."""
    return np.min_scalar_type(max(maximum, 0))


def spread_draws(
    demand: Sequence[int],
    weights: Sequence[Sequence[Fraction]],
    capacity: Sequence[int | None],
) -> list[list[Fraction]]:
    """Return expected draws per group and phase, within the capacity of each group.

    Draws beyond a group's capacity go to the other groups of the phase, in proportion to their
    weights. A phase with a sum below its demand cannot be filled.

    Args:
        demand: draws per phase.
        weights: share of each group in each phase; those of a phase sum to 1.
        capacity: maximum draws of each group over the run, None for no limit.
    """
    phases, groups = range(len(demand)), range(len(capacity))
    given = [[share * n for share, n in zip(row, demand, strict=True)] for row in weights]
    full = [limit == 0 for limit in capacity]
    for group in groups:
        if full[group]:
            given[group] = [Fraction(0)] * len(demand)
    for _ in range(len(capacity) + 1):
        for group, limit in enumerate(capacity):
            total = sum(given[group])
            if limit is not None and total >= limit and total:
                given[group] = [part * limit / total for part in given[group]]
                full[group] = True
        changed = False
        for phase in phases:
            missing = demand[phase] - sum(given[group][phase] for group in groups)
            takers = [group for group in groups if not full[group]]
            weight = sum((weights[group][phase] for group in takers), Fraction(0))
            if missing > 0 and weight:
                changed = True
                for group in takers:
                    given[group][phase] += weights[group][phase] / weight * missing
        if not changed:
            break
    return given


def round_draws(
    given: Sequence[Sequence[Fraction]], demand: Sequence[int], capacity: Sequence[int | None]
) -> Ints:
    """Round draws per group and phase, int64[groups, phases].

    Phases sum to their demand, and groups stay within their capacity. Largest remainders first. If
    rounding leaves no capacity, a phase stays below its demand.
    """
    counts = [[math.floor(part) for part in row] for row in given]
    for phase, needed in enumerate(demand):
        remainders = [row[phase] - math.floor(row[phase]) for row in given]
        order = sorted(range(len(given)), key=lambda group: -remainders[group])
        takers = [group for group in order if given[group][phase] > 0]
        left = needed - sum(row[phase] for row in counts)
        while left > 0:
            open_groups = [
                group
                for group in takers
                if (limit := capacity[group]) is None or sum(counts[group]) < limit
            ][:left]
            if not open_groups:
                break
            for group in open_groups:
                counts[group][phase] += 1
            left -= len(open_groups)
    return np.array(counts, np.int64).reshape(len(given), len(demand))


def lattice(total: int) -> tuple[int, int]:
    """Return a step coprime to `total` near its golden section, and its inverse modulo `total`.

    Multiples of the step visit every residue once, and consecutive ones are far apart (three-gap
    theorem). So neighbours are spread evenly over the run.
    """
    step = max(1, round(total * _GOLDEN))
    while math.gcd(step, total) != 1:
        step += 1
    return step % total, pow(step, -1, total)


def split_counts(counts: Counts, parts: Sequence[int], numbers: RandomNumbers) -> list[Counts]:
    """Split counts per document over the parts of the run; the parts sum to `counts`.

    Args:
        counts: draws per document over the run.
        parts: number of draws of each part; they sum to the draws of the run.
        numbers: the start of the first part.
    """
    if len([part for part in parts if part]) <= 1:
        return [counts if part else np.zeros_like(counts) for part in parts]
    total = int(counts.sum(dtype=np.int64))
    step, _ = lattice(total)
    offset, done = numbers.below(total), 0
    bounds = np.cumsum(parts)
    split = [np.zeros_like(counts) for _ in parts]
    for piece in chunks(len(counts)):
        own = counts[piece].astype(np.int64)
        n = int(own.sum())
        # The position in time of each draw. Python's integers do not overflow.
        first = (offset + done * step) % total
        times = (first + np.arange(n, dtype=np.int64) * step) % total
        document = np.repeat(np.arange(len(own)), own)
        for number, (begin, end) in enumerate(pairwise([0, *bounds.tolist()])):
            inside = document[(times >= begin) & (times < end)]
            split[number][piece] = np.bincount(inside, minlength=len(own))
        done += n
    return split
