"""Golden artifacts: what a version of ixt has written, and every later one must read."""

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from small_stores import Length

from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document

FOLDER = Path(__file__).parents[1] / "golden"
TEXTS = [f"document {i} says {'no' * (i % 4)}thing" for i in range(12)]
RUN: dict[str, Any] = {
    "mix": {"critic": "length", "snapshot": "golden"},
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 8,
        }
    },
    "tokenizer": {"train": {"kind": "words", "vocab_size": 48}},
    "max_length": 24,
    "global_batch_size": 4,
    "duration": "4ba",
    "checkpoint": {"every": "2ba"},
    "logging": {"every": 1},
    "threads": 1,
}


class Paid(Length):
    """A journaled critic that ends after some documents, and names those that it was given."""

    journaled = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(name="paid")
        self.limit, self.given = limit, list[str]()

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        for document in documents:
            if len(self.given) == self.limit:
                raise CriticError("no more money")
            self.given.append(document.text)
            yield self.judge(document)


def pack(folder: Path, name: str) -> None:
    """Pack a folder; its names and times do not depend on the machine."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(FOLDER / f"{name}.tar.xz", "w:xz") as archive:
        archive.add(folder, name, filter=plain)


def unpack(name: str, folder: Path) -> Path:
    """Unpack an artifact into a folder; return its path."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name
