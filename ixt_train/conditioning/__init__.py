"""Feedback and documents as tokens: tokenizer, encoder, conditioner, chat templates.

May import: `config`, `ixt_data.mix`, `ixt_data.store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
