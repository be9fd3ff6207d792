"""The commit log, snapshots, checkpoints of their state, pins and tags.

May import: `storage`. The log decides what exists; no clock does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
