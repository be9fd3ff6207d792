"""A query that runs: its progress on stderr, and Ctrl-C, which stops the query and nothing else."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from ixt_data.sql import Catalog

T = TypeVar("T")
PATIENCE = 0.7
"""Seconds before progress is shown."""
TICK = 0.1


def ask(catalog: "Catalog", work: Callable[[], T], log: "Console | None") -> T:
    """What `work` returns, which runs queries of one catalog and is run in a thread.

    DuckDB tells its progress, and hears an interrupt at once, only while another thread waits for
    it: in one thread Ctrl-C waited for a cross join of 1e10 rows to its end (121 s, measured).

    Args:
        catalog: whose queries.
        work: what to do.
        log: where to show progress; None shows none.

    Raises:
        Cancelled: Ctrl-C was pressed.
        KeyboardInterrupt: it was pressed again before the query had stopped.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # A daemon, so that one that does not stop keeps nobody from leaving.
    threading.Thread(target=run, name="ixt-query", daemon=True).start()
    try:
        return _wait(catalog, done, log)
    except KeyboardInterrupt:
        while not done.done():
            # Again and again: one that comes between two statements of `work` is forgotten.
            catalog.interrupt()
            time.sleep(TICK)
        return done.result()


def _wait(catalog: "Catalog", done: "Future[T]", log: "Console | None") -> T:
    with ExitStack() as stack:
        bar = None
        began = time.monotonic()
        while True:
            try:
                return done.result(TICK)
            except TimeoutError:
                if done.done():
                    raise
            if log is None or time.monotonic() - began < PATIENCE:
                continue
            if bar is None:
                from ixt_data.console import shown

                bar = stack.enter_context(shown(log, "asking", 100, "%"))
            bar.update(max(0.0, catalog.progress()))
