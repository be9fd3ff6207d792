"""The store: open it, commit to it, query it, tag it.

May import: `storage`, `mds`, `log`, `sql`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
