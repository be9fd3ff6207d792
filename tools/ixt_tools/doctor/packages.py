"""Python and the packages: installed, tested and allowed versions."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from ixt_tools.doctor.check import Check

TESTED = {
    "aiohttp": "3.14.5",
    "boto3": "1.44.5",
    "duckdb": "2.0.0",
    "mosaicml": "0.32.1",
    "mosaicml-streaming": "0.13.0",
    "numpy": "2.1.3",
    "pyarrow": "26.0.1",
    "pydantic": "2.14.3",
    "torch": "2.7.0",
    "transformers": "4.57.6",
}
"""Versions of `constraints.txt`, which is not in the wheel; a test compares them."""

PYTHON = (3, 11)
TESTED_PYTHON = ((3, 11), (3, 12), (3, 13))


def check_packages() -> Iterator[Check]:
    """Check Python, the main packages, and packages that exclude each other."""
    own = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        yield Check("python", "broken", own, "create an environment with Python 3.11 or newer")
    elif sys.version_info[:2] not in TESTED_PYTHON:
        yield Check("python", "warning", f"{own}; tested up to 3.13")
    else:
        yield Check("python", "ok", own)
    requirements = _declared()
    yield from (_check_package(name, requirements.get(name)) for name in TESTED)
    if (vllm := installed_version("vllm")) and (composer := installed_version("mosaicml")):
        yield Check(
            "vllm with composer",
            "broken",
            f"vllm {vllm} and mosaicml {composer} need different versions of torch",
            "install vLLM in a separate environment (pip install 'ixt[vllm]'); point --endpoint "
            "or --vllm-bin at it",
        )


def installed_version(name: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _declared() -> dict[str, tuple[Requirement, str | None]]:
    """Return the requirements of ixt by package, with the extra of each."""
    requirements: dict[str, tuple[Requirement, str | None]] = {}
    for line in requires("ixt") or []:
        requirement = Requirement(line)
        marker = str(requirement.marker or "")
        extra = marker.split('"')[1] if "extra" in marker else None
        if extra in (None, "train", "s3"):
            requirements.setdefault(requirement.name, (requirement, extra))
    return requirements


def _check_package(name: str, declared: tuple[Requirement, str | None] | None) -> Check:
    requirement, extra = declared or (Requirement(name), None)
    tested, version_found = TESTED[name], installed_version(name)
    what = f"ixt[{extra}]" if extra else "ixt"
    remedy = f"pip install '{what}' '{name}=={tested}'"
    if version_found is None:
        if extra is None:
            return Check(name, "broken", "not installed", remedy)
        use = {"train": "training", "s3": "stores on S3"}[extra]
        return Check(name, "ok", f"not installed; only {use} needs it", f"pip install '{what}'")
    if not requirement.specifier.contains(version_found, prereleases=True):
        return Check(name, "broken", f"{version_found}; ixt needs {requirement.specifier}", remedy)
    # Builds for CPU or CUDA have a suffix.
    if version_found.partition("+")[0] != tested:
        return Check(name, "warning", f"{version_found}; tested with {tested}", remedy)
    return Check(name, "ok", version_found)
