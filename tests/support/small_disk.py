"""A real file system of a few megabytes, in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path


def run_on_small_disk(
    folder: Path, program: str, size: str = "3m"
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program whose folder `disk` (its first argument) is a file system of its own.

    It works without root where user namespaces do.
    """
    disk = folder / "disk"
    disk.mkdir()
    script = folder / "program.py"
    script.write_text(program)
    mount = f"mount -t tmpfs -o size={size} tmpfs {disk} && exec {sys.executable} {script} {disk}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
