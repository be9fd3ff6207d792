"""The verbs of the trainer.

May import: all of `ixt_train`, `ixt_data`. Only command lines import it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
