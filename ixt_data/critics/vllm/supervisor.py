"""Run one command in a separate process group, and kill the whole group at its end.

    python supervisor.py COMMAND ...

Standard input is a pipe from the process that started this one. When that pipe closes, for any
reason (also SIGKILL), this process kills the group. It also kills the group when the command exits,
because an engine may outlive its server.
"""

import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 10.0


def main() -> None:
    """Run the command until it exits or standard input closes."""
    # Signals to the group are meant for its other processes.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=_reset_signals)
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], 0.2)
        if readable and not os.read(0, 1):
            os.killpg(0, signal.SIGTERM)
            end = time.monotonic() + GRACE_SECONDS
            while child.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            break
    os.killpg(0, signal.SIGKILL)


def _reset_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
