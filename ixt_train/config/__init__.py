"""Configurations of train runs: model, data, optimizer, stages, loggers.

May import: the root modules of `ixt_data`, `ixt_data.mix`. Imports no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
