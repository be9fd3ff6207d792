"""A real `ixt serve` of a store."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(root: str, *options: str) -> Iterator[str]:
    """Serve a store on a free port; yield the address without a token."""
    command = [sys.executable, "-m", "ixt_data", "serve", "--store", root, "--port", "0"]
    command += ["--output", "json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"].split("?")[0].rstrip("/")
        server.terminate()
        assert server.wait(20) == 0
