"""The mix: its config, the exact plan of draws, their order.

May import: `log`, `sql`, `store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
