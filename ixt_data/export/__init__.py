"""Exports: what leaves the store, for tools that know nothing of it."""

from ixt_data.export.delta import DeltaReport, export_delta
from ixt_data.export.mds import export_mds
from ixt_data.export.rows import ExportReport, export_jsonl, export_parquet
from ixt_data.export.selection import Selected

__all__ = [
    "DeltaReport",
    "ExportReport",
    "Selected",
    "export_delta",
    "export_jsonl",
    "export_mds",
    "export_parquet",
]
