"""The only reader of metrics.jsonl, the metrics of a train run."""

from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import CorruptError


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    r"""Read the rows of a metrics.jsonl, in the order in which the run wrote them.

    It drops a last line that a crash cut off. If a resumed run repeats a step, only the latest
    row of that step is returned.

    Args:
        path: a metrics.jsonl, or the run folder that contains one.

    Returns:
        One dictionary per row: `step`, `tokens` and `samples` (totals so far), `seconds` of
        training, and either `loss` (nats per unit of loss weight) and `lr`, or `eval`. An empty
        list if the file does not exist.

    Raises:
        CorruptError: a line other than the last one is not JSON; the message names file and line.

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
        return []
    rows: dict[tuple[Any, bool], dict[str, Any]] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            key = (row["step"], "eval" in row)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            if number == len(lines):
                break
            raise CorruptError(
                f"{path} line {number}: not a row of metrics: {line[:80]!r}. Delete the line"
            ) from None
        rows[key] = row
    return list(rows.values())
