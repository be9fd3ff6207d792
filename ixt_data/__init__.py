"""IXT's data engine: a store of documents and critiques, queries, critics, mixes.

```python
import ixt_data

store = ixt_data.open_store("S", create=True)
ixt_data.ingest(store, "web", ["a.jsonl.zst", "b.parquet"])
ixt_data.annotate(store, "web", ixt_data.load_critic("rules"))
store.sql("SELECT critic, avg(score) FROM critiques GROUP BY critic").show()
```

Names load on first use: `import ixt_data` imports neither torch nor duckdb nor streaming.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("ixt")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
