"""Held-out documents as samples whose loss counts the same tokens under every feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ixt_data.mix import Condition
from ixt_data.records import Span
from ixt_train.conditioning import Choice, Conditioner, Encoded, control_tokens


@dataclass(frozen=True)
class HeldOut:
    """A document that training never reads, with its critique and the bucket of its score."""

    doc_id: bytes
    text: str
    bucket: str
    score: float | None = None
    critique: str = ""
    spans: tuple[Span, ...] = ()


def distinguishes(condition: Condition, feedback: str) -> bool:
    """Return whether a model of this condition can distinguish this feedback from none."""
    if condition.kind == "none":
        return feedback == "none"
    return condition.kind != "spans" or feedback in ("none", "observed")


def encode_held_out(
    conditioner: Conditioner, documents: Sequence[HeldOut], choice: Choice
) -> list[dict[str, Any]]:
    """Encode samples whose loss counts each of the document's own tokens once.

    A conversation that the chat template rejects has no loss, and `rejected`, the reason.
    """
    uniform_conditioner = conditioner.with_condition(conditioner.condition.with_equal_losses())
    tokenizer = conditioner.tokenizer
    control = np.array([*control_tokens(tokenizer), tokenizer.eos_token_id])
    samples = []
    for document in documents:
        encoded = uniform_conditioner.encode_or_reject(
            document.text, document.critique, document.score, document.spans, feedback=choice
        )
        samples.append(_sample(document, encoded, control))
    return samples


def _sample(document: HeldOut, encoded: Encoded, control: Any) -> dict[str, Any]:
    weights = np.where(np.isin(encoded.input_ids, control), 0, encoded.loss_weights)
    return {
        "input_ids": encoded.input_ids,
        "loss_weights": weights.astype(np.float32),
        "doc_id": document.doc_id,
        **({"rejected": encoded.rejected} if encoded.rejected else {}),
    }


def accepted_samples(by_feedback: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
    """Return the numbers of the samples that the chat template accepts with every feedback."""
    return [
        number
        for number, samples in enumerate(zip(*by_feedback, strict=True))
        if not any("rejected" in sample for sample in samples)
    ]


def equalize_tokens(by_feedback: Sequence[Sequence[dict[str, Any]]], max_length: int) -> None:
    """Set weights to 1 for the tokens that exist and fit under every feedback, else to 0.

    A tag that replaces a token removes it from the document.
    """
    for samples in zip(*by_feedback, strict=True):
        positions = [np.flatnonzero(s["loss_weights"]) for s in samples]
        shortest = min(positions, key=len)
        common = next(
            s["input_ids"][p] for s, p in zip(samples, positions, strict=True) if p is shortest
        )
        positions = [
            p[_subsequence_positions(s["input_ids"][p], common)]
            for s, p in zip(samples, positions, strict=True)
        ]
        fit = min(int(np.searchsorted(at, max_length)) for at in positions)
        for sample, at in zip(samples, positions, strict=True):
            sample["loss_weights"][:] = 0.0
            sample["loss_weights"][at[:fit]] = 1.0


def _subsequence_positions(ids: Any, common: Any) -> Any:
    """Return the positions of the subsequence `common` in `ids`."""
    if len(ids) == len(common):
        return np.arange(len(ids))
    matches, at = [], 0
    for token in common:
        while ids[at] != token:
            at += 1
        matches.append(at)
        at += 1
    return np.array(matches, np.int64)
