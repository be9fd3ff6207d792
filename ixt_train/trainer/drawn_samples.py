"""Properties of a plan's samples as tokens, estimated from some of its draws."""

from collections.abc import Iterator

import numpy as np

from ixt_data.errors import ConfigError
from ixt_data.mix import MixPlan, samples_of
from ixt_data.records import Span
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner, Encoded
from ixt_train.config import TrainConfig

_CHECKED_SAMPLES, _CHECKED_SHARDS = 64, 4


def encoded_draws(
    store: Store, plan: MixPlan, conditioner: Conditioner, samples: int, max_shards: int
) -> Iterator[Encoded]:
    """Yield draws spread evenly over a plan, with feedback, from a limited number of shards."""
    draws = plan.order(0)
    chosen = samples_of(draws[np.linspace(0, len(draws) - 1, min(samples, len(draws))).astype(int)])
    starts = np.cumsum([0] + [text.samples for text, _ in plan.shards])
    numbers = np.searchsorted(starts, chosen, "right") - 1
    for number in np.unique(numbers)[:max_shards].tolist():
        text, critique = plan.shards[number]
        texts = store.shard(text).column("text")
        columns = ("critique", "score", "spans")
        critiques = list(store.shard(critique).rows(columns)) if critique else None
        for row in (chosen[numbers == number] - starts[number]).tolist():
            own = dict(critiques[row]) if critiques else {}
            own["spans"] = [Span(*span) for span in own.get("spans") or ()]
            yield conditioner.encode_or_reject(texts[row], **own)


def mean_length(
    store: Store, plan: MixPlan, conditioner: Conditioner, max_tokens: int, samples: int = 1000
) -> float:
    """Return the mean tokens of a sample with feedback, over draws spread evenly over a plan."""
    encoded = encoded_draws(store, plan, conditioner, samples, max_shards=samples)
    lengths = [len(sample.input_ids) for sample in encoded]
    return float(np.minimum(lengths, max_tokens).mean())


def check_targets(
    store: Store, plan: MixPlan, conditioner: Conditioner, config: TrainConfig
) -> None:
    """Refuse a train run in which most samples with feedback have no token with a loss.

    Feedback is in front of its document: where it alone fills a row, nothing of the document is
    left.

    Raises:
        ConfigError: `max_length` is too short, all loss weights are 0, or the chat template
            rejects all of them.
    """
    drawn = list(encoded_draws(store, plan, conditioner, _CHECKED_SAMPLES, _CHECKED_SHARDS))
    samples = [sample for sample in drawn if not sample.rejected]
    if not samples:
        key = "sft.template" if drawn[0].worse_from is None else "preference"
        raise ConfigError(
            f"{key}: all of {len(drawn)} conversations checked are rejected. The first one: "
            f"{drawn[0].rejected}"
        )
    end = config.cut_length
    lacking = [not sample.loss_weights[1:end].any() for sample in samples]
    share = sum(lacking) / len(samples)
    if share <= 0.5:
        return
    found = f"{share:.0%} of {len(samples)} samples with feedback have no token with a loss"
    if not any(sample.loss_weights[1:].any() for sample in samples):
        raise ConfigError(f"mix.condition: {found}; see loss_by_verdict")
    longest = max(int(np.argmax(sample.loss_weights[1:] > 0)) + 2 for sample in samples)
    raise ConfigError(
        f"max_length: with {config.max_length} tokens, {found}, because feedback fills the row. "
        f"With {longest} tokens each of them has one. Raise max_length, set packing to concat, or "
        "set mix.condition.kind to score"
    )
