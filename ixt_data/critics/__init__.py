"""Critics: rules, a vLLM judge, a verifier of sums, imported critiques; rubrics and chunks.

May import: the root modules and `storage`'s byte streams. A critic knows no store.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
