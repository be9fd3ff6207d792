"""Exact integer draw counts per document, and their split over phases."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.unsignedinteger[Any]]
"""Draws per document, in the smallest integer type that fits, to save memory."""

# An expectation this close to an integer counts as the integer: rounding must not add a draw.
_SNAP = 1e-9
_CHUNK = 1 << 22
_GOLDEN = (math.sqrt(5) - 1) / 2


def softmax(scores: Floats, temperature: float) -> Floats:
    """Return exp(score / temperature), scaled to a maximum of 1; float64[documents]."""
    weights: Floats = np.exp((scores - scores.max()) / temperature)
    return weights


def expectations(weights: Floats, total: int, cap: int | None) -> Floats:
    """Return expected draws per document: proportional to the weights, at most `cap` each.

    Args:
        weights: >= 0, float64[documents].
        total: number of draws; at most `cap` times the documents of weight > 0.
        cap: maximum draws of one document; None sets no limit.
    """
    if not weights.strides[0]:
        # Equal weights: a broadcast view, with one number in memory.
        return np.broadcast_to(np.float64(total / len(weights)), len(weights))
    expected: Floats = weights * (total / weights.sum())
    if cap is None or expected.max() <= cap:
        return expected
    full = np.zeros(len(weights), bool)
    while (over := (expected > cap) & ~full).any():
        full |= over
        rest = weights[~full].sum()
        scale = max(total - cap * int(full.sum()), 0) / rest if rest else 0.0
        expected = np.where(full, float(cap), weights * scale)
    return expected


def equal_weights(n: int) -> Floats:
    """Return `n` weights of 1 as a broadcast view of one number."""
    return np.broadcast_to(np.float64(1), n)


def chunks(n: int) -> Iterator[slice]:
    """Yield slices of a few million of `n` documents, to bound temporary memory."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def smallest_dtype(maximum: int) -> npt.DTypeLike:
    """Return the smallest unsigned type for counts up to `maximum`."""
    return np.min_scalar_type(max(maximum, 0))


def systematic_counts(expected: Floats, total: int, rng: np.random.Generator) -> Counts:
    """Return integer counts that sum to `total`, each less than 1 from its expectation.

    Systematic resampling (Kitagawa 1996) of the fractional parts. A document with expectation 0 is
    never drawn, and an integer expectation is exact.
    """
    counts = np.zeros(len(expected), smallest_dtype(int(expected.max(initial=0) + _SNAP) + 1))
    edge, given, last = 0.0, 0, -1
    for part in chunks(len(expected)):
        floor, fractions, some = _parts(expected[part])
        counts[part] = floor
        given += int(floor.sum())
        if len(some):
            edge = float(np.cumsum(np.append(edge, fractions[some]))[-1])
            last = part.start + int(some[-1])
    left, taken, begin, scale = total - given, 0, 0.0, 1.0
    if not left or last < 0:
        return counts
    scale, start = left / edge, rng.random()
    for part in chunks(len(expected)):
        _, fractions, some = _parts(expected[part])
        edges = np.cumsum(np.append(begin, fractions[some]))[1:]
        if not len(some):
            continue
        begin = float(edges[-1])
        steps = np.minimum(np.floor(edges * scale + start).astype(np.int64), left)
        if part.start + some[-1] == last:
            steps[-1] = left
        counts[part.start + some] += np.diff(steps, prepend=taken).astype(counts.dtype)
        taken = int(steps[-1])
    return counts


def _parts(expected: Floats) -> tuple[Ints, Floats, Ints]:
    """Return integer parts, fractional parts, and the indices of fractional parts above 0."""
    floor: Ints = np.floor(expected + _SNAP).astype(np.int64)
    fractions = np.maximum(expected - floor, 0.0)
    fractions[(floor > 0) & (fractions < _SNAP)] = 0.0
    return floor, fractions, np.flatnonzero(fractions)


def spread_draws(demand: Floats, weights: Floats, capacity: Floats) -> Floats:
    """Return expected draws per group and phase, within the capacity of each group.

    Draws beyond a group's capacity go to the other groups of the phase, in proportion to their
    weights. A phase with a sum below its demand cannot be filled.

    Args:
        demand: draws per phase, float64[phases].
        weights: share of each group in each phase, float64[groups, phases]; columns sum to 1.
        capacity: maximum draws of each group over the run, inf for no limit, float64[groups].
    """
    given: Floats = weights * demand
    full = capacity <= 0
    given[full] = 0
    for _ in range(len(capacity) + 1):
        per_group = given.sum(axis=1)
        over = per_group > capacity * (1 + 1e-12)
        given[over] *= (capacity[over] / per_group[over])[:, None]
        full |= over
        missing = demand - given.sum(axis=0)
        takers = np.where(full[:, None], 0.0, weights)
        sums = takers.sum(axis=0)
        if not ((missing > 1e-6) & (sums > 0)).any():
            break
        given += np.divide(takers, sums, out=np.zeros_like(takers), where=sums > 0) * missing
    return given


def round_draws(given: Floats, demand: Ints, capacity: Floats) -> Ints:
    """Round draws per group and phase: phases sum to their demand, groups stay within capacity.

    Largest remainders first. If rounding leaves no capacity, a phase stays below its demand.
    """
    counts: Ints = np.floor(given + _SNAP).astype(np.int64)
    for phase in range(given.shape[1]):
        remainders = given[:, phase] - counts[:, phase]
        takers = [int(g) for g in np.argsort(-remainders, kind="stable") if given[g, phase] > 0]
        left = int(demand[phase] - counts[:, phase].sum())
        while left > 0:
            open_groups = [g for g in takers if counts[g].sum() < capacity[g]][:left]
            if not open_groups:
                break
            counts[open_groups, phase] += 1
            left -= len(open_groups)
    return counts


def lattice(total: int) -> tuple[int, int]:
    """Return a step coprime to `total` near its golden section, and its inverse modulo `total`.

    Multiples of the step visit every residue once, and consecutive ones are far apart (three-gap
    theorem). So neighbours are spread evenly over the run.
    """
    step = max(1, round(total * _GOLDEN))
    while math.gcd(step, total) != 1:
        step += 1
    return step % total, pow(step, -1, total)


def split_counts(counts: Counts, parts: Sequence[int], rng: np.random.Generator) -> list[Counts]:
    """Split counts per document over the parts of the run; the parts sum to `counts`.

    Args:
        counts: draws per document over the run.
        parts: number of draws of each part; they sum to the draws of the run.
        rng: generator for the start of the first part.
    """
    if len([part for part in parts if part]) <= 1:
        return [counts if part else np.zeros_like(counts) for part in parts]
    total = int(counts.sum(dtype=np.int64))
    step, _ = lattice(total)
    offset, done = int(rng.integers(total)), 0
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
