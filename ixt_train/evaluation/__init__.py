"""Evaluation: held-out loss by feedback, tasks, lm-evaluation-harness.

May import: `inference`, `stream` and below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
