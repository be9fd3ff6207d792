"""A real terminal for tests: a program in a pseudo-terminal, what it shows, and keys for it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

_STEERING = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")


class Terminal:
    """A program whose standard streams are one terminal of 24 x 100, which it controls."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        own, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self._own, self._seen, self._read = own, "", 0
        self.process = subprocess.Popen(
            command,
            stdin=its,
            stdout=its,
            stderr=its,
            env={**environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(its)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._own, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What was shown since the last wait, up to `text` and what came with it."""
        end = time.monotonic() + seconds
        while True:
            new = _STEERING.sub("", self._seen)[self._read :]
            if text in new:
                self._read += new.index(text) + len(text)
                return new[: new.index(text) + len(text)]
            left = end - time.monotonic()
            assert left > 0, f"{text!r} was not shown; shown was: {new!r}"
            if select.select([self._own], [], [], min(left, 0.2))[0]:
                try:
                    self._seen += os.read(self._own, 1 << 16).decode(errors="replace")
                except OSError:
                    raise AssertionError(
                        f"{text!r} was not shown before the end: {new!r}"
                    ) from None

    def end(self, seconds: float = 30) -> int:
        """The exit code of the program, which ends by itself."""
        while self.process.poll() is None and seconds > 0:
            if select.select([self._own], [], [], 0.1)[0]:
                try:
                    os.read(self._own, 1 << 16)
                except OSError:
                    break
            seconds -= 0.1
        return self.process.wait(timeout=60)
