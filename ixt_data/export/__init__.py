"""Documents and critiques out of a snapshot: Delta, Parquet, JSONL, MDS.

May import: `store` and below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
