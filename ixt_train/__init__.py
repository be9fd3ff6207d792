"""IXT's trainer: a Composer trainer that streams critique and document from a mix.

```python
import ixt_train

ixt_train.train("run.yaml")
rows = ixt_train.read_metrics("runs/first")
model = ixt_train.load_model("runs/first")
```

Names load on first use: `import ixt_train` imports no torch.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("ixt")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
