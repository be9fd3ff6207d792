"""Settings of every test session."""

import atexit
import os


@atexit.register
def _silence_the_leak_report() -> None:
    """Close stderr at the very end: DuckDB's binding prints 40 lines about its own references.

    It prints them while the interpreter is torn down, after pytest's summary.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
