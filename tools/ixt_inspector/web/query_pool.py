"""Statements that a user has typed: run in processes of their own, in bounds, and ended on a word.

See `worker` for why. At most so many run at once; the next ones are told to come again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from ixt_data.errors import QueryError

START_SECONDS = 60.0
SPARE = 1 << 30
"""Bytes that a process takes before it runs anything, and more."""


class QueryStopped(QueryError):
    """The statement was ended: by its time limit, by a user, or by the system for its memory."""


class TooManyQueries(QueryError):
    """As many statements are running as may."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What a typed statement may take.

    Attributes:
        seconds: of time.
        rows: that a page shows.
        download: rows that a file holds.
        memory: bytes.
        at_once: statements that run at the same time.
    """

    seconds: int = 20
    rows: int = 500
    download: int = 100_000
    memory: int = 2 << 30
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The rows that a statement gave, and whether there were more."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    more: bool
    seconds: float

    def records(self) -> list[dict[str, Any]]:
        """The rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass
class Statement:
    """One statement, which can be ended while it runs.

    Attributes:
        sql, values: what to run, with its parameters.
        at: the version.
        rows: at most; cells are made short for a page with `cut`.
        seconds: that it may take, instead of the bound that all have.
        file: where to write the rows instead, in the format `csv` or `json`.
    """

    sql: str
    at: int
    rows: int
    values: Mapping[str, Any] = field(default_factory=dict)
    cut: bool = False
    seconds: int | None = None
    file: str | None = None
    format: str = "json"
    stopped: str | None = None
    _process: "_Process | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, why: str) -> None:
        """Ends it now, or before it begins."""
        with self._lock:
            self.stopped = self.stopped or why
            if self._process is not None:
                self._process.kill()

    def attach(self, process: "_Process") -> None:
        """Says where it runs.

        Raises:
            Stopped: it was ended before it began.
        """
        with self._lock:
            self._process = process
            if self.stopped is not None:
                raise QueryStopped(self.stopped)

    def detach(self) -> None:
        """Says that it runs no more."""
        with self._lock:
            self._process = None


class Workers:
    """The processes of one store."""

    def __init__(self, root: str, bounds: QueryLimits) -> None:
        self.root, self.bounds = root, bounds
        self._slots = threading.BoundedSemaphore(bounds.at_once)
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._lock = threading.Lock()

    def run(self, statement: Statement, wait: float = 0.0) -> QueryRows:
        """The statement's answer.

        Args:
            statement: what to run.
            wait: seconds to wait for a place.

        Raises:
            QueryError: it is refused, or fails.
            Stopped: it was ended.
            Busy: there is no place for it.
        """
        if not self._slots.acquire(timeout=wait) if wait else not self._slots.acquire(False):
            raise TooManyQueries(
                f"{self.bounds.at_once} statements are running; try again when one is done"
            )
        try:
            return self._run(statement)
        finally:
            self._slots.release()

    def _run(self, statement: Statement) -> QueryRows:
        process, seconds = self._take(), min(statement.seconds or 1 << 30, self.bounds.seconds)
        timer = threading.Timer(seconds, statement.stop, [f"stopped after {seconds} s"])
        try:
            statement.attach(process)
            timer.start()
            record = process.ask(statement, seconds)
        finally:
            timer.cancel()
            statement.detach()
            self._put(process)
        if record is None:
            why = f"ended by the system; it may take {self.bounds.memory >> 20:,} MB of memory"
            raise QueryStopped(statement.stopped or why)
        if "error" in record:
            raise QueryError(record["error"])
        return QueryRows(**record)

    def _take(self) -> "_Process":
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    return process
                self._forget(process)
        process = _Process(self.root, self.bounds.memory)
        with self._lock:
            self._all.add(process)
        return process

    def _put(self, process: "_Process") -> None:
        with self._lock:
            if process.alive:
                self._idle.append(process)
            else:
                self._forget(process)

    def _forget(self, process: "_Process") -> None:
        self._all.discard(process)
        process.kill()

    def warm(self, at: int) -> None:
        """Starts a process, and opens a version in it, so that the first statement need not."""
        statement = Statement("SELECT count(*) FROM documents", at, 1)
        threading.Thread(target=self._warm, args=(statement,), name="warm", daemon=True).start()

    def _warm(self, statement: Statement) -> None:
        # What is wrong is told to whoever asks.
        with suppress(QueryError, OSError):
            self.run(statement)

    def close(self) -> None:
        """Ends all processes."""
        with self._lock:
            for process in list(self._all):
                self._forget(process)


class _Process:
    """One worker process."""

    def __init__(self, root: str, memory: int) -> None:
        self._scratch = tempfile.mkdtemp(prefix="ixt-serve-")
        environment = {
            **os.environ,
            "TMPDIR": self._scratch,
            "IXT_QUERY_MEMORY": f"{memory >> 20}MiB",
        }
        command = [sys.executable, "-m", "ixt_inspector.web.query_worker", root]
        self._process = subprocess.Popen(
            [*command, str(memory + SPARE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        watch = threading.Timer(START_SECONDS, self._process.kill)
        watch.start()
        ready = self._read()
        watch.cancel()
        if ready is None:
            self.kill()
            raise QueryError(f"no process for SQL could be started: {' '.join(command)}")

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, statement: Statement, seconds: int) -> dict[str, Any] | None:
        """The answer to a statement, None if the process ended instead."""
        assert self._process.stdin is not None
        request = {
            name: getattr(statement, name)
            for name in ("sql", "at", "rows", "values", "cut", "file", "format")
        }
        try:
            self._process.stdin.write(orjson.dumps({**request, "seconds": seconds}) + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        return self._read()

    def kill(self) -> None:
        """Ends it at once, and removes what it has spilled."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _read(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            self._process.wait()
            return None
        record: dict[str, Any] = orjson.loads(line)
        return record


@dataclass
class PendingQuery:
    """A statement that a page waits for; reloading the page finds it again."""

    statement: Statement
    began: float = field(default_factory=time.monotonic)
    answer: QueryRows | None = None
    error: QueryError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


class Jobs:
    """The statements of the SQL page, by snapshot and text."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._jobs: dict[tuple[int, str], PendingQuery] = {}
        self._lock = threading.Lock()

    def find(self, at: int, sql: str) -> PendingQuery | None:
        """The job of this statement, while it runs or is not yet shown."""
        with self._lock:
            return self._jobs.get((at, sql))

    def begin(self, at: int, sql: str) -> PendingQuery:
        """The job of this statement, begun now if there is none."""
        with self._lock:
            self._forget_old()
            job = self._jobs.get((at, sql))
            if job is None:
                bounds = self._workers.bounds
                job = PendingQuery(Statement(sql, at, bounds.rows, cut=True))
                self._jobs[at, sql] = job
                threading.Thread(target=self._run, args=(job,), name="sql", daemon=True).start()
            return job

    def shown(self, at: int, sql: str) -> None:
        """Its end was shown: asking again runs it again."""
        with self._lock:
            self._jobs.pop((at, sql), None)

    def _run(self, job: PendingQuery) -> None:
        try:
            job.answer = self._workers.run(job.statement)
        except QueryError as error:
            job.error = error
        finally:
            job.done.set()

    def _forget_old(self) -> None:
        bound = self._workers.bounds.seconds + 60
        old = [key for key, job in self._jobs.items() if job.done.is_set() and job.seconds > bound]
        for key in old:
            del self._jobs[key]
