"""A `vllm serve` of our own: started with the right flags, kept alive, and never left behind."""

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
"""vLLM's reasoning parser by a part of the model's name; `qwen3` fits most others that think."""

RESTARTS = 5
WITHIN = 600.0
"""More restarts than this in this many seconds are no accident."""

_TAIL = 2000


class Server:
    """One `vllm serve`.

    Args:
        model: what it serves: a folder or a name.
        binary: the program; vLLM lives in an environment of its own.
        name: the model's name in requests, the same on every machine.
        reasoning_parser: by the model's name if it is not given.
        arguments: more of vLLM's own flags.
        log: file for its output; `vllm-PORT.log` in the working folder by default.
        start_seconds: how long it may take until it is well.
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
        self.model, self.name = model, name or model
        self.port = _free_port()
        self.log = log or Path(f"vllm-{self.port}.log")
        self.restarts: list[float] = []
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.command = [
            *(binary, "serve", model),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--served-model-name", self.name),
            *("--reasoning-parser", reasoning_parser or parser_of(model)),
            # White space without end is what judges fall into; and speculative decoding, which
            # does not go with schemas, is off unless asked for.
            *("--structured-outputs-config.backend", "xgrammar"),
            *("--structured-outputs-config.disable_any_whitespace", "true"),
            "--enable-prefix-caching",
            *arguments,
        ]

    @property
    def url(self) -> str:
        """Its address up to `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """The process that holds its group.

        Raises:
            CriticError: it is not up.
        """
        if self._process is None:
            raise CriticError(f"no vllm of {self.model} is up")
        return self._process.pid

    async def start(self, client: Client) -> str:
        """Starts it and waits until it is well; returns its address.

        Raises:
            CriticError: it ends, or takes too long; with the end of what it wrote.
        """
        self._launch()
        end = time.monotonic() + self._start_seconds
        while time.monotonic() < end:
            if not self._runs():
                raise CriticError(f"vllm ended before it was up. {self._last_words()}")
            with contextlib.suppress(EndpointUnreachable, ConnectionBroken, RequestTimeout):
                if (await client.get(f"http://127.0.0.1:{self.port}/health")).status == 200:
                    return self.url
            await asyncio.sleep(0.2)
        self.stop()
        raise CriticError(f"vllm was not up after {self._start_seconds:g} s. {self._last_words()}")

    async def keep(self, is_frozen: Callable[[], bool]) -> None:
        """Starts it again whenever it ends or freezes, for as long as this runs.

        Raises:
            CriticError: it ends again and again.
        """
        while True:
            await asyncio.sleep(0.2)
            if self._runs() and not is_frozen():
                continue
            now = time.monotonic()
            self.restarts = [then for then in self.restarts if now - then < WITHIN] + [now]
            if len(self.restarts) > RESTARTS:
                raise CriticError(
                    f"vllm ended {RESTARTS + 1} times in {WITHIN:g} s. {self._last_words()}"
                )
            self.stop()
            await asyncio.sleep(0.2 * 2 ** len(self.restarts))
            self._launch()
            # It cannot be well before it has read its weights.
            end = time.monotonic() + self._start_seconds
            while is_frozen() and self._runs() and time.monotonic() < end:
                await asyncio.sleep(0.2)

    def stop(self) -> None:
        """Ends it and all its processes."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(supervisor.GRACE + 5)
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

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = self.log.read_bytes()[-_TAIL:].decode(errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return f"{self.log} ends: {' | '.join(lines[-5:])}"
        return f"Its log is {self.log}"


def parser_of(model: str) -> str:
    """The reasoning parser that fits a model, by its name."""
    lower = model.lower()
    return next((parser for part, parser in PARSERS if part in lower), "qwen3")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
