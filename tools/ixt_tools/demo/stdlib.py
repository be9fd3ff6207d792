"""The interpreter's own standard library as a corpus: real files, there on every machine."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"__pycache__", "site-packages", "dist-packages"}


def stdlib_files(root: Path) -> Iterator[Path]:
    """The *.py files below `root` that came with the interpreter, by name, links left out."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and not path.is_symlink():
                yield path


def copy_stdlib(target: Path, limit: int | None = None) -> int:
    """Copy the standard library's modules to `target`; return how many.

    Args:
        target: made anew.
        limit: evenly spread over the library, all by default.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = list(stdlib_files(root))
    if limit is not None:
        paths = paths[:: max(1, len(paths) // limit)][:limit]
    for path in paths:
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return len(paths)
