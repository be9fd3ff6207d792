"""Documents in: from files of records, folders of text or code, to a corpus of a store."""

from ixt_data.ingest.corpus import IngestReport, ingest
from ixt_data.ingest.readers import Input, open_inputs
from ixt_data.ingest.records import Rejected

__all__ = ["IngestReport", "Input", "Rejected", "ingest", "open_inputs"]
