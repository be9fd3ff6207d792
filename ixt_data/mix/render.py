"""A mix plan as a human-readable tree: what(fingerprint): amount [label]."""

from ixt_data.console import format_count
from ixt_data.mix.plan import MixPlan, SelectionPlan
from ixt_data.records import content_id


def render_plan(plan: MixPlan) -> str:
    """Render the plan as lines of text."""
    total = plan.tokens(sum(part.characters for part in plan.selections))
    lines = [
        f"mix({plan.digest}): {format_count(plan.samples, 'sample')} of "
        f"{format_count(plan.documents, 'document')}, ~{amount(total)} tokens "
        f"[snapshot {plan.version}, "
        f"{format_count(len(plan.shards), 'shard')}]"
    ]
    width = max(len(part.name) for part in plan.selections)
    children = [_selection(plan, part, width) for part in plan.selections]
    if len(plan.orders) > 1:
        children += [_phase(plan, number) for number in range(len(plan.orders))]
    children += [f"warning: {warning}" for warning in plan.warnings]
    for i, child in enumerate(children):
        lines.append(("└─ " if i == len(children) - 1 else "├─ ") + child)
    lines.append(f"tokens are estimated at {plan.characters_per_token:g} characters each")
    return "\n".join(lines)


def _selection(plan: MixPlan, part: SelectionPlan, width: int) -> str:
    epochs = part.samples / part.documents
    own = next(selection for selection in plan.mix.selections if selection.name == part.name)
    label = part.where
    label += f", saved as {part.use}" if part.use else ""
    label += f", critiques by {own.critic}" if own.critic else ""
    return (
        f"{part.name:{width}}({content_id(part.where)[:6]}): "
        f"~{amount(plan.tokens(part.characters))} tokens, {format_count(part.samples, 'sample')} "
        f"({part.samples / plan.samples:.1%}) = "
        f"{format_count(part.documents, 'document')} x {epochs:.2f} [{label}]"
    )


def _phase(plan: MixPlan, number: int) -> str:
    begin, end = plan.phases[number], plan.phases[number + 1]
    phase = plan.mix.phases()[number]
    changed = phase.model_dump(exclude_unset=True, exclude={"share"})
    label = ", ".join(f"{key} {value}" for key, value in changed.items()) or "as the mix"
    return f"phase {number + 1}: samples {begin:,} to {end:,} ({phase.share:.1%}) [{label}]"


def amount(n: float) -> str:
    """Format a number with a unit letter, for example 1,234,567 as 1.2M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f}{letter}"
    return f"{n:.0f}"
