"""Materialization: the samples of a mix as packed, tokenized MDS for any other trainer.

llm-foundry reads such a folder as its pre-tokenized data: `tokens` is `max_length` ids of 8 bytes.
Loss weights are omitted: other trainers have no column for them.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError
from ixt_data.export import new_folder
from ixt_data.mds import SHARD_BYTES, ShardWriter
from ixt_data.mix import Mix, observed_feedback, plan_mix, with_edges
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner
from ixt_train.stream.mix_stream import MixStream

COLUMNS = {"tokens": "bytes"}


@dataclass(frozen=True)
class MaterializeReport:
    """The result of `materialize_mix`.

    Attributes:
        folder: the export.
        rows: rows of `max_length` tokens each.
        samples: samples drawn.
        leftover_tokens: tokens at the end that fill no row.
        digest: digest of the plan.
        snapshot: version of the snapshot.
    """

    folder: str
    rows: int
    samples: int
    leftover_tokens: int
    digest: str
    snapshot: int

    def record(self) -> dict[str, Any]:
        """Return the report as the JSON object that `ixt export` prints."""
        return asdict(self)


def materialize_mix(
    store: Store,
    mix: Mix,
    tokenizer: Any,
    out: str | Path,
    max_length: int,
    *,
    samples: int | None = None,
    holdout: float = 0.0,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaterializeReport:
    """Write the conditioned samples of a mix in draw order, split into rows.

    Args:
        store: the mix's store.
        mix: the draws and their conditioning.
        tokenizer: a fast Hugging Face tokenizer with the special tokens.
        out: a new folder.
        max_length: tokens per row.
        samples: number of draws; None draws as many as there are documents.
        holdout: share of documents, by doc_id, that is never drawn, as in a train run.
        overwrite: replace an existing export.
        shard_bytes: uncompressed size at which a shard ends, in bytes.
        progress: called with the number of samples done and the total.

    Raises:
        ConfigError: the samples do not fill one row.
        MixError: the mix cannot be planned.
        StoreError: the folder exists, or is part of a store.
    """
    mix = with_edges(store, mix, holdout)
    plan = plan_mix(mix, samples, store=store, holdout=holdout)
    uses_observed = any(condition.fixed_feedback for condition in plan.conditions)
    observed = observed_feedback(store, mix, holdout) if uses_observed else {}
    conditioner = Conditioner(tokenizer, mix.condition, observed)
    export_record = {"format": "mds", "plan": plan.digest, "snapshot": plan.version}
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, conditioner, store=store.root, local=local, batch_size=1) as stream,
        new_folder(out, overwrite, export_record) as folder,
    ):
        writer, rows, leftover = ShardWriter(folder, COLUMNS), 0, 0
        for row in _rows(_with_progress(stream, plan.epochs, plan.samples, progress), max_length):
            if len(row) < max_length:
                leftover = len(row)
                continue
            writer.write({"tokens": row.astype("<i8").tobytes()})
            rows += 1
            if writer.size >= shard_bytes:
                writer.cut()
        if not rows:
            raise ConfigError(f"max_length: {plan.samples:,} samples do not fill {max_length:,}")
        if writer.samples:
            writer.cut()
        writer.close()
    return MaterializeReport(str(out), rows, plan.samples, leftover, plan.digest, plan.version)


def _with_progress(
    stream: MixStream, epochs: int, total: int, progress: Callable[[int, int], None]
) -> Iterator[npt.NDArray[np.int32]]:
    done = 0
    for _ in range(epochs):
        for sample in stream:
            yield sample["input_ids"]
            done += 1
            if done % 1000 == 0 or done == total:
                progress(done, total)


def _rows(samples: Iterator[npt.NDArray[np.int32]], width: int) -> Iterator[npt.NDArray[np.int32]]:
    """Yield the tokens of all samples in rows of `width`; the last one may be shorter."""
    waiting: list[npt.NDArray[np.int32]] = []
    n_waiting = 0
    for ids in samples:
        waiting.append(ids)
        n_waiting += len(ids)
        if n_waiting >= width:
            joined = np.concatenate(waiting)
            n_complete = n_waiting // width * width
            yield from joined[:n_complete].reshape(-1, width)
            waiting, n_waiting = [joined[n_complete:]], n_waiting - n_complete
    if n_waiting:
        yield np.concatenate(waiting)
