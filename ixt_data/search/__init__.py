"""Search in texts: the words of a search, and full-text indexes of shards by tantivy.

May import: `storage`, `mds`, `log`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
