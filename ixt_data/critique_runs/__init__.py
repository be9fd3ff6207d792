"""Critique runs: one critic over a corpus, by units, leases and a journal, on many workers.

May import: `store`, `critics` and below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
