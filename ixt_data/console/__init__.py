"""Results and progress on a terminal: tables, JSON, progress bars.

May import: nothing of ours. Knows no command line: typer stays in the packages named `cli`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
