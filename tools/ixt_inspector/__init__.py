"""The inspector: `ixt inspect` in a terminal, `ixt serve` in a browser.

May import: `ixt_data`, and the part of `ixt_train.runs` that imports no torch.
"""
