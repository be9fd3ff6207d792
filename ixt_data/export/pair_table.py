"""The pairs that a train run draws, in a file: one of each prompt, by its better answer."""

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ixt_data.errors import ConfigError
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.preferences import PreferenceOptions, joined_answers
from ixt_data.records import format_id

_ID = pa.binary(16)
_SCHEMA = pa.schema(
    {
        "better_id": _ID,
        "worse_id": _ID,
        "better_score": pa.float64(),
        "worse_score": pa.float64(),
        "worse_answer": pa.large_string(),
        "shard": pa.large_string(),
        "row": pa.int64(),
    }
)
_ROWS_AT_ONCE = 4096
_WHAT_TO_DO = (
    "A preference stage needs prompts with several answers of different scores: ingest "
    "conversations that differ only in the last message, score them (ixt critique), and see the "
    "pairs with ixt export pairs.jsonl --format preferences"
)


def write_pairs(selected: MatchedDocuments, path: Path, min_difference: float) -> tuple[int, int]:
    """Write the pair with the largest difference of each prompt, in the order of `better_id`.

    Args:
        selected: the documents, with the scores of one critic.
        path: an Arrow file to create.
        min_difference: smallest difference of the two scores.

    Returns:
        The number of pairs, and of answers that they were chosen from.

    Raises:
        ConfigError: the snapshot has no critic, or no pair was found.
    """
    options = PreferenceOptions(min_difference=min_difference, per_prompt=1)
    pairs = 0
    with joined_answers(selected) as answers, pa.OSFile(str(path), "wb") as file:
        found = answers.pairs(", ".join(_SCHEMA.names), "better_id", options)
        with pa.ipc.new_file(file, _SCHEMA) as writer:
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                columns = dict(zip(_SCHEMA.names, zip(*rows, strict=True), strict=True))
                for name in ("better_id", "worse_id"):
                    columns[name] = tuple(UUID(text).bytes for text in columns[name])
                writer.write(pa.RecordBatch.from_pydict(columns, _SCHEMA))
                pairs += len(rows)
        if not pairs:
            raise ConfigError(f"{answers.why_no_pair(options)}. {_WHAT_TO_DO}")
    return pairs, answers.count


class PairTable:
    """The pairs in a file of `write_pairs`, which is mapped and not read."""

    def __init__(self, path: Path) -> None:
        """Map the file.

        Args:
            path: the file.
        """
        self.path = path
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._answers, self._worse_ids = table["worse_answer"], table["worse_id"]
        parts = [np.frombuffer(part.buffers()[1], "S16") for part in table["better_id"].chunks]
        # Trailing zeros do not count in a comparison of two values of one length.
        self._ids: npt.NDArray[np.bytes_] = np.concatenate(parts)
        self._shards = table["shard"].combine_chunks().dictionary_encode()
        self._rows = table["row"].to_numpy()

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Map the file again in another process."""
        return PairTable, (self.path,)

    def worse(self, doc_id: bytes) -> tuple[bytes, dict[str, Any]]:
        """Return the id of the worse conversation, and its last message, of a better one.

        Raises:
            ConfigError: the document is not the better answer of a pair.
        """
        at = int(np.searchsorted(self._ids, np.bytes_(doc_id)))
        if at == len(self) or bytes(self._ids[at]).ljust(_ID.byte_width, b"\0") != doc_id:
            raise ConfigError(
                f"{format_id(doc_id)} is not the better answer of a pair in {self.path}"
            )
        message: dict[str, Any] = orjson.loads(self._answers[at].as_py())
        return self._worse_ids[at].as_py(), message

    def places(self, starts: dict[str, int], total: int) -> npt.NDArray[np.bool_]:
        """Return which positions of a scope have a better answer, bool[total].

        Args:
            starts: position of the first document of each shard, by path.
            total: number of positions.
        """
        names = self._shards.dictionary.to_pylist()
        firsts = np.array([starts.get(name, -1) for name in names], np.int64)
        own = firsts[self._shards.indices.to_numpy()]
        places = np.zeros(total, bool)
        places[(own + self._rows)[own >= 0]] = True
        return places
