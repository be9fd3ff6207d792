"""Processes that work for this one: each is a fresh interpreter, and ends when this process ends.

`multiprocessing` would import the user's main module again in each process, which fails in a script
without a main guard, or fork, which is unsafe beside the threads of DuckDB and Arrow.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, TypeVar

from ixt_data.errors import IxtError

T = TypeVar("T")
U = TypeVar("U")

GC_OBJECTS = 50_000
"""New objects after which a worker looks for cycles."""

_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from ixt_data.worker_processes import serve; serve({})"
)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def rare_collection() -> Iterator[None]:
    """Look for cycles less often: many objects with few cycles spend a tenth of the time in it."""
    before = gc.get_threshold()
    gc.set_threshold(GC_OBJECTS, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def map_ahead(function: Callable[[U], T], items: Iterable[U], workers: int) -> Iterator[T]:
    """Yield the results of a function in the order of the items, made ahead by threads.

    At most one item per thread is taken ahead. It is for functions that spend their time without
    Python's lock. With one worker nothing is made ahead.
    """
    if workers == 1:
        yield from map(function, items)
        return
    threads = ThreadPoolExecutor(workers)
    ahead: deque[Future[T]] = deque()
    try:
        for item in items:
            ahead.append(threads.submit(function, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


class WorkerPool:
    """Worker processes, or this process itself for one worker.

    Use it in a `with`: its end stops the processes.

    Attributes:
        workers: number of processes; 1: every call runs in this process.
    """

    def __init__(self, workers: int) -> None:
        """Prepare the pool; the first call starts the processes."""
        self.workers = workers
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._threads = ThreadPoolExecutor(workers) if workers > 1 else None

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for process in self._processes:
            process.stop(at_once=kind is not None)
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Call a function in a process. Calls start in the order of `submit`.

        Args:
            function: a function of a module.
            args: its arguments, which pickle.

        Returns:
            The future result. Its error is that of the function, or IxtError if the process died.
        """
        if self._threads is None:
            return _done(function, args)
        if not self._processes:
            self._processes = [_Process() for _ in range(self.workers)]
            for process in self._processes:
                self._idle.put(process)
        return self._threads.submit(self._call, function, args)

    def map(self, function: Callable[[U], T], items: Iterable[U]) -> Iterator[T]:
        """Yield the results of a function in the order of the items.

        At most two items per worker are taken ahead, so any number of items needs little memory.
        """
        ahead: deque[Future[T]] = deque()
        for item in items:
            ahead.append(self.submit(function, item))
            if self.workers == 1 or len(ahead) > 2 * self.workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        process = self._idle.get()
        try:
            return process.call(function, args)
        finally:
            self._idle.put(process)


def _done(function: Callable[..., T], args: tuple[Any, ...]) -> "Future[T]":
    future: Future[T] = Future()
    try:
        future.set_result(function(*args))
    except Exception as error:
        future.set_exception(error)
    return future


class _Process:
    """One worker process and the connection to it."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._pipe.send(sys.path)

    def call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            self._pipe.send((function, args))
            succeeded, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
            raise IxtError(
                f"a worker process ended {how}. With fewer workers (--workers), less memory is used"
            ) from None
        if succeeded:
            return result  # type: ignore[no-any-return]
        raise result

    def stop(self, *, at_once: bool) -> None:
        if at_once:
            self._process.kill()

    def close(self) -> None:
        self._pipe.close()
        self._process.wait()


def serve(descriptor: int) -> None:
    """Do the calls that arrive over a connection, until its other end is closed."""
    pipe = Connection(descriptor)
    try:
        sys.path[:] = pipe.recv()
        with rare_collection():
            while True:
                function, args = pipe.recv()
                pipe.send(_outcome(function, args))
    except (EOFError, ConnectionError):
        # The other process has ended, or needs nothing more.
        os._exit(0)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*args)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return False, IxtError(f"{type(error).__name__}: {error}")
        return False, error
