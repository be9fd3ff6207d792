"""Maintenance of a store: verification, compaction, garbage collection.

May import: `critique_runs` and below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
