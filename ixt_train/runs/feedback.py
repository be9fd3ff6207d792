"""The feedback that a train run observed, as its JSON records store it."""

from collections.abc import Mapping
from typing import Any


def observed_pairs(record: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    """Return the meaning of `best` and `worst` in feedback.json or ixt.json: score and critique."""
    return {name: (float(f["score"]), str(f["critique"])) for name, f in record.items()}


def feedback_record(observed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the JSON record that `observed_pairs` reads."""
    return {name: {"score": f[0], "critique": f[1]} for name, f in observed.items()}
