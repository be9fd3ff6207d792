"""The environments of the peers: made once, beside the interpreter that runs the benchmark."""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

from measurements import log

PACKAGES = {
    "litdata": ("litdata",),
    "lancedb": ("lancedb", "pylance"),
    "datasets": ("datasets>=4",),
    "webdataset": ("webdataset",),
}


DATATROVE = ("datatrove==0.10.1", "aiofiles", "aiosqlite", "httpx", "orjson")
"""Its extra `inference` would bring two engines; this is what the client's side of it imports."""


def _home(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ixt" / f"bench-{name}-{sys.version_info.major}.{sys.version_info.minor}"


def datatrove_python() -> Path | None:
    """An interpreter that has datatrove and nothing of ours; None if it cannot be installed.

    It needs a huggingface-hub that transformers 4 refuses.
    """
    home = _home("datatrove")
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    return python if _installed(python, "datatrove", DATATROVE) else None


def peers_python() -> Path:
    """The interpreter that has the peers, in addition to the packages of this one."""
    home = _home("peers")
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python*/site-packages")
    ours = [path for path in site.getsitepackages() if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in ours]
    # Rewritten each time: the environment that wrote it may no longer exist.
    (packages / "ours.pth").write_text("".join(lines))
    return python


def install(python: Path, peer: str) -> bool:
    """Install one peer if it is missing; return whether it is installed."""
    if peer not in PACKAGES:
        return True
    return _installed(python, peer, PACKAGES[peer])


def _installed(python: Path, peer: str, packages: tuple[str, ...]) -> bool:
    # Packages through `ours.pth` do not count: an old version may not work.
    mark = python.parent / f".{peer}"
    if mark.exists():
        return True
    log(f"installing {peer} ...")
    command = [str(python), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        log(f"{peer} was not installed: {done.stderr.strip().splitlines()[-1:]}")
        return False
    mark.touch()
    return True
