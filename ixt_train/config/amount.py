"""An amount of training: a number of steps or tokens."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from ixt_data.config import ConfigModel

_AMOUNT = re.compile(r"(\d[\d_]*)(ba|tok)?")


class Amount(ConfigModel):
    """A number of steps or tokens: `900ba` or `5_000_000tok`. A bare number is steps."""

    value: Annotated[int, Field(ge=0)]
    """The number of units."""
    unit: Literal["ba", "tok"] = "ba"
    """`ba` for steps (batches) or `tok` for tokens, as Composer writes them."""

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    def of(self, steps: int, tokens: int) -> float:
        """Return the share of this amount that `steps` or `tokens` are; 1 if the amount is 0."""
        return (steps if self.unit == "ba" else tokens) / self.value if self.value else 1.0


def _parse_amount(value: Any) -> Any:
    match = _AMOUNT.fullmatch(str(value).strip()) if isinstance(value, int | str) else None
    if isinstance(value, Amount | dict):
        return value
    if match is None:
        raise ValueError(
            f"{value!r} is not an amount; write steps as 900ba or tokens as 5_000_000tok"
        )
    return {"value": int(match[1]), "unit": match[2] or "ba"}


AmountText = Annotated[
    Amount,
    BeforeValidator(_parse_amount, json_schema_input_type=int | str),
    PlainSerializer(str, return_type=str),
]
