"""A judge's server on this machine: started with suitable flags, supervised, always stopped."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ixt_data.critics.vllm import supervisor
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    RequestTimeout,
)
from ixt_data.errors import CriticError

PARSERS = (
    ("deepseek-r1", "deepseek_r1"),
    ("deepseek-v3", "deepseek_v3"),
    ("gpt-oss", "openai_gptoss"),
    ("glm-4.5", "glm45"),
    ("granite", "granite"),
    ("hunyuan", "hunyuan_a13b"),
    ("minimax-m2", "minimax_m2"),
    ("nemotron", "nemotron_v3"),
    ("mistral", "mistral"),
    ("magistral", "mistral"),
    ("olmo", "olmo3"),
    ("step3", "step3"),
    ("qwq", "deepseek_r1"),
    ("qwen3", "qwen3"),
)
"""vLLM's reasoning parser by a part of the model's name; `qwen3` fits most other models."""

MAX_RESTARTS = 5
RESTART_WINDOW_SECONDS = 600.0
"""More restarts than `MAX_RESTARTS` within this time stop the critique run."""

_TAIL_BYTES = 2000


class ServerProcess:
    """One server of a judge on this machine.

    Args:
        program: its name in messages and of its log.
        model: what it serves, for messages.
        command: returns its command line for a local port.
        log: file for its output; by default `PROGRAM-PORT.log` in the working folder.
        start_seconds: timeout until it is ready.

    Attributes:
        port: local port that it listens on.
        command: the complete command line.
        restarts: times of recent restarts, by `time.monotonic`.
    """

    def __init__(
        self,
        program: str,
        model: str,
        command: Callable[[int], list[str]],
        log: Path | None = None,
        start_seconds: float = 1800.0,
    ) -> None:
        self.program, self.model = program, model
        self.port = _free_port()
        self.command = command(self.port)
        self.log = log or Path(f"{program}-{self.port}.log")
        self.restarts: list[float] = []
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address up to `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """Process id of the supervisor, which leads the process group.

        Raises:
            CriticError: the server is not running.
        """
        if self._process is None:
            raise CriticError(f"{self.program} with {self.model} is not running")
        return self._process.pid

    async def start(self, client: Client) -> str:
        """Start the server, wait until it is ready, and return its address.

        Raises:
            CriticError: it exits, or is not ready in time; the message has the end of its log.
        """
        self._launch()
        end = time.monotonic() + self._start_seconds
        while time.monotonic() < end:
            if not self._is_running():
                raise CriticError(f"{self.program} exited before it was ready. {self._log_tail()}")
            with contextlib.suppress(EndpointUnreachable, ConnectionBroken, RequestTimeout):
                if (await client.get(f"http://127.0.0.1:{self.port}/health")).status == 200:
                    return self.url
            await asyncio.sleep(0.2)
        self.stop()
        raise CriticError(
            f"{self.program} was not ready after {self._start_seconds:g} s. {self._log_tail()}"
        )

    async def supervise(self, is_hung: Callable[[], bool]) -> None:
        """Restart the server whenever it exits or hangs, until this task is cancelled.

        Args:
            is_hung: returns whether the server hangs.

        Raises:
            CriticError: it exits again and again.
        """
        while True:
            await asyncio.sleep(0.2)
            if self._is_running() and not is_hung():
                continue
            now = time.monotonic()
            self.restarts = [
                then for then in self.restarts if now - then < RESTART_WINDOW_SECONDS
            ] + [now]
            if len(self.restarts) > MAX_RESTARTS:
                raise CriticError(
                    f"{self.program} exited {MAX_RESTARTS + 1} times in "
                    f"{RESTART_WINDOW_SECONDS:g} s. {self._log_tail()}"
                )
            self.stop()
            await asyncio.sleep(0.2 * 2 ** len(self.restarts))
            self._launch()
            # It is not ready before it has loaded its weights.
            end = time.monotonic() + self._start_seconds
            while is_hung() and self._is_running() and time.monotonic() < end:
                await asyncio.sleep(0.2)

    def stop(self) -> None:
        """Stop the server and all its processes."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(supervisor.GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, supervisor.__file__, *self.command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise CriticError(f"cannot start {self.command[0]!r}: {error}") from None

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            text = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return f"{self.log} ends with: {' | '.join(lines[-5:])}"
        return f"Its log is {self.log}"


class Server(ServerProcess):
    """One `vllm serve` process.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        binary: the program; vLLM has a separate environment.
        name: the model's name in requests, the same on every machine; by default `model`.
        reasoning_parser: vLLM's parser; by default inferred from the model's name.
        arguments: further flags of `vllm serve`.
        log: file for its output; by default `vllm-PORT.log` in the working folder.
        start_seconds: timeout until it is ready.
    """

    def __init__(
        self,
        model: str,
        binary: str = "vllm",
        name: str | None = None,
        reasoning_parser: str | None = None,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        start_seconds: float = 1800.0,
    ) -> None:
        self.name = name or model

        def command(port: int) -> list[str]:
            return [
                *(binary, "serve", model),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--served-model-name", self.name),
                *("--reasoning-parser", reasoning_parser or reasoning_parser_of(model)),
                # Without this, judges may generate white space until max_tokens. Speculative
                # decoding does not work with schemas, so it stays off by default.
                *("--structured-outputs-config.backend", "xgrammar"),
                *("--structured-outputs-config.disable_any_whitespace", "true"),
                "--enable-prefix-caching",
                *arguments,
            ]

        super().__init__("vllm", model, command, log, start_seconds)


def reasoning_parser_of(model: str) -> str:
    """Return the reasoning parser for a model, by its name."""
    lower = model.lower()
    return next((parser for part, parser in PARSERS if part in lower), "qwen3")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
