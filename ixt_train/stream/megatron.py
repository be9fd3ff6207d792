"""Samples of a mix as an indexed dataset of Megatron-Core, with loss weights next to it.

The layout is that of `megatron/core/datasets/indexed_dataset.py`: a file of all tokens, and an
index of a header, the length of each sequence, its offset, and the first sequence of each document.
"""

import struct
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError
from ixt_data.export import new_folder
from ixt_data.mix import Mix
from ixt_data.store import Store
from ixt_train.runs import Rejection, RejectionWriter
from ixt_train.stream.materialize import draw_samples

_MAGIC, _VERSION = b"MMIDIDX\x00\x00", 1
_CODES = {"<i4": 4, "<f4": 7, "<u2": 8}
_MAX_SHORT_VOCABULARY = 65_500
"""Megatron-Core stores tokens of smaller vocabularies as 16 bits."""


@dataclass(frozen=True)
class MegatronReport:
    """The result of `export_megatron`.

    Attributes:
        folder: the export.
        sequences: sequences, one per sample.
        tokens: tokens of all sequences.
        tokens_in_loss: tokens with a loss weight above 0.
        rejected: samples that the chat template rejects. They are in rejected.jsonl, with their
            reasons, and in no sequence.
        dtype: type of the stored tokens.
        digest: digest of the plan.
        snapshot: version of the snapshot.
    """

    folder: str
    sequences: int
    tokens: int
    tokens_in_loss: int
    rejected: int
    dtype: str
    digest: str
    snapshot: int

    def record(self) -> dict[str, Any]:
        """Return the report as the JSON object that `ixt export` prints."""
        return asdict(self)


def export_megatron(
    store: Store,
    mix: Mix,
    tokenizer: Any,
    out: str | Path,
    *,
    is_sft: bool = False,
    samples: int | None = None,
    holdout: float = 0.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MegatronReport:
    """Write `tokens.bin` and `.idx`, and `loss_weights.bin` and `.idx` with the same sequences.

    Args:
        store: the mix's store.
        mix: the draws and their conditioning.
        tokenizer: a fast Hugging Face tokenizer with the special tokens.
        out: a new folder.
        is_sft: render conversations by the tokenizer's chat template, as in stage sft.
        samples: number of draws; None draws as many as there are documents.
        holdout: share of documents, by doc_id, that is never drawn, as in a train run.
        overwrite: replace an existing export.
        progress: called with the number of samples done and the total.

    Raises:
        ConfigError: the chat template rejects every conversation.
        MixError: the mix cannot be planned.
        StoreError: the folder exists, or is part of a store.
    """
    is_short = len(tokenizer) < _MAX_SHORT_VOCABULARY
    dtype = "<u2" if is_short else "<i4"
    n_in_loss = n_rejected = 0
    with (
        draw_samples(store, mix, tokenizer, samples, holdout, progress, is_sft) as (plan, drawn),
        new_folder(
            out, overwrite, {"format": "megatron", "plan": plan.digest, "snapshot": plan.version}
        ) as folder,
    ):
        with (
            (folder / "tokens.bin").open("wb") as token_file,
            (folder / "loss_weights.bin").open("wb") as weight_file,
        ):
            tokens = SequenceWriter(token_file, dtype)
            weights = SequenceWriter(weight_file, "<f4")
            rejections = RejectionWriter(folder)
            for number, sample in enumerate(drawn, 1):
                if reason := sample.get("rejected"):
                    rejections.add(number, [Rejection(sample["doc_id"], reason)])
                    n_rejected += 1
                    continue
                tokens.write(sample["input_ids"])
                weights.write(sample["loss_weights"])
                n_in_loss += int(np.count_nonzero(sample["loss_weights"]))
        if not tokens.lengths:
            raise ConfigError(f"all of {plan.samples:,} samples are rejected: {reason}")
        rejections.flush()
        tokens.write_index(folder / "tokens.idx")
        weights.write_index(folder / "loss_weights.idx")
    return MegatronReport(
        folder=str(out),
        sequences=len(tokens.lengths),
        tokens=sum(tokens.lengths),
        tokens_in_loss=n_in_loss,
        rejected=n_rejected,
        dtype="uint16" if is_short else "int32",
        digest=plan.digest,
        snapshot=plan.version,
    )


class SequenceWriter:
    """A writer of sequences of numbers, each a document of its own.

    Attributes:
        lengths: numbers in each sequence.
    """

    def __init__(self, file: BinaryIO, dtype: str) -> None:
        """Write to an open file; `dtype` is one of NumPy's little-endian `<i4`, `<f4`, `<u2`."""
        self._file, self._dtype = file, np.dtype(dtype)
        self._code = _CODES[dtype]
        self.lengths = array("i")

    def write(self, values: npt.NDArray[Any]) -> None:
        """Append a sequence."""
        self._file.write(values.astype(self._dtype).tobytes())
        self.lengths.append(len(values))

    def write_index(self, path: Path) -> None:
        """Write the index of all sequences to a file."""
        n = len(self.lengths)
        lengths = np.array(self.lengths, "<i4")
        offsets = np.zeros(n, "<i8")
        np.cumsum(lengths[:-1] * np.int64(self._dtype.itemsize), out=offsets[1:])
        with path.open("wb") as file:
            file.write(_MAGIC + struct.pack("<QBQQ", _VERSION, self._code, n, n + 1))
            file.write(lengths.tobytes())
            file.write(offsets.tobytes())
            file.write(np.arange(n + 1, dtype="<i8").tobytes())
