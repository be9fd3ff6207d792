"""The tensors of a checkpoint in parts, as torch.distributed.checkpoint (DCP) writes them.

DCP reads its `.metadata` by a full unpickler. Here only the types that describe tensors are
allowed, and a checkpoint in parts has nothing but tensors.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load

from ixt_data.errors import CorruptError

_METADATA = ".metadata"
_DESCRIPTIONS = {
    "torch.distributed.checkpoint.metadata": {
        "Metadata",
        "TensorStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "MetadataIndex",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": {"Path", "PosixPath"},
}


class _Unpickler(pickle.Unpickler):
    """An unpickler of descriptions of tensors, which creates nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_type and name not in _DESCRIPTIONS.get(module, ()):
            raise pickle.UnpicklingError(f"it requires {module}.{name}, which no checkpoint needs")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    """A reader of parts that creates nothing but tensors."""

    def read_metadata(self, *args: Any, **options: Any) -> Metadata:
        """Return the description of the tensors.

        Raises:
            CorruptError: the file cannot be read, or requires code.
        """
        path = Path(self.path) / _METADATA
        try:
            metadata: Metadata = _Unpickler(io.BytesIO(path.read_bytes())).load()
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise CorruptError(f"{path} cannot be read: {error}") from None
        metadata.storage_meta.load_id = self.load_id  # type: ignore[union-attr]
        return metadata


class _Planner(DefaultLoadPlanner):
    """A planner that refuses pickled values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Raise CorruptError."""
        raise CorruptError(f"{read_item.storage_index.fqn}: a value, where only tensors belong")


def check_parts(folder: Path) -> None:
    """Check that a folder has the complete files of all tensors.

    Raises:
        CorruptError: a file is missing or truncated.
    """
    sizes: dict[str, int] = {}
    for place in _Reader(folder).read_metadata().storage_data.values():
        end = place.offset + place.length
        sizes[place.relative_path] = max(sizes.get(place.relative_path, 0), end)
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size < size:
            raise CorruptError(f"{path} is missing or shorter than its {size:,} bytes")


def read_parts(folder: Path) -> dict[str, Any]:
    """Return all tensors, complete, nested by name; the process reads them alone.

    Raises:
        CorruptError: a file cannot be read, or has anything but tensors.
    """
    check_parts(folder)
    metadata = _Reader(folder).read_metadata()
    tensors: dict[str, Any] = {}
    for name, described in metadata.state_dict_metadata.items():
        if not isinstance(described, TensorStorageMetadata):
            raise CorruptError(f"{folder}: {name} is not a tensor")
        *groups, key = metadata.planner_data[name]
        group = tensors
        for part in groups:
            group = group.setdefault(part, {})
        group[key] = torch.empty(described.size, dtype=described.properties.dtype)
    load_parts(folder, tensors, no_dist=True)
    return tensors


def load_parts(folder: Path, tensors: dict[str, Any], **options: Any) -> None:
    """Copy the values of tensors from the parts; all ranks call this together, each for its parts.

    Args:
        folder: the folder.
        tensors: as `read_parts` returns them, or parts of them (DTensor).
        options: further arguments of `torch.distributed.checkpoint.load`.

    Raises:
        CorruptError: a file cannot be read, has another shape, or has anything but tensors.
    """
    reader = _Reader(folder)
    try:
        load(tensors, storage_reader=reader, planner=_Planner(), **options)
    except CheckpointException as error:
        raise CorruptError(f"{folder} cannot be read: {failure_reason(error)}") from None


def failure_reason(error: BaseException) -> str:
    """Return the first reason of an error of DCP, with the rank that met it."""
    if not isinstance(error, CheckpointException):
        return str(error) or type(error).__name__
    rank, (reason, _) = next(iter(error.failures.items()))
    return f"{reason} (rank {rank})"
