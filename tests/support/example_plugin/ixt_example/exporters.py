"""An export format: document ids, one per line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_data.config import ConfigModel
from ixt_data.export import Exporter, ExportProgress, ExportRequest


class IdOptions(ConfigModel):
    """Options of the format."""

    prefix: str = ""
    """Text before each id."""


def write_ids(
    request: ExportRequest, options: IdOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    """Write the ids of the matching documents."""
    ids = [
        row["doc_id"]
        for table in request.selected().tables(["doc_id"])
        for row in table.to_pylist()
    ]
    lines = "".join(f"{options.prefix}{doc_id}\n" for doc_id in ids)
    Path(request.target).write_text(lines)
    return {"out": request.target, "documents": len(ids)}


IDS = Exporter("document ids, one per line", write_ids, IdOptions)
