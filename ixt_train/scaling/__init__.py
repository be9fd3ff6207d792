"""Scaling: arms over budgets, learning curves, power laws, multipliers, a report.

May import: `trainer` and below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
