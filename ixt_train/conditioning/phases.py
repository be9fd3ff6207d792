"""The conditioners of a plan's phases."""

from collections.abc import Sequence

from ixt_data.mix import Condition
from ixt_train.conditioning.conditioner import Conditioner


def phase_conditioners(
    conditioner: Conditioner, conditions: Sequence[Condition]
) -> tuple[Conditioner, ...]:
    """Return one conditioner per phase; phases under the same condition share one."""
    return tuple(
        conditioner if condition == conditioner.condition else conditioner.with_condition(condition)
        for condition in conditions
    )
