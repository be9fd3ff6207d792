"""MDS folders as mosaicml-streaming writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streaming import MDSWriter

PLAIN = {"text": "str"}


def write_mds(
    folder: Path, samples: Sequence[dict[str, Any]], columns: dict[str, str] = PLAIN, **more: Any
) -> Path:
    """A folder as mosaicml-streaming writes it, some samples a shard."""
    options = {"size_limit": 400, **more}
    with MDSWriter(columns=columns, out=str(folder), **options) as writer:
        for sample in samples:
            writer.write(sample)
    return folder


def texts(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"näive text {i}"} for i in range(start, start + n)]


def edit_index(folder: Path, change: Any) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
