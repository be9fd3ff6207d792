"""Settings of every test session."""

import atexit
import os
from collections import defaultdict
from typing import Any

# Before torch is imported. Its threads wait for each other in a loop: on cores that others use,
# a test of 8 seconds took 10 minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@atexit.register
def _silence_the_leak_report() -> None:
    """Close stderr at the very end: DuckDB's binding prints 40 lines about its own references.

    It prints them while the interpreter is torn down, after pytest's summary.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the calls that the tests of faults let fail, per verb."""
    calls: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "faults":
                verb, fault, n_calls, n_raised = value
                calls[verb][fault] = (n_calls, n_raised)
    if not calls:
        return
    terminalreporter.section("calls failed (of these, reported as an error)")
    for verb, by_fault in calls.items():
        counts = ", ".join(f"{f} {n} ({raised})" for f, (n, raised) in by_fault.items())
        total = sum(n for n, _ in by_fault.values())
        terminalreporter.write_line(f"{verb}: {total} calls: {counts}")
