"""Queries that show progress on stderr and that Ctrl-C cancels."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

from ixt_data.storage import remove_partial_files

if TYPE_CHECKING:
    from rich.console import Console

    from ixt_data.sql import Catalog

T = TypeVar("T")
SILENT_SECONDS = 0.7
"""Seconds before progress is shown."""
TICK_SECONDS = 0.1
REPEAT_SECONDS, REPEATS = 2.0, 8
"""Seconds until a query that has not stopped is interrupted again, and how often it is."""


def run_cancellable(catalog: "Catalog", work: Callable[[], T], log: "Console | None") -> T:
    """Run `work`, which queries one catalog, in a thread; return its result.

    DuckDB reports progress and reacts to an interrupt only while another thread waits for it. In
    one thread, Ctrl-C waited until a cross join of 1e10 rows was done (121 s, measured).

    Args:
        catalog: the catalog that `work` queries.
        work: the work.
        log: the console for progress; None shows no progress.

    Raises:
        Cancelled: Ctrl-C was pressed.
        KeyboardInterrupt: Ctrl-C was pressed three times before the query stopped.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # A daemon: a query that does not stop does not keep the process alive.
    threading.Thread(target=run, name="ixt-query", daemon=True).start()
    try:
        return _wait(catalog, done, log)
    except KeyboardInterrupt:
        # A second one changes nothing: `work` must end to remove its temporary file.
        with suppress(KeyboardInterrupt):
            _cancel(catalog, done)
        _cancel(catalog, done)
        return done.result()


def _cancel(catalog: "Catalog", done: "Future[T]") -> None:
    # Repeated: DuckDB forgets an interrupt between two statements of `work`.
    for _ in range(REPEATS):
        catalog.interrupt()
        with suppress(TimeoutError):
            done.exception(REPEAT_SECONDS)
        if done.done():
            return
    # Rarely, an interrupt of a COPY leaves all threads of DuckDB waiting for ever. Closing the
    # connection would wait for them.
    remove_partial_files()
    print("error: the query was cancelled", file=sys.stderr, flush=True)
    os._exit(1)


def _wait(catalog: "Catalog", done: "Future[T]", log: "Console | None") -> T:
    with ExitStack() as stack:
        bar = None
        started = time.monotonic()
        while True:
            try:
                return done.result(TICK_SECONDS)
            except TimeoutError:
                if done.done():
                    raise
            if log is None or time.monotonic() - started < SILENT_SECONDS:
                continue
            if bar is None:
                from ixt_data.console import progress_bar

                bar = stack.enter_context(progress_bar(log, "querying", 100, "%"))
            bar.update(max(0.0, catalog.progress()))
