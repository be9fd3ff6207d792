"""Samples of a plan as text: what a model reads, by the conditioner that encodes it for training.

Each byte is a token here, so that decoding gives exactly the text. `MixStream` yields the same
tokens, and needs torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ixt_data.mix import Ints, MixPlan, observed_feedback, regimes_of, samples_of, with_edges
from ixt_data.records import OK, Span, format_id
from ixt_data.store import Store
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS, Conditioner, Encoded
from ixt_train.conditioning.phases import phase_conditioners
from ixt_train.conditioning.tokenizer import ROLES, train_bpe

_BYTES = 256


class SamplePart(NamedTuple):
    """Consecutive tokens as text: all control tokens or none, with one loss weight."""

    text: str
    is_control: bool
    loss_weight: float


@dataclass(frozen=True, slots=True)
class SampleText:
    """One sample of a plan as text.

    Attributes:
        draw: number of the draw.
        doc_id: the document.
        selection: the selection that draws it; None if several do.
        parts: the text, from the token that begins the sample to the one that ends it.
        encoded: the tokens.
    """

    draw: int
    doc_id: str
    selection: str | None
    parts: tuple[SamplePart, ...]
    encoded: Encoded


def choose_draws(plan: MixPlan, samples: int, max_shards: int) -> Ints:
    """Return draws that are spread evenly over the first epoch of a plan, from some shards.

    Args:
        plan: the plan.
        samples: maximum number of draws.
        max_shards: maximum number of shards, which are read completely.
    """
    draws = plan.order(0)
    few = draws[_evenly(len(draws), 10 * samples)]
    shards = _locate(plan, few)[0]
    used = np.unique(shards)
    few = few[np.isin(shards, used[_evenly(len(used), max_shards)])]
    return few[_evenly(len(few), samples)]


def _evenly(length: int, n: int) -> Ints:
    return np.linspace(0, length - 1, min(n, length)).astype(np.int64)


def sample_texts(
    store: Store, plan: MixPlan, draws: Ints, tokenizer: Any = None
) -> list[SampleText]:
    """Return some draws of a plan as a model reads them.

    Args:
        store: the store of the plan.
        plan: the plan.
        draws: numbers of draws, from `plan.order` or `choose_draws`.
        tokenizer: a fast Hugging Face tokenizer with the feedback tokens. By default each byte is a
            token, so `repeat_every` and `verdict_after` of the condition count and match bytes.

    Raises:
        MixError: the condition needs scores, and no drawn document has one.
        ConfigError: the tokenizer lacks tokens that the condition needs.
    """
    mix = with_edges(store, plan.mix)
    conditions = [mix.condition_in(phase) for phase in mix.phases()]
    is_fixed = any(condition.fixed_feedback for condition in conditions)
    tokenizer = ByteTokenizer() if tokenizer is None else tokenizer
    conditioner = Conditioner(
        tokenizer, mix.condition, observed_feedback(store, mix) if is_fixed else None
    )
    conditioners = phase_conditioners(conditioner, conditions)
    phases = regimes_of(draws)[0].tolist()
    given = plan.feedback_given(draws).tolist()
    texts = []
    for number, (doc_id, text, critique, score, spans) in _read(store, plan, draws):
        own = conditioners[phases[number]]
        feedback = own.default_choice if given[number] else "none"
        encoded = own.encode_or_reject(text, critique, score, spans, feedback)
        parts = tuple(_parts(tokenizer, encoded))
        draw = int(draws[number])
        texts.append((number, SampleText(draw, doc_id, _selection(plan, draw), parts, encoded)))
    return [text for _, text in sorted(texts, key=lambda pair: pair[0])]


class ByteTokenizer:
    """A tokenizer with one token per byte, and the control tokens; it needs no transformers."""

    unk_token_id = None

    def __init__(self) -> None:
        """Make the vocabulary."""
        control = [*ROLES.values(), *SPECIAL_TOKENS]
        self.backend_tokenizer = train_bpe((), _BYTES + len(control), control)
        self.all_special_ids = list(range(len(control)))
        self.bos_token_id = self.backend_tokenizer.token_to_id(ROLES["bos_token"])
        self.eos_token_id = self.backend_tokenizer.token_to_id(ROLES["eos_token"])

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size())


def _locate(plan: MixPlan, draws: Ints) -> tuple[Ints, Ints]:
    """Return the shard of each draw, and its row there."""
    starts = np.cumsum([0] + [text.samples for text, _ in plan.shards])[:-1]
    samples = samples_of(draws)
    shards = np.searchsorted(starts, samples, "right") - 1
    return shards, samples - starts[shards]


def _read(store: Store, plan: MixPlan, draws: Ints) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the index of each draw with doc_id, text, critique, score and spans, shard by shard."""
    shards, rows = _locate(plan, draws)
    sizes = np.array([text.samples for text, _ in plan.shards], np.int64)
    feedback_rows = plan.feedback_rows(draws, rows, sizes[shards])
    for shard in np.unique(shards).tolist():
        text, critique = plan.shards[shard]
        columns = list(store.shard(text).rows(("doc_id", "text")))
        critiques: list[dict[str, Any]] = []
        if critique is not None:
            names = ("status", "critique", "score", "spans")
            critiques = list(store.shard(critique).rows(names))
        for number in np.flatnonzero(shards == shard).tolist():
            own = _successful(critiques, int(rows[number]))
            other = _successful(critiques, int(feedback_rows[number]))
            score = other.get("score", np.nan)
            spans = tuple(Span(*span) for span in own.get("spans") or ())
            document = columns[int(rows[number])]
            yield (
                number,
                (
                    format_id(document["doc_id"]),
                    document["text"],
                    other.get("critique", ""),
                    None if np.isnan(score) else float(score),
                    spans,
                ),
            )


def _successful(critiques: list[dict[str, Any]], row: int) -> dict[str, Any]:
    """Return a critique; empty if there is none, or if it failed."""
    return critiques[row] if critiques and critiques[row]["status"] == OK else {}


def _parts(tokenizer: Any, encoded: Encoded) -> Iterator[SamplePart]:
    control = set(tokenizer.all_special_ids)
    ids, weights = encoded.input_ids.tolist(), encoded.loss_weights.tolist()

    def kind(pair: tuple[int, float]) -> tuple[bool, float]:
        return pair[0] in control, pair[1]

    for (is_control, weight), pairs in groupby(zip(ids, weights, strict=True), kind):
        text = tokenizer.backend_tokenizer.decode([one for one, _ in pairs], False)
        yield SamplePart(text, is_control, weight)


def _selection(plan: MixPlan, draw: int) -> str | None:
    names = [selection.name for selection in plan.mix.selections]
    if plan.drawn_for is None:
        return names[0]
    number = int(plan.drawn_for[int(samples_of(np.array([draw]))[0])])
    return names[number - 1] if number <= len(names) else None
