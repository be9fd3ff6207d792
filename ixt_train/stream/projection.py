"""The projection of a plan: the shards and columns that its conditions need."""

from collections.abc import Mapping

from ixt_data.log import ShardInfo
from ixt_data.mix import MixPlan
from ixt_train.conditioning import Conditioner
from ixt_train.stream.families import LogicalShard


def logical_shards(plan: MixPlan, conditioner: Conditioner | None) -> list[LogicalShard]:
    """Return the shards and columns to read; stored tokens replace texts if they suffice."""
    all_columns, kinds = conditioner is None, {condition.kind for condition in plan.conditions}
    needs_critique = all_columns or bool(kinds & {"critique", "both"})
    spans = (
        conditioner is None
        or conditioner.needs_text
        or "spans" in kinds
        or any(condition.weighs_spans for condition in plan.conditions)
    )
    # Spans are ranges of characters, which tokens do not have.
    family = conditioner.encoder.family if conditioner and not spans else ""
    critique = {"critique": "critique"} if needs_critique else {}
    if spans:
        critique["spans"] = "spans"
    logical: list[LogicalShard] = []
    for text, critique_shard in plan.shards:
        tokens = plan.token_shards.get((text.path, family))
        parts: list[tuple[ShardInfo, Mapping[str, str]]] = [
            (text, {text.text_column: "text"}) if tokens is None else (tokens, {"tokens": "tokens"})
        ]
        if critique_shard is not None:
            tokens = (
                plan.token_shards.get((critique_shard.path, family)) if needs_critique else None
            )
            parts.append(
                (critique_shard, critique)
                if tokens is None
                else (tokens, {"tokens": "critique_tokens"})
            )
        logical.append(parts)
    return logical
