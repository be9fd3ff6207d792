"""The MDS shard format: encodings, a writer, a reader.

May import: the root modules. Imports no `streaming`: tests compare with it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
