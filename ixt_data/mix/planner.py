"""Planning: the exact draws of a train run from a mix and a snapshot."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from hashlib import blake2b
from itertools import pairwise, product
from math import ceil

import numpy as np
import numpy.typing as npt

from ixt_data.errors import MixError
from ixt_data.log import TOKENS, ShardInfo
from ixt_data.mix.config import Mix, Selection
from ixt_data.mix.draw_counts import (
    Counts,
    Ints,
    chunks,
    count_draws,
    equal_weights,
    round_draws,
    smallest_dtype,
    softmax_weights,
    split_counts,
    spread_draws,
)
from ixt_data.mix.draw_group import DrawGroup, count_distinct, mark_positions
from ixt_data.mix.order import PhaseOrder
from ixt_data.mix.plan import COUNTS, PASSES, SPLIT, MixPlan, SelectionPlan
from ixt_data.mix.predicates import Scope, critics_in
from ixt_data.mix.random_numbers import RandomNumbers
from ixt_data.records import content_id
from ixt_data.store import Store

# Raise this when the order of a mix changes. Old train runs then refuse to resume.
ORDER_VERSION = 3
EPOCH_SAMPLES = 1 << 22
BLOCK = 1 << 18
CHARACTERS_PER_TOKEN = 4.0


def plan_mix(
    mix: Mix,
    samples: int | None = None,
    *,
    store: Store | None = None,
    batch: int = 1,
    holdout: float = 0.0,
    epoch_samples: int = EPOCH_SAMPLES,
    block: int = BLOCK,
    nodes: int = 1,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
    scope_of: Callable[[Store, Mix, float], Scope] = Scope,
) -> MixPlan:
    """Plan the draws of a train run. Equal snapshots, mixes and sizes give equal plans.

    Args:
        mix: the mix.
        samples: total number of draws; by default the number of available documents.
        store: the store to draw from; by default the store that the mix names.
        batch: samples per step over all processes; epochs and phases end with a batch.
        holdout: share of documents, by doc_id, that is never drawn; see `held_out_predicate`.
        epoch_samples: maximum number of draws per epoch; bounds the memory of the order.
        block: number of samples over which the shuffle spreads a shard.
        nodes: number of nodes that read different shards; must divide `batch`.
        characters_per_token: ratio for the estimate of tokens.
        scope_of: constructor of the scope of the predicates.

    Raises:
        MixError: the mix cannot be drawn from this snapshot; the message contains the numbers.
        StoreError: the store of the mix does not exist.

    Examples:
        >>> import tempfile, ixt_data
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("A quick brown fox.")
        >>> store = ixt_data.open_store(folder / "S", create=True)
        >>> _ = ixt_data.ingest(store, "web", [folder / "a.txt"])
        >>> mix = ixt_data.Mix(store=store.root, condition={"kind": "none"})
        >>> plan = ixt_data.plan_mix(mix, samples=4)
        >>> plan.documents, plan.samples, len(plan.order(0))
        (1, 4, 4)
    """
    if batch % nodes:
        raise MixError(f"nodes: {nodes} does not divide the batch of {batch} samples")
    with scope_of(store or Store.open(mix.store), mix, holdout) as scope:
        mix = scope.mix
        groups, warnings = _groups(scope, mix)
        samples = _check_samples(samples, batch, groups)
        bounds, more = _phase_bounds(mix, samples, batch)
        draws = _draws(groups, bounds)
        per_phase, drawn_for, selections = _count(scope, mix, groups, draws)
        documents = _documents(per_phase, len(scope.critics))
        warnings += more + _shortfalls(mix, groups, draws, bounds)
        shards, starts, per_phase, drawn_for = _used(scope, mix, per_phase, drawn_for)
        version = scope.snapshot.version
        token_shards = _token_shards(scope, shards)
    orders = []
    for phase, counts in enumerate(per_phase):
        numbers = RandomNumbers(PASSES, phase, mix.seed)
        orders.append(PhaseOrder(counts, starts, numbers, block))
    epochs = ceil(samples / max(epoch_samples // batch * batch, batch))
    size = ceil(samples / epochs / batch) * batch
    paths = [[text.path, critique and critique.path] for text, critique in shards]
    decides = {
        "order": ORDER_VERSION, "snapshot": version, "shards": paths, "mix": mix.content(),
        "samples": samples, "epoch": size, "phases": bounds, "holdout": holdout, "block": block,
        "nodes": nodes, "counts": _counts_digest(per_phase),
    }  # fmt: skip
    return MixPlan(
        version=version,
        shards=tuple(shards),
        mix=mix,
        samples=samples,
        epoch_samples=size,
        phases=tuple(bounds),
        selections=tuple(selections),
        documents=documents,
        warnings=tuple(warnings),
        digest=content_id(decides),
        block=block,
        nodes=nodes,
        characters_per_token=characters_per_token,
        orders=tuple(orders),
        drawn_for=drawn_for,
        token_shards=token_shards,
    )


def _counts_digest(per_phase: Sequence[Counts]) -> str:
    """Return a digest of the draws of every position in each phase."""
    digest = blake2b(digest_size=16)
    for counts in per_phase:
        for part in chunks(len(counts)):
            digest.update(counts[part].astype("<u4").data)
    return digest.hexdigest()


def _token_shards(
    scope: Scope, shards: Sequence[tuple[ShardInfo, ShardInfo | None]]
) -> dict[tuple[str, str], ShardInfo]:
    """Return the token shards of the drawn shards, of any tokenizer."""
    used = {shard.path for pair in shards for shard in pair if shard is not None}
    return {
        (shard.aligned_with, shard.family): shard
        for shard in scope.snapshot.shards
        if shard.aligned_with in used and shard.family.startswith(f"{TOKENS}/")
    }


def _groups(scope: Scope, mix: Mix) -> tuple[list[DrawGroup], list[str]]:
    """Return warnings, and one group per selection and predicate with its share of each phase."""
    phases = mix.phases()
    groups: dict[tuple[str, str], DrawGroup] = {}
    warnings: list[str] = []
    for number, phase in enumerate(phases):
        weights = {s.name: phase.weights.get(s.name, s.weight) for s in mix.selections}
        total = sum(map(Fraction, weights.values()))
        if not total:
            raise MixError(f"phase {number + 1} of {len(phases)}: all weights are 0")
        for selection in mix.selections:
            if not weights[selection.name]:
                continue
            where = phase.where.get(selection.name, selection.where)
            key = (selection.name, where)
            if key not in groups:
                groups[key], warned = _group(scope, mix, selection, where, len(phases))
                warnings += warned
            groups[key].shares[number] = Fraction(weights[selection.name]) / total
    return list(groups.values()), warnings


def _group(
    scope: Scope, mix: Mix, selection: Selection, where: str, phases: int
) -> tuple[DrawGroup, list[str]]:
    name, critic = selection.name, mix.critic_of(selection)
    by, temperature = mix.weighting.by, mix.weighting.temperature
    matches = scope.find(name, where, by if temperature else None, critic)
    n = matches.documents
    if not n and not scope.shards:
        raise MixError(f"snapshot {scope.snapshot.version} has no documents; add some: ixt ingest")
    if not n:
        corpora = ", ".join(mix.corpus or scope.snapshot.corpora) or "no corpus"
        besides = f" outside of the holdout of {scope.holdout:g}" if scope.holdout else ""
        raise MixError(
            f"selection {name!r}: no {scope.noun} of {corpora} in snapshot "
            f"{scope.snapshot.version}{besides} satisfies {where!r}. List the scores: "
            "ixt query 'SUMMARIZE critiques'"
        )
    weights, warnings = equal_weights(n), []
    if temperature and matches.values is not None:
        missing = np.isnan(matches.values)
        if missing.any():
            warnings.append(
                f"selection {name!r}: {int(missing.sum()):,} of {n:,} documents have no {by}; they "
                "are weighted as 0"
            )
        weights = softmax_weights(np.where(missing, 0.0, matches.values), temperature)
    numbers, limit = tuple(map(scope.critics.index, critics_in(critic))), selection.max_repeats
    shares = [Fraction(0)] * phases
    return DrawGroup(name, where, numbers, matches, weights, limit, shares), warnings


def _check_samples(samples: int | None, batch: int, groups: Sequence[DrawGroup]) -> int:
    if samples is None:
        available = count_distinct(groups)
        samples = available // batch * batch
        if not samples:
            raise MixError(f"{available:,} documents are fewer than one batch of {batch:,} samples")
    if samples < 1:
        raise MixError(f"samples: {samples} must be at least one batch of {batch:,}")
    if samples % batch:
        below, above = samples // batch * batch, -(-samples // batch) * batch
        valid = f"{below:,} or {above:,}" if below > 0 else f"{above:,}"
        raise MixError(
            f"samples: {samples:,} is not a multiple of the batch of {batch:,}; some samples would "
            f"be repeated to fill the last one. Nearest: {valid}"
        )
    return samples


def _phase_bounds(mix: Mix, samples: int, batch: int) -> tuple[list[int], list[str]]:
    ends = np.cumsum([phase.share for phase in mix.phases()])
    bounds = [0] + [round(float(end) * samples / batch) * batch for end in ends[:-1]] + [samples]
    warnings = [
        f"phase {number + 1} is shorter than one batch and draws nothing"
        for number, (a, b) in enumerate(pairwise(bounds))
        if a == b
    ]
    return bounds, warnings


def _draws(groups: Sequence[DrawGroup], bounds: Sequence[int]) -> Ints:
    """Compute draws per group and phase, int64[groups, phases].

    Raises:
        MixError: max_repeats allows too few draws.
    """
    demand = [end - begin for begin, end in pairwise(bounds)]
    capacity = [group.capacity for group in groups]
    given = spread_draws(demand, [group.shares for group in groups], capacity)
    draws = round_draws(given, demand, capacity)
    short = demand - draws.sum(axis=0)
    if short.any():
        phase = int(np.argmax(short))
        limits = ", ".join(
            f"{group.name} {limit:,} ({group.matches.documents:,} documents x {group.max_repeats})"
            for group, limit in zip(groups, capacity, strict=True)
            if limit is not None
        )
        raise MixError(
            f"phase {phase + 1} needs {demand[phase]:,} samples and gets "
            f"{draws[:, phase].sum():,}: max_repeats limits the run to {limits}. Draw fewer "
            "samples, raise max_repeats, or give weight to other selections"
        )
    return draws


def _count(
    scope: Scope, mix: Mix, groups: Sequence[DrawGroup], draws: Ints
) -> tuple[list[Counts], Counts | None, list[SelectionPlan]]:
    """Return the draws of every position in each phase, `drawn_for`, and the selection plans."""
    documents, critics = sum(shard.samples for shard in scope.shards), len(scope.critics)
    per_phase: list[Counts] = [np.zeros(0, np.uint8)] * draws.shape[1]
    names = [selection.name for selection in mix.selections]
    drawn_for = (
        None
        if len(names) == 1
        else np.zeros(documents * critics, np.min_scalar_type(len(names) + 1))
    )
    metrics: dict[str, list[tuple[DrawGroup, int, int]]] = {}
    for number, (group, parts) in enumerate(zip(groups, draws, strict=True)):
        n = int(parts.sum())
        numbers = RandomNumbers(COUNTS, number, mix.seed)
        counts = count_draws(group.weights, n, group.max_repeats, numbers)
        numbers = RandomNumbers(SPLIT, number, mix.seed)
        for phase, part in enumerate(split_counts(counts, parts.tolist(), numbers)):
            per_phase[phase] = _added(per_phase[phase], part, group, documents, critics)
        if drawn_for is not None:
            selection = names.index(group.name)
            mark_positions(drawn_for, group, counts, selection, len(names), documents)
        largest = int(counts.max(initial=0))
        metrics.setdefault(group.name, []).append(
            (group, _dot(counts, group.matches.chars), largest)
        )
    own = {selection.name: selection for selection in mix.selections}
    selections = [
        SelectionPlan(
            name=name,
            where=own[name].where,
            documents=count_distinct([group for group, _, _ in parts]),
            samples=sum(int(drawn.sum()) for drawn in _of(draws, groups, name)),
            characters=sum(characters for _, characters, _ in parts),
            weight=_share(mix, name),
            max_draws=max(largest for _, _, largest in parts),
            use=own[name].use,
        )
        for name, parts in metrics.items()
    ]
    return per_phase, drawn_for, selections


def _added(counts: Counts, part: Counts, group: DrawGroup, documents: int, critics: int) -> Counts:
    """Add the counts of one group to the counts per position."""
    if not len(counts):
        if group.matches.places is None and critics == 1:
            return part
        counts = np.zeros(documents * critics, part.dtype)
    most = int(counts.max(initial=0)) + int(part.max(initial=0))
    counts = counts.astype(np.promote_types(counts.dtype, smallest_dtype(most)))
    own, places = group.positions(counts, documents)
    own[places] += part.astype(counts.dtype, copy=False)
    return counts


def _dot(counts: Counts, chars: npt.NDArray[np.uint32]) -> int:
    """Return the characters of all draws."""
    return sum(
        int(counts[part].astype(np.int64) @ chars[part].astype(np.int64))
        for part in chunks(len(counts))
    )


def _of(draws: Ints, groups: Sequence[DrawGroup], name: str) -> list[Ints]:
    """Return the draws per phase of the groups of one selection."""
    return [parts for group, parts in zip(groups, draws, strict=True) if group.name == name]


def _share(mix: Mix, name: str) -> float:
    """Return the share of one selection in the mix."""
    total = sum(selection.weight for selection in mix.selections)
    own = next(selection.weight for selection in mix.selections if selection.name == name)
    return own / total if total else 0.0


def _documents(per_phase: Sequence[Counts], critics: int) -> int:
    """Count the distinct drawn documents, over all critics."""
    parts = [part for counts in per_phase for part in np.split(counts, critics)]
    return sum(
        int(np.count_nonzero(np.logical_or.reduce([part[piece] for part in parts])))
        for piece in chunks(len(parts[0]))
    )


def _shortfalls(
    mix: Mix, groups: Sequence[DrawGroup], draws: Ints, bounds: Sequence[int]
) -> list[str]:
    demand, warnings = [end - begin for begin, end in pairwise(bounds)], []
    for group, got in zip(groups, draws.sum(axis=1), strict=True):
        expected = float(sum(s * n for s, n in zip(group.shares, demand, strict=True)))
        limit = group.capacity
        if limit is not None and got < expected - len(demand) and got >= limit:
            warnings.append(
                f"selection {group.name!r}: max_repeats {group.max_repeats} x "
                f"{group.matches.documents:,} documents give {got:,} of {expected:,.0f} samples; "
                "the others draw the rest"
            )
    return warnings


def _used(
    scope: Scope, mix: Mix, per_phase: list[Counts], drawn_for: Counts | None
) -> tuple[list[tuple[ShardInfo, ShardInfo | None]], Ints, list[Counts], Counts | None]:
    """Return the shards with draws, the first position of each, and its draws and selection."""
    conditions = [mix.condition_in(phase) for phase in mix.phases()]
    reads = any(condition.reads_critiques for condition in conditions)
    pairs = list(product(scope.critics, scope.shards))
    sizes = np.array([shard.samples for _, shard in pairs], np.int64)
    starts = np.cumsum(np.append(0, sizes))[:-1]
    drawn = [np.add.reduceat(counts, starts, dtype=np.int64) for counts in per_phase]
    used = np.sum(drawn, axis=0) > 0
    shards = [
        (shard, scope.critiques_of(shard, critic) if reads else None)
        for (critic, shard), is_used in zip(pairs, used, strict=True)
        if is_used
    ]
    starts = np.cumsum(np.concatenate([[0], sizes[used]]))[:-1]
    if used.all():
        return shards, starts, per_phase, drawn_for
    mask = np.repeat(used, sizes)
    counts = [counts[mask] for counts in per_phase]
    return shards, starts, counts, None if drawn_for is None else drawn_for[mask]
