"""Measuring in a fresh process, whose memory and caches are its own."""

import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Connection) -> None:
    pipe.send(function(*arguments))


def peak_memory() -> float:
    """MiB that this process has taken at most; unlike getrusage, without its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process: its memory and its caches are its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(function, arguments, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result
