"""The machine and the versions, without anything that names the machine's owner."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "ixt",
    "mosaicml",
    "mosaicml-streaming",
    "torch",
    "transformers",
    "duckdb",
    "pyarrow",
    "numpy",
)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(package: str) -> str:
    """A package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def machine_facts() -> tuple[tuple[str, str], ...]:
    """Name and value, for people."""
    return (
        ("processor", f"{processor()}, {cores()} cores"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
        *((package, installed(package)) for package in PACKAGES),
    )
