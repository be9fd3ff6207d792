"""Results of checks."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: name of the check.
        state: `broken` makes a command fail; a `warning` may be intended.
        what: description with values.
        remedy: command or setting that fixes the fault; empty without a fault.
    """

    name: str
    state: State
    what: str
    remedy: str = ""


def format_size(n: float) -> str:
    """Return bytes with a unit."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n >= scale:
            return f"{n / scale:,.1f} {unit}"
    return f"{n / 1e3:,.1f} kB"
