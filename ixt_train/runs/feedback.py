"""Feedback that a train run observed."""

from collections.abc import Mapping
from typing import Any


def observed_pairs(record: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    """What `best` and `worst` mean, from feedback.json or ixt.json."""
    return {name: (float(f["score"]), str(f["critique"])) for name, f in record.items()}


def feedback_record(observed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the record that `observed_pairs` reads."""
    return {name: {"score": f[0], "critique": f[1]} for name, f in observed.items()}
