"""A DataLoader over a stream whose workers pass whole batches."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from ixt_data.errors import ConfigError
from ixt_train.runs import too_long_for_sockets
from ixt_train.stream.mix_stream import MixStream

Collate = Callable[[Sequence[dict[str, Any]]], Any]


class StreamBatches(IterableDataset[Any]):
    """The batches of a stream, with its state; without `collate`, chunks of several batches."""

    def __init__(self, stream: MixStream, collate: Collate | None = None) -> None:
        """Set the stream and the function that makes a batch of samples.

        Args:
            stream: the stream.
            collate: such a function, like `Collator`; None yields `ColumnBatch`.

        Raises:
            ConfigError: the stream yields tokens, and no function is given.
        """
        if collate is None and stream.conditioner is not None:
            raise ConfigError("collate: missing, and the stream yields tokens. Pass a Collator")
        self.stream, self._collate = stream, collate

    def __len__(self) -> int:
        return len(self.stream) // self.stream.batch_size

    def __iter__(self) -> Iterator[Any]:
        if self._collate is None:
            yield from self.stream.column_chunks()
            return
        samples = iter(self.stream)
        while batch := list(islice(samples, self.stream.batch_size)):
            yield self._collate(batch)

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """Return `MixStream.state_dict`; Composer calls it for a checkpoint."""
        return self.stream.state_dict(num_samples, from_beginning)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Call `MixStream.load_state_dict`; Composer does so when it resumes."""
        self.stream.load_state_dict(state)


class StreamLoader(DataLoader[Any]):
    """A DataLoader of whole batches whose state is the place in the plan after the latest one.

    The state is that of `MixStream`, the same on every process. A trainer that saves the state of
    its loader resumes exactly, with any number of workers, and on another number of processes that
    divides the global batch.
    """

    _n_batches = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._n_batches = 0
        for batch in self._batches():
            self._n_batches += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the batch after the latest one is, and the plan."""
        stream = self._stream
        state = stream.state_dict(self._n_batches * stream.global_batch_size, False)
        plan, epoch = stream.plan, state["epoch"]
        left = plan.samples - epoch * plan.epoch_samples
        if state["sample_in_epoch"] >= min(plan.epoch_samples, left):
            state.update(epoch=epoch + 1, sample_in_epoch=0)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration start where `state_dict` was taken.

        Raises:
            FingerprintError: the state is of another snapshot, plan or tokenizer.
        """
        self._stream.load_state_dict(state_dict)
        self._n_batches = 0

    @property
    def _stream(self) -> MixStream:
        batches: Any = self.dataset
        stream: MixStream = batches.stream
        return stream

    def _batches(self) -> Iterator[Any]:
        return super().__iter__()


class ColumnLoader(StreamLoader):
    """A DataLoader that reads the batches of the chunks that its workers find."""

    def _batches(self) -> Iterator[Any]:
        stream = self._stream
        for chunk in super()._batches():
            yield from stream.read(chunk).split(stream.batch_size)


def data_loader(
    stream: MixStream, collate: Collate | None = None, *, workers: int = 0, **options: Any
) -> StreamLoader:
    """Return a DataLoader that yields whole batches of `stream.batch_size` samples.

    Each worker makes complete batches, and torch passes their tensors through shared memory. Of
    documents without a conditioner a worker sends only the places. The order is the same for any
    number of workers. Its `state_dict` and `load_state_dict` resume it exactly.

    Args:
        stream: the stream.
        collate: function that makes a batch of samples, like `Collator`; None yields
            `ColumnBatch`, which only a stream without a conditioner allows.
        workers: worker processes; 0 makes the batches in this process.
        options: further arguments of torch's DataLoader, such as `prefetch_factor`.

    Raises:
        ConfigError: the stream yields tokens, and there is no `collate`; or the path of the folder
            for temporary files is too long for the sockets of the workers.
    """
    batches = StreamBatches(stream, collate)
    if workers and collate is not None:
        _check_tmpdir()
    if workers and stream.files.root.startswith(("gs://", "az://")):
        # The connections of these clouds do not survive a fork.
        options.setdefault("multiprocessing_context", "spawn")
    kind = ColumnLoader if collate is None else StreamLoader
    # Torch would convert the contents of the batches.
    return kind(batches, batch_size=None, num_workers=workers, collate_fn=_unchanged, **options)


def _check_tmpdir() -> None:
    if (problem := too_long_for_sockets(tempfile.gettempdir())) is not None:
        raise ConfigError(f"TMPDIR: {problem}. Set TMPDIR to a shorter folder, or use 0 workers")


def _unchanged(batch: Any) -> Any:
    return batch
