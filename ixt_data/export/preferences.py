"""Pairs of a better and a worse answer to one prompt, from conversations and their scores.

A pair is two conversations of different scores that differ only in the last message, the
assistant's. Of a prompt, the pair with the largest difference comes first; of equal differences,
the one whose better answer, then whose worse answer, has the lower doc_id.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pydantic import Field

from ixt_data.config import ConfigModel
from ixt_data.conversation import ASSISTANT, is_conversation
from ixt_data.errors import UsageError
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.target import new_file
from ixt_data.records import ProgressCallback
from ixt_data.sql import connect

_ANSWERS = pa.schema(
    {
        "prompt": pa.string(),
        "answer": pa.string(),
        "score": pa.float64(),
        "doc_id": pa.string(),
        "shard": pa.string(),
        "row": pa.int64(),
    }
)
_PAIRS = """
SELECT better.prompt AS prompt, better.answer AS better_answer, worse.answer AS worse_answer,
       better.score AS better_score, worse.score AS worse_score, better.doc_id AS better_id,
       worse.doc_id AS worse_id, better.shard AS shard, better.row AS row
FROM answers better JOIN answers worse USING (prompt)
WHERE better.score > worse.score AND better.score - worse.score >= $min_difference
QUALIFY row_number() OVER (
    PARTITION BY prompt
    ORDER BY better.score - worse.score DESC, better.doc_id, worse.doc_id
) <= $per_prompt
"""
_IN_FILES = "md5(prompt), prompt, better_score - worse_score DESC, better_id, worse_id"
_EXPORTED = "prompt, better_answer, worse_answer, better_score, worse_score, better_id, worse_id"
_ROWS_AT_ONCE = 1024


class PreferenceOptions(ConfigModel):
    """Options of `--format preferences`."""

    min_difference: float = Field(0.1, ge=0, le=1)
    """Smallest difference of the two scores."""
    per_prompt: int = Field(1, ge=1)
    """Maximum pairs of one prompt, the largest differences first."""


@dataclass(frozen=True, slots=True)
class PreferenceReport:
    """The result of an export of pairs.

    Attributes:
        out: the file.
        pairs: number of pairs in it.
        prompts: number of prompts with a pair.
        answers: number of conversations with a score that end with an answer.
        skipped: number of other matching documents.
        critic: name or id of the critic whose scores decide.
        snapshot: the exported version.
    """

    out: str
    pairs: int
    prompts: int
    answers: int
    skipped: int
    critic: str
    snapshot: int


def export_preferences(
    selected: MatchedDocuments,
    out: str | Path,
    options: PreferenceOptions,
    *,
    overwrite: bool = False,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> PreferenceReport:
    """Write pairs as JSON lines, in an order that does not depend on that of the documents.

    Each line has `prompt`, `chosen` and `rejected` (lists of messages), as DPO trainers such as
    TRL's read them, and the scores and ids of the two conversations.

    Args:
        selected: the documents, with the scores of one critic.
        out: the file to create.
        options: which pairs to write.
        overwrite: replace an existing file.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        UsageError: the snapshot has no critic, or no pair was found.
        StoreError: the path exists or belongs to a store.
    """
    with joined_answers(selected, progress) as answers:
        pairs = prompts = 0
        last = None
        with new_file(out, overwrite) as path, path.open("wb") as file:
            found = answers.pairs(_EXPORTED, _IN_FILES, options)
            while batch := found.fetchmany(_ROWS_AT_ONCE):
                for pair in batch:
                    file.write(_line(pair))
                    prompts += pair[0] != last
                    last = pair[0]
                pairs += len(batch)
            if not pairs:
                raise UsageError(answers.why_no_pair(options))
    return PreferenceReport(
        str(out),
        pairs,
        prompts,
        answers.count,
        answers.skipped,
        answers.critic,
        selected.snapshot.version,
    )


@dataclass(frozen=True, slots=True)
class JoinedAnswers:
    """The answers of some documents, by prompt, in a table of DuckDB.

    Attributes:
        critic: name or id of the critic whose scores decide.
        count: number of conversations with a score that end with an answer.
        skipped: number of other documents.
    """

    connection: Any
    critic: str
    count: int
    skipped: int

    def pairs(self, columns: str, order: str, options: PreferenceOptions) -> Any:
        """Return a cursor over the pairs.

        Args:
            columns: SQL of the selected columns.
            order: SQL of the order.
            options: which pairs to return.
        """
        sql = f"SELECT {columns} FROM ({_PAIRS}) ORDER BY {order}"
        return self.connection.execute(sql, options.model_dump())

    def why_no_pair(self, options: PreferenceOptions) -> str:
        """Return why no pair was found, and what to change."""
        if not self.count:
            return (
                f"no pairs: none of the {self.skipped:,} matching documents is a conversation that "
                "ends with an answer and has a score"
            )
        prompts, largest = self.connection.execute(
            "SELECT count(*), max(high - low) FROM (SELECT max(score) high, min(score) low "
            "FROM answers GROUP BY prompt HAVING count(*) > 1)"
        ).fetchone()
        if not prompts:
            return f"no pairs: no two of the {self.count:,} answers are to one prompt"
        return (
            f"no pairs: the scores of answers to one prompt differ by at most {largest:g}, and "
            f"min_difference is {options.min_difference:g}"
        )


@contextmanager
def joined_answers(
    selected: MatchedDocuments,
    progress: ProgressCallback = lambda scanned, matched: None,
) -> Iterator[JoinedAnswers]:
    """Read the answers of some documents; DuckDB joins them, on the disk if they do not fit.

    Args:
        selected: the documents, with the scores of one critic.
        progress: called after each shard with samples scanned and documents matched.

    Raises:
        UsageError: the snapshot has no critic.
    """
    if selected.critic is None:
        raise UsageError("preferences need scores, and the store has no critic: ixt critique")
    with (
        tempfile.TemporaryDirectory(prefix="ixt-pairs-") as folder,
        closing(connect("25%", Path(folder))) as connection,
    ):
        connection.from_arrow(_ANSWERS.empty_table()).create("answers")
        count = skipped = 0
        for rows, n_skipped in _answers(selected, progress):
            connection.from_arrow(rows).insert_into("answers")
            count, skipped = count + rows.num_rows, skipped + n_skipped
        yield JoinedAnswers(connection, selected.critic, count, skipped)


def _answers(
    selected: MatchedDocuments, progress: ProgressCallback
) -> Iterator[tuple[pa.Table, int]]:
    """Yield prompts and answers of some documents, and the number of other documents."""
    names = ("doc_id", "text", "score", "shard", "row")
    for table in selected.tables(names, progress):
        rows = []
        columns = (table[name].to_pylist() for name in names)
        for doc_id, text, score, *place in zip(*columns, strict=True):
            messages = _messages(text) if score is not None else []
            if len(messages) > 1 and messages[-1].get("role") == ASSISTANT:
                *prompt, answer = messages
                texts = (orjson.dumps(part).decode() for part in (prompt, answer))
                rows.append((*texts, float(score), str(doc_id), *place))
        answers = [dict(zip(_ANSWERS.names, row, strict=True)) for row in rows]
        yield pa.Table.from_pylist(answers, schema=_ANSWERS), table.num_rows - len(rows)


def _messages(text: str) -> list[dict[str, Any]]:
    """Return the messages of a conversation; of any other document none."""
    if not is_conversation(text):
        return []
    try:
        messages: list[dict[str, Any]] = orjson.loads(text)["messages"]
    except (orjson.JSONDecodeError, KeyError):
        return []
    return messages


def _line(pair: tuple[Any, ...]) -> bytes:
    prompt, better, worse, *scores, better_id, worse_id = pair
    record: Mapping[str, Any] = {
        "prompt": orjson.Fragment(prompt),
        "chosen": [orjson.Fragment(better)],
        "rejected": [orjson.Fragment(worse)],
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "chosen_id": better_id,
        "rejected_id": worse_id,
    }
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
