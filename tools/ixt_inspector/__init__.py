"""The inspector: `ixt inspect` in a terminal, `ixt serve` in a browser.

May import: `ixt_data`, and what imports no torch in `ixt_train.runs` and `ixt_train.conditioning`.
"""
