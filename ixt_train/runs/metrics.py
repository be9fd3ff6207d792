"""The metrics of a train run, metrics.jsonl: append-only, and this is its only reader."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import ConfigError

_RESUMED = "resumed_after"


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    r"""Read the rows of a metrics.jsonl, in the order in which the run wrote them.

    It skips lines that a crash cut off. Where a train run resumed after step s, its rows of later
    steps until then are dropped. Of several rows of a step, only the latest is returned.

    Args:
        path: a metrics.jsonl, or the run folder that contains one.

    Returns:
        One dictionary per row: `step`, `tokens` and `samples` (totals so far), `seconds` of
        training, and either `loss` (nats per unit of loss weight) and `lr`, or `eval`. An empty
        list if the run has no metrics.jsonl yet.

    Raises:
        ConfigError: the path does not exist.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> run = Path(mkdtemp())
        >>> _ = (run / "metrics.jsonl").write_text(
        ...     '{"step": 10, "tokens": 5120, "samples": 80, "loss": 4.2, "lr": 3e-4}\n'
        ...     '{"step": 20, "tok'
        ... )
        >>> [(row["step"], row["loss"]) for row in read_metrics(run)]
        [(10, 4.2)]
    """
    path = Path(path)
    if path.is_dir():
        path = path / "metrics.jsonl"
    if not path.exists():
        if path.name != "metrics.jsonl":
            raise ConfigError(f"{path} does not exist; name a run folder or its metrics.jsonl")
        return []
    rows: dict[tuple[Any, bool], dict[str, Any]] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            resumed = row.get(_RESUMED)
            key = (row["step"], "eval" in row) if resumed is None else None
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            if number < len(lines) and not lines[number].startswith(_MARKER):
                warnings.warn(
                    f"{path} line {number}: not a row of metrics, skipped: {line[:80]!r}",
                    stacklevel=2,
                )
            continue
        if key is None:
            rows = {key: row for key, row in rows.items() if key[0] <= resumed}
        else:
            rows[key] = row
    return list(rows.values())


_MARKER = f'{{"{_RESUMED}":'.encode()


class MetricsWriter:
    """A writer that appends rows to metrics.jsonl and never changes a row."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def resume_after(self, step: int) -> None:
        """Mark all rows of later steps as superseded; complete a line that a crash cut off."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        if data:
            line_end = b"" if data.endswith(b"\n") else b"\n"
            self._append(line_end + orjson.dumps({_RESUMED: step}))
            self.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._append(orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS))

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line + b"\n")

    def flush(self) -> None:
        """Wait until all rows are on the disk, before a checkpoint claims their steps."""
        if self._path.exists():
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
