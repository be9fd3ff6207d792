"""Numbers as an editor writes them: "two thirds", "only 12%", "1 word"."""

from ixt_data.console import format_count

TOLERANCE = 0.02
"""Largest distance between a share and the fraction that stands for it."""
NEARLY_ALL, ALL = 0.95, 0.995
_NONE = 0.0005
_FRACTIONS = (
    (1 / 10, "a tenth"),
    (1 / 5, "a fifth"),
    (1 / 4, "a quarter"),
    (1 / 3, "a third"),
    (2 / 5, "two fifths"),
    (1 / 2, "half"),
    (3 / 5, "three fifths"),
    (2 / 3, "two thirds"),
    (3 / 4, "three quarters"),
    (4 / 5, "four fifths"),
    (9 / 10, "nine tenths"),
)


class Quantity(float):
    """A number with formats for sentences, besides those of a float.

    `share`: a share in words, where a fraction is close: "two thirds", "12%". `only`: the same
    with "only". `count NOUN`: "1 word". `few NOUN`: "no words", "only 2 words".
    """

    def __format__(self, spec: str) -> str:
        kind, _, noun = spec.partition(" ")
        if kind == "share":
            return _share(self)
        if kind == "only":
            share = _share(self)
            return share if share in ("none", "all") else f"only {share}"
        if kind == "count":
            return format_count(round(self), noun)
        if kind == "few":
            return f"only {format_count(round(self), noun)}" if round(self) else f"no {noun}s"
        return super().__format__(spec)


def _share(value: float) -> str:
    if value < _NONE:
        return "none"
    if value >= NEARLY_ALL:
        return "all" if value >= ALL else "nearly all"
    distance, fraction = min((abs(value - at), text) for at, text in _FRACTIONS)
    if distance <= TOLERANCE:
        return fraction
    return f"{value:.1%}" if value < 0.01 else f"{value:.0%}"
