"""DuckDB over one snapshot: views, read-only queries, result writers.

May import: `console`, `storage`, `log`. Only `sql.catalog` and `sql.connections` import `duckdb`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
