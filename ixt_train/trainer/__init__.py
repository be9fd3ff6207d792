"""The Composer trainer: setup, training, callbacks, loggers, objective, warm start, FSDP.

May import: `evaluation` and below. Only this package imports `composer`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
