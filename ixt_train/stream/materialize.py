"""Materialization: the samples of a mix as packed, tokenized MDS for any other trainer.

llm-foundry reads such a folder as its pre-tokenized data: `tokens` is `max_length` ids of 8 bytes.
Loss weights are omitted: llm-foundry has no column for them.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError
from ixt_data.export import new_folder
from ixt_data.mds import SHARD_BYTES, ShardWriter
from ixt_data.mix import Mix, MixPlan, observed_feedback, plan_mix, with_edges
from ixt_data.store import Store
from ixt_train.conditioning import ChatConditioner, Conditioner, set_chat_template
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
    with (
        draw_samples(store, mix, tokenizer, samples, holdout, progress) as (plan, drawn),
        new_folder(
            out, overwrite, {"format": "mds", "plan": plan.digest, "snapshot": plan.version}
        ) as folder,
    ):
        writer, rows, leftover = ShardWriter(folder, COLUMNS), 0, 0
        for row in _rows((sample["input_ids"] for sample in drawn), max_length):
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


@contextmanager
def draw_samples(
    store: Store,
    mix: Mix,
    tokenizer: Any,
    samples: int | None,
    holdout: float,
    progress: Callable[[int, int], None],
    is_sft: bool = False,
) -> Iterator[tuple[MixPlan, Iterator[dict[str, Any]]]]:
    """Plan a mix for an export, and open the stream of its samples in draw order.

    Args:
        store: the mix's store.
        mix: the draws and their conditioning.
        tokenizer: a fast Hugging Face tokenizer with the special tokens.
        samples: number of draws; None draws as many as there are documents.
        holdout: share of documents, by doc_id, that is never drawn.
        progress: called with the number of samples done and the total.
        is_sft: render conversations by the tokenizer's chat template, as in stage sft.

    Raises:
        MixError: the mix cannot be planned.
    """
    mix = with_edges(store, mix, holdout)
    plan = plan_mix(mix, samples, store=store, holdout=holdout)
    uses_observed = any(condition.fixed_feedback for condition in plan.conditions)
    observed = observed_feedback(store, mix, holdout) if uses_observed else {}
    if is_sft:
        set_chat_template(tokenizer, None)
    kind = ChatConditioner if is_sft else Conditioner
    conditioner = kind(tokenizer, mix.condition, observed)
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, conditioner, store=store.root, local=local, batch_size=1) as stream,
    ):
        yield plan, _with_progress(stream, plan, progress)


def _with_progress(
    stream: MixStream, plan: MixPlan, progress: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    done = 0
    for _ in range(plan.epochs):
        for sample in stream:
            yield sample
            done += 1
            if done % 1000 == 0 or done == plan.samples:
                progress(done, plan.samples)


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
