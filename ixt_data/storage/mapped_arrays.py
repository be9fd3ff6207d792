"""Arrays in files that are mapped into memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def allocated_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Create a file with an array of zeros, whose space is allocated; return its mapping.

    A write into a hole of a file would end the process by SIGBUS if the disk is full.

    Raises:
        OSError: the disk is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:
            path.unlink()
            error.filename = str(path)
            raise
    return np.memmap(path, dtype, "r+", shape=shape)
