"""Keys to bytes: a folder or an object store, byte streams, atomic writes, a conformance probe.

A key is a POSIX path relative to the root. Objects are created once and never changed.

May import: `errors`, `records`, `config`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
