"""One self-contained page on a snapshot, its critics, mixes and train runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
