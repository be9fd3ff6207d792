"""The command line as a user runs it: one process per verb."""

import json
import os
import subprocess
import sys
from pathlib import Path


def ixt(*arguments: object, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ixt_data", *map(str, arguments)]
    environment = {**os.environ, "IXT_STORE": str(folder / "S")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def as_json(*arguments: object, folder: Path, code: int = 0) -> dict:
    done = ixt(*arguments, "--output", "json", folder=folder, code=code)
    # Rows of a query are one array over several lines; all else is one line.
    assert arguments[0] == "query" or done.stdout.count("\n") == 1
    return json.loads(done.stdout)
