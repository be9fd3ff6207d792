"""Measurements in a new process, with separate memory and caches."""

import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Connection) -> None:
    pipe.send(function(*arguments))


def peak_memory() -> float:
    """Return the peak memory of this process in MiB; getrusage would include its parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a call in a new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=_call, args=(function, arguments, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result
