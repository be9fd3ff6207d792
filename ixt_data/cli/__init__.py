"""The command line `ixt`. Verbs of other packages come in by the entry points `ixt.verbs`."""

from ixt_data.cli.app import main

__all__ = ["main"]
