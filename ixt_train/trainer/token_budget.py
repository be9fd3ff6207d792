"""Plans of a number of tokens: the tokens of every draw, counted once per document and feedback."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np

from ixt_data.console import Output
from ixt_data.log import ShardInfo
from ixt_data.mix import Ints, MixPlan, regimes_of, samples_of
from ixt_data.records import Span
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner

_MAX_PLANS = 8


class TokenCounter:
    """A counter of the tokens that the model sees in the draws of plans.

    It tokenizes a document once for each feedback that it is drawn with, on all cores, and stores
    16 bytes for each.
    """

    def __init__(
        self,
        store: Store,
        conditioner: Conditioner,
        max_tokens: int | None,
        out: Output | None = None,
    ) -> None:
        """Set how samples become tokens.

        Args:
            store: the store of the plans.
            conditioner: the conditioner of training.
            max_tokens: longer samples are cut; None cuts none.
            out: destination of progress; None shows none.
        """
        self._store, self._conditioner, self._out = store, conditioner, out
        self._max_tokens = max_tokens
        self._known: dict[str, tuple[Ints, Ints]] = {}

    def count(self, plan: MixPlan) -> int:
        """Return the number of tokens in all draws of a plan."""
        return sum(self._count_epoch(plan, epoch) for epoch in range(plan.epochs))

    def _count_epoch(self, plan: MixPlan, epoch: int) -> int:
        draws = plan.order(epoch)
        samples_per_shard = np.array([text.samples for text, _ in plan.shards], np.int64)
        starts = np.cumsum(np.append(0, samples_per_shard))
        samples = samples_of(draws)
        shards = np.searchsorted(starts, samples, "right") - 1
        rows, sizes = samples - starts[shards], samples_per_shard[shards]
        given = plan.feedback_given(draws)
        feedback_rows = np.where(given, plan.feedback_rows(draws, rows, sizes), rows)
        phases, _ = regimes_of(draws)
        # One number for all that the length of a draw depends on, within its shard.
        keys = ((rows * sizes + feedback_rows) * len(plan.conditions) + phases) * 2 + given
        order = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[order], return_index=True)
        by_shard = dict(zip(numbers.tolist(), np.split(keys[order], firsts[1:]), strict=True))
        drawn = {n: np.unique(own, return_counts=True) for n, own in by_shard.items()}
        unknown = {n: self._unknown(plan.shards[n], own) for n, (own, _) in drawn.items()}
        self._learn(plan, {n: own for n, own in unknown.items() if len(own)})
        return sum(self._tokens(plan.shards[n], *found) for n, found in drawn.items())

    def _unknown(self, pair: tuple[ShardInfo, ShardInfo | None], keys: Ints) -> Ints:
        known, _ = self._known.get(_name(pair), (keys[:0], keys[:0]))
        return np.setdiff1d(keys, known, assume_unique=True)

    def _tokens(self, pair: tuple[ShardInfo, ShardInfo | None], keys: Ints, counts: Ints) -> int:
        known, lengths = self._known[_name(pair)]
        return int((lengths[np.searchsorted(known, keys)] * counts).sum())

    def _learn(self, plan: MixPlan, unknown: dict[int, Ints]) -> None:
        """Tokenize the draws of some keys by shard, the shards in parallel."""
        total = sum(map(len, unknown.values()))
        conditioners = [
            self._conditioner
            if condition == self._conditioner.condition
            else self._conditioner.with_condition(condition)
            for condition in plan.conditions
        ]

        def measure(number: int) -> tuple[int, Ints]:
            lengths = self._lengths(plan.shards[number], unknown[number], conditioners)
            return number, np.fromiter(lengths, np.int64, len(unknown[number]))

        # The tokenizer leaves Python's lock while it works.
        cores = len(os.sched_getaffinity(0))
        with self._progress(total) as bar, ThreadPoolExecutor(cores) as pool:
            done = 0
            for number, lengths in pool.map(measure, unknown):
                name, keys = _name(plan.shards[number]), unknown[number]
                known, former = self._known.get(name, (keys[:0], lengths[:0]))
                at = np.searchsorted(known, keys)
                self._known[name] = np.insert(known, at, keys), np.insert(former, at, lengths)
                done += len(keys)
                if bar is not None:
                    bar.update(done)

    def _progress(self, total: int) -> Any:
        if self._out is None or not total:
            return nullcontext()
        return self._out.progress("Counting tokens", total=total, unit="documents")

    def _lengths(
        self,
        pair: tuple[ShardInfo, ShardInfo | None],
        keys: Ints,
        conditioners: list[Conditioner],
    ) -> Iterator[int]:
        """Yield the tokens of the draws with some keys of one shard."""
        text, critique = pair
        texts = list(self._store.shard(text).column("text"))
        columns = ("critique", "score", "spans")
        critiques = list(self._store.shard(critique).rows(columns)) if critique else None
        rest, given = np.divmod(keys, 2)
        rest, phases = np.divmod(rest, len(conditioners))
        rows, feedback_rows = np.divmod(rest, text.samples)
        for row, feedback_row, phase, has_feedback in zip(
            *(part.tolist() for part in (rows, feedback_rows, phases, given)), strict=True
        ):
            conditioner = conditioners[phase]
            own: dict[str, Any] = {}
            if critiques is not None:
                feedback = critiques[feedback_row]
                own = {"critique": feedback.get("critique"), "score": feedback.get("score")}
                own["spans"] = [Span(*span) for span in critiques[row].get("spans") or ()]
            choice = conditioner.default_choice if has_feedback else "none"
            length = len(conditioner.encode_or_reject(texts[row], **own, feedback=choice).input_ids)
            yield length if self._max_tokens is None else min(length, self._max_tokens)


def _name(pair: tuple[ShardInfo, ShardInfo | None]) -> str:
    text, critique = pair
    return f"{text.path} {critique.path if critique else ''}"


def plan_tokens(
    budget: int, batch: int, steps: int, plan: Callable[[int], MixPlan], counter: TokenCounter
) -> MixPlan:
    """Return the plan whose number of tokens is nearest to a budget, in complete batches.

    A plan of another length draws other documents and drops other feedback, so that each one is
    counted. It takes two or three plans.

    Args:
        budget: number of tokens.
        batch: samples per step.
        steps: a first guess of the number of steps.
        plan: makes a plan of a number of samples.
        counter: counts the tokens of a plan.
    """
    tried: dict[int, tuple[int, MixPlan]] = {}
    while steps not in tried and len(tried) < _MAX_PLANS:
        candidate = plan(steps * batch)
        tokens = counter.count(candidate)
        tried[steps] = abs(tokens - budget), candidate
        steps = max(1, steps + round((budget - tokens) / (tokens / steps)))
    return min(tried.values(), key=lambda found: found[0])[1]
