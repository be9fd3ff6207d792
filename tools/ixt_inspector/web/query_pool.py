"""Queries of users: run in separate processes, within limits, and cancelled on request.

`query_worker` explains why. A fixed number of queries run in parallel; further ones are refused.
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
from ixt_data.sql import parameter_value

START_SECONDS = 60.0
_REQUEST = (
    *("sql", "at", "before", "rows", "values", "sorted", "sort", "shortened", "file", "format"),
)
BASE_MEMORY_BYTES = 1 << 30
"""Memory that a process needs before it runs a query, with a margin."""


class QueryStopped(QueryError):
    """The query was ended: by its time limit, by a user, or by the system for its memory."""


class TooManyQueries(QueryError):
    """The maximum number of queries is running."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of a user's query.

    Attributes:
        seconds: running time.
        rows: rows on a page.
        download: rows in a file.
        memory: memory in bytes.
        max_parallel: queries that run in parallel.
    """

    seconds: int = 20
    rows: int = 500
    download: int = 100_000
    memory: int = 2 << 30
    max_parallel: int = 2


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The rows of a query, and whether it has more."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    has_more: bool
    seconds: float

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dicts by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass
class Statement:
    """One query, which can be stopped while it runs.

    Attributes:
        sql: text of the query.
        at: version of the snapshot.
        rows: maximum number of rows.
        values: parameters.
        before: version of the schema `before`.
        sorted: the user's statement that `sql` sorts; empty if `sql` does not sort it.
        sort: number of the column that `sql` sorts it by, from 1.
        shortened: whether cells are shortened for a page.
        seconds: time limit, where it is below that of the pool.
        file: file for the rows; they are returned if it is None.
        format: format of the file, a name of `ixt_data.sql.QueryOutput`.
        stop_reason: reason why it was stopped, None if it was not.
    """

    sql: str
    at: int
    rows: int
    values: Mapping[str, Any] = field(default_factory=dict)
    before: int | None = None
    sorted: str = ""
    sort: int | None = None
    shortened: bool = False
    seconds: int | None = None
    file: str | None = None
    format: str = "json"
    stop_reason: str | None = None
    _process: "_WorkerProcess | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, reason: str) -> None:
        """End it now, or before it starts."""
        with self._lock:
            self.stop_reason = self.stop_reason or reason
            if self._process is not None:
                self._process.kill()

    def attach(self, process: "_WorkerProcess") -> None:
        """Set the process that runs it.

        Raises:
            QueryStopped: it was stopped before it started.
        """
        with self._lock:
            self._process = process
            if self.stop_reason is not None:
                raise QueryStopped(self.stop_reason)

    def detach(self) -> None:
        """Clear the process that ran it."""
        with self._lock:
            self._process = None


class QueryPool:
    """The worker processes of one store."""

    def __init__(self, root: str, limits: QueryLimits) -> None:
        self.root, self.limits = root, limits
        self._slots = threading.BoundedSemaphore(limits.max_parallel)
        self._idle: list[_WorkerProcess] = []
        self._all: set[_WorkerProcess] = set()
        self._lock = threading.Lock()

    def run(self, statement: Statement, wait_seconds: float = 0.0) -> QueryRows:
        """Run a query and return its rows.

        Args:
            statement: query to run.
            wait_seconds: time to wait for a free slot.

        Raises:
            QueryError: DuckDB refuses the query, or it fails.
            QueryStopped: it was stopped.
            TooManyQueries: no slot became free.
        """
        is_acquired = (
            self._slots.acquire(timeout=wait_seconds)
            if wait_seconds
            else self._slots.acquire(blocking=False)
        )
        if not is_acquired:
            raise TooManyQueries(
                f"{self.limits.max_parallel} queries are running, which is the maximum; "
                "try again when one has finished"
            )
        try:
            return self._run(statement)
        finally:
            self._slots.release()

    def _run(self, statement: Statement) -> QueryRows:
        process, seconds = self._take(), min(statement.seconds or 1 << 30, self.limits.seconds)
        timer = threading.Timer(seconds, statement.stop, [f"stopped after {seconds} s"])
        try:
            statement.attach(process)
            timer.start()
            record = process.send(statement, seconds)
        finally:
            timer.cancel()
            statement.detach()
            self._put(process)
        if record is None and process.is_lost and statement.stop_reason is None:
            # It had exited before it received the query.
            return self._run(statement)
        if record is None:
            megabytes = self.limits.memory >> 20
            reason = f"ended by the system: the memory limit is {megabytes:,} MB (--sql-memory)"
            raise QueryStopped(statement.stop_reason or reason)
        if "error" in record:
            raise QueryError(record["error"])
        return QueryRows(**record)

    def _take(self) -> "_WorkerProcess":
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                self._discard(process)
        process = _WorkerProcess(self.root, self.limits.memory)
        with self._lock:
            self._all.add(process)
        return process

    def _put(self, process: "_WorkerProcess") -> None:
        with self._lock:
            if process.is_alive and not process.is_spent:
                self._idle.append(process)
            else:
                self._discard(process)

    def _discard(self, process: "_WorkerProcess") -> None:
        self._all.discard(process)
        process.kill()

    def warm_up(self, at: int) -> None:
        """Start a process and open a version in it, so the first query need not wait."""
        statement = Statement("SELECT count(*) FROM documents", at, 1)
        threading.Thread(target=self._warm_up, args=(statement,), name="warm", daemon=True).start()

    def _warm_up(self, statement: Statement) -> None:
        # The first query of a user reports the error.
        with suppress(QueryError, OSError):
            self.run(statement)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for process in list(self._all):
                self._discard(process)


class _WorkerProcess:
    """One process of `query_worker`.

    Attributes:
        is_lost: whether it had exited when a query was sent.
        is_spent: whether its last query failed in a way that may fail the next one.
    """

    def __init__(self, root: str, memory: int) -> None:
        self.is_lost = self.is_spent = False
        self._scratch = tempfile.mkdtemp(prefix="ixt-serve-")
        environment = {
            **os.environ,
            "TMPDIR": self._scratch,
            "IXT_QUERY_MEMORY": f"{memory >> 20}MiB",
        }
        command = [sys.executable, "-m", "ixt_inspector.web.query_worker", root]
        self._process = subprocess.Popen(
            [*command, str(memory + BASE_MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        ready = self._read()
        timer.cancel()
        if ready is None:
            self.kill()
            raise QueryError(f"the process for SQL did not start: {' '.join(command)}")

    @property
    def is_alive(self) -> bool:
        """Return whether it accepts requests."""
        return self._process.poll() is None

    def send(self, statement: Statement, seconds: int) -> dict[str, Any] | None:
        """Send a query and return the response; None if the process exited."""
        assert self._process.stdin is not None
        request = {name: getattr(statement, name) for name in _REQUEST}
        try:
            self._process.stdin.write(orjson.dumps({**request, "seconds": seconds}) + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.is_lost = True
            return None
        self.is_lost = self._read() is None
        record = self._read() if not self.is_lost else None
        self.is_spent = record is None or record.pop("is_spent", False)
        return record

    def kill(self) -> None:
        """End it immediately, and remove its temporary files."""
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


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A query of the SQL page.

    Attributes:
        sql: text of the query.
        at: version of the snapshot.
        values: names and values of its parameters, as typed.
        before: version of the schema `before`.
        sorted: the user's statement that `sql` sorts; empty if `sql` does not sort it.
        sort: number of the column that `sql` sorts it by, from 1.
    """

    sql: str
    at: int
    values: tuple[tuple[str, str], ...] = ()
    before: int | None = None
    sorted: str = ""
    sort: int | None = None

    def statement(self, rows: int, **options: Any) -> Statement:
        """Return the statement to run; see `Statement` for the options."""
        values = {name: parameter_value(text) for name, text in self.values}
        sorts = (self.sorted, self.sort)
        return Statement(self.sql, self.at, rows, values, self.before, *sorts, **options)


@dataclass
class PendingQuery:
    """A query that a page waits for; a reload of the page waits for the same query."""

    statement: Statement
    started_at: float = field(default_factory=time.monotonic)
    result: QueryRows | None = None
    error: QueryError | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        """Return the seconds since it started."""
        return time.monotonic() - self.started_at


class PendingQueries:
    """The queries of the SQL page that run, or whose result no page has shown yet."""

    def __init__(self, pool: QueryPool) -> None:
        self._pool = pool
        self._pending: dict[PageQuery, PendingQuery] = {}
        self._lock = threading.Lock()

    def find(self, query: PageQuery) -> PendingQuery | None:
        """Return a query that runs or whose result no page has shown yet."""
        with self._lock:
            return self._pending.get(query)

    def start(self, query: PageQuery) -> PendingQuery:
        """Return the pending query; start it if there is none yet."""
        with self._lock:
            self._remove_old()
            pending = self._pending.get(query)
            if pending is None:
                pending = PendingQuery(query.statement(self._pool.limits.rows, shortened=True))
                self._pending[query] = pending
                threading.Thread(target=self._run, args=(pending,), name="sql", daemon=True).start()
            return pending

    def remove(self, query: PageQuery) -> None:
        """Remove a query after its result was shown, so that it can run again."""
        with self._lock:
            self._pending.pop(query, None)

    def _run(self, pending: PendingQuery) -> None:
        try:
            pending.result = self._pool.run(pending.statement)
        except QueryError as error:
            pending.error = error
        finally:
            pending.finished.set()

    def _remove_old(self) -> None:
        max_seconds = self._pool.limits.seconds + 60
        old = [
            key
            for key, pending in self._pending.items()
            if pending.finished.is_set() and pending.seconds > max_seconds
        ]
        for key in old:
            del self._pending[key]
