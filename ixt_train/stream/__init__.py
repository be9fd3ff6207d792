"""The stream: from a mix plan and shards to batches of packed tokens.

May import: `conditioning`, `runs`, `config`. Only the stream imports `streaming` here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
