"""The run folder of a train run: files, fingerprint, checkpoints, draws, metrics, a summary.

May import: the root modules of `ixt_data`, `ixt_data.mix`, `ixt_data.storage`, `ixt_data.store`,
`ixt_train.config`. Only `checkpoint_parts`, `checkpoints` and `remote` import torch; the
front door loads them on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
