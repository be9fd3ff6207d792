"""The prompt of `ixt query`: statements that end with `;`, and commands that start with a dot."""

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.output import ColorDepth
from rich.console import Console

from ixt_data.cli.completion import COMMANDS, Completions, is_complete
from ixt_data.cli.run_query import run_cancellable
from ixt_data.cli.view_verbs import find_views, list_views
from ixt_data.console import format_count, print_rows, printable
from ixt_data.errors import IxtError, QueryError
from ixt_data.sql import QueryOutput, read_table, write_rows

if TYPE_CHECKING:
    from ixt_data.store import Store


class Prompt:
    """A prompt that reads statements and runs them; an error ends one statement only."""

    def __init__(
        self,
        store: "Store",
        at: str | None,
        before: str | None,
        parameters: dict[str, Any],
        output: QueryOutput,
        limit: int,
    ) -> None:
        self._store, self._before, self._parameters = store, before, parameters
        self._output, self._limit = output, limit
        self._to: Path | None = None
        self._out, self._log = Console(), Console(stderr=True)
        self._catalog = store.catalog(at, before)
        self._commands: dict[str, Callable[[list[str]], None]] = {
            ".help": self._help,
            ".tables": self._tables,
            ".schema": self._schema,
            ".at": self._at,
            ".mode": self._set_mode,
            ".limit": self._set_limit,
            ".param": self._param,
            ".read": self._read,
        }
        assert self._commands.keys() == COMMANDS.keys() - {".quit"}

    def run(self) -> None:
        """Read and run until `.quit` or the end of the input."""
        completions = Completions(lambda: self._catalog, self._store)
        session: PromptSession[str] = PromptSession(
            history=FileHistory(str(_history())),
            completer=completions,
            complete_while_typing=False,
            multiline=Condition(lambda: not _is_finished(session.default_buffer.document)),
            prompt_continuation=lambda width, line, wrapped: "...> ".rjust(width),
            color_depth=ColorDepth.from_env(),
        )
        version = self._catalog.snapshot.version
        self._note(f"snapshot {version} of {self._store.root}. End a statement with ; - .help")
        try:
            while True:
                try:
                    text = session.prompt(f"ixt {self._catalog.snapshot.version}> ").strip()
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return
                if text.rstrip("; ") in (".quit", ".exit"):
                    return
                self.execute(text)
        finally:
            self._catalog.close()

    def execute(self, text: str) -> None:
        """Run a command or the statements of a text; print an error."""
        try:
            if text.startswith("."):
                self._command(text.rstrip(";"))
            elif text.strip(";\n "):
                self._run(text)
        except (IxtError, OSError) as error:
            self._log.print("[bold red]error:[/] ", end="")
            self._note(str(error))

    def _command(self, text: str) -> None:
        try:
            name, *rest = shlex.split(text)
        except ValueError as error:
            raise QueryError(f"{text}: {error}") from None
        if name not in self._commands:
            raise QueryError(f"no command {name}; commands: {', '.join(COMMANDS)}")
        self._commands[name](rest)

    def _run(self, text: str) -> None:
        for sql, names in self._catalog.statements(text):
            if missing := names - self._parameters.keys():
                raise QueryError(f"${min(missing)} has no value; give one: .param NAME=VALUE")
            used = {name: self._parameters[name] for name in names}
            started = time.monotonic()
            if self._output.is_text and self._to is None:
                self._print(sql, used)
            else:
                self._write(sql, used)
            self._note(f"{time.monotonic() - started:.2f} s")

    def _print(self, sql: str, parameters: dict[str, Any]) -> None:
        names, rows, more = run_cancellable(
            self._catalog,
            lambda: read_table(self._catalog, sql, parameters, self._limit),
            self._log,
        )
        as_lines = self._output is QueryOutput.line
        if len(rows) + 2 < self._out.height or not self._out.is_terminal:
            print_rows(self._out, names, rows, as_lines=as_lines)
        else:
            # Exits at once if everything fits, and does not wrap long lines.
            os.environ.setdefault("LESS", "-FRSX")
            with self._out.pager():
                print_rows(self._out, names, rows, as_lines=as_lines)
        if more:
            self._note(f"first {format_count(self._limit, 'row')}; .limit 0 prints all")

    def _write(self, sql: str, parameters: dict[str, Any]) -> None:
        if self._output is QueryOutput.parquet and self._to is None:
            raise QueryError("Parquet requires a file: .mode parquet FILE")
        shown = None if self._to is None else self._log
        to, output = self._to, self._output
        run_cancellable(
            self._catalog,
            lambda: write_rows(self._catalog, sql, parameters, output, to),
            shown,
        )
        if to is not None:
            self._note(f"written to {to}")

    def _help(self, rest: list[str]) -> None:
        for name, (arguments, what) in COMMANDS.items():
            self._note(f"{name + ' ' + arguments:28}{what}")
        self._note("Tab completes; Ctrl-C cancels a query or clears the input; Ctrl-D exits")

    def _tables(self, rest: list[str]) -> None:
        for view, columns, what in list_views(self._catalog):
            self._note(f"{view:28}{format_count(len(columns), 'column')}; one row is {what}")

    def _schema(self, rest: list[str]) -> None:
        for view, columns in find_views(self._catalog, rest).items():
            self._note(f"{view}:")
            for name, kind in columns.items():
                self._note(f"  {name:26}{kind}")

    def _at(self, rest: list[str]) -> None:
        fresh = self._store.catalog(rest[0] if rest else None, self._before)
        self._catalog.close()
        self._catalog = fresh
        self._note(f"snapshot {fresh.snapshot.version}")

    def _set_mode(self, rest: list[str]) -> None:
        if not 1 <= len(rest) <= 2 or rest[0] not in list(QueryOutput):
            raise QueryError(
                f".mode requires one of {', '.join(QueryOutput)}, and optionally a file"
            )
        self._output = QueryOutput(rest[0])
        self._to = Path(rest[1]) if rest[1:] else None

    def _set_limit(self, rest: list[str]) -> None:
        if len(rest) != 1 or not rest[0].isdigit():
            raise QueryError(f".limit requires a number of rows, 0 for all; it is {self._limit}")
        self._limit = int(rest[0])

    def _param(self, rest: list[str]) -> None:
        from ixt_data.cli.query_input import parse_parameter

        for pair in rest:
            try:
                name, value = parse_parameter(pair)
            except Exception as error:
                raise QueryError(str(error)) from None
            self._parameters[name] = value
        for name, value in self._parameters.items():
            self._note(f"${name} = {value!r}")

    def _read(self, rest: list[str]) -> None:
        from ixt_data.cli.query_input import read_sql

        if len(rest) != 1:
            raise QueryError(".read requires the name of one file")
        self._run(read_sql(Path(rest[0]).expanduser()))

    def _note(self, text: str) -> None:
        self._log.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def _is_finished(document: Document) -> bool:
    """Return whether Enter runs the input; otherwise Enter starts a new line."""
    text = document.text.strip()
    return not text or text.startswith(".") or is_complete(text)


def _history() -> Path:
    """Return the file of the input history, readable by the user only."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "ixt" / "query_history"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return path
