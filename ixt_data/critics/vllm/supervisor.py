"""Runs one command in a process group of its own, and ends the whole group with it or with us.

    python keeper.py COMMAND ...

Standard input is a pipe from the process that started this one: when it closes, for whatever
reason (also SIGKILL), the group is ended. So is it when the command ends: an engine may outlive its
server.
"""

import os
import select
import signal
import subprocess
import sys
import time

GRACE = 10.0


def main() -> None:
    """Runs the command to its end, or ours."""
    # What is sent to the group is for the others in it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=_defaults)
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], 0.2)
        if readable and not os.read(0, 1):
            os.killpg(0, signal.SIGTERM)
            end = time.monotonic() + GRACE
            while child.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            break
    os.killpg(0, signal.SIGKILL)


def _defaults() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
