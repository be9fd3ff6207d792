from .delta import DeltaReport as DeltaReport
from .delta import export_delta as export_delta
from .matched_documents import MatchedDocuments as MatchedDocuments
from .mds import export_mds as export_mds
from .rows import ExportReport as ExportReport
from .rows import export_jsonl as export_jsonl
from .rows import export_parquet as export_parquet
from .target import new_folder as new_folder
