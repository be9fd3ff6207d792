"""Python's standard library as a corpus: real files that exist on every machine."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"__pycache__", "site-packages", "dist-packages"}


def stdlib_files(root: Path) -> Iterator[Path]:
    """Yield the *.py files of the standard library below `root` by name, without links."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and not path.is_symlink():
                yield path


def copy_stdlib(target: Path, limit: int | None = None) -> int:
    """Copy the modules of the standard library to `target`; return their number.

    Args:
        target: new folder.
        limit: number of modules, evenly spread over the library; all by default.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = list(stdlib_files(root))
    if limit is not None:
        paths = paths[:: max(1, len(paths) // limit)][:limit]
    for path in paths:
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return len(paths)
