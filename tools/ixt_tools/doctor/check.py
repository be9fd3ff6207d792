"""What a check finds."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: `broken` is what fails sooner or later; a `warning` may be as it should be.
        what: what was found, with figures.
        remedy: the command or setting that mends it, empty where nothing is to be mended.
    """

    name: str
    state: State
    what: str
    remedy: str = ""


def size(n: float) -> str:
    """Bytes for people."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n >= scale:
            return f"{n / scale:,.1f} {unit}"
    return f"{n / 1e3:,.1f} kB"
