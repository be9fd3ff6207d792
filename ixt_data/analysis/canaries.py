"""Canaries: documents with known scores, which a change of a critic should not change.

A JSONL file with one canary per line: `text` (or `doc_id`), `score` as [lowest, highest] from 0 to
1, and optionally `name` and `critic`. They are ingested and critiqued like any document, preferably
in a separate corpus; this module only compares their scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError, model_validator

from ixt_data.config import ConfigModel
from ixt_data.errors import ConfigError, StoreError
from ixt_data.records import OK, document_id, format_id, parse_id
from ixt_data.sql import critiques_query
from ixt_data.store import Store


class Canary(ConfigModel):
    """One line of a canary file."""

    text: str | None = None
    """Text of the document."""
    doc_id: str | None = None
    """Id of the document, if the text is in the store."""
    score: tuple[float, float]
    """Lowest and highest correct score, 0 to 1."""
    name: str = ""
    """Name for messages."""
    critic: str | None = None
    """Critic that must give this score; by default each critic of the comparison."""

    @model_validator(mode="after")
    def _whole(self) -> "Canary":
        if (self.text is None) == (self.doc_id is None):
            raise ValueError("give either text or doc_id")
        if self.doc_id is not None:
            parse_id(self.doc_id)
        if not 0 <= self.score[0] <= self.score[1] <= 1:
            raise ValueError(f"score {list(self.score)} is not [lowest, highest] from 0 to 1")
        return self

    @property
    def id(self) -> bytes:
        """Id of the document, 16 bytes."""
        return document_id(self.text) if self.text is not None else parse_id(self.doc_id or "")


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The current score of a canary by one critic.

    Attributes:
        name: of the canary, else the start of its text or its id.
        doc_id: as SQL shows it.
        critic: name or id.
        expected: lowest and highest correct score.
        score: current score, None without one.
        state: `passed`; `changed` for a score outside `expected`; `missing` if this critic has not
            judged it; or the status of a failed critique.
    """

    name: str
    doc_id: str
    critic: str
    expected: tuple[float, float]
    score: float | None
    state: Literal["passed", "changed", "missing"] | str

    @property
    def has_passed(self) -> bool:
        """True if the score is in the expected range."""
        return self.state == "passed"


def read_canaries(path: Path) -> list[Canary]:
    """Read the canaries in a file.

    Raises:
        ConfigError: the file cannot be read, or a line is wrong; the message names file and line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"canaries {path}: {error.strerror}") from None
    return list(_parsed(path, lines))


def _parsed(path: Path, lines: Sequence[bytes]) -> Iterator[Canary]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Canary.model_validate(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"canaries {path} line {number}: not JSON ({error})") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = f"{where}: {first['msg']}" if where else first["msg"]
            raise ConfigError(f"canaries {path} line {number}: {message}") from None


def run_canaries(
    store: Store, canaries: Sequence[Canary], critics: Sequence[str], at: int | str | None = None
) -> list[CanaryResult]:
    """Compare the scores of canaries with the expected ones.

    Args:
        store: contains their critiques.
        canaries: see `read_canaries`.
        critics: names or ids, for canaries without a critic.
        at: version or tag; the latest version by default.

    Returns:
        One result per canary and critic.

    Raises:
        StoreError: a critic has no critiques.
    """
    snapshot = store.snapshot(at)
    names = {info.name for info in snapshot.critics.values()}
    catalog = store.catalog(snapshot.version)
    rows_by_critic: dict[str, dict[str, dict[str, Any]]] = {}
    pairs = [(canary, canary.critic or critic) for canary in canaries for critic in critics]
    try:
        for critic in dict.fromkeys(critic for _, critic in pairs):
            if critic not in names and critic not in snapshot.critics:
                known = ", ".join(sorted(names)) or "none"
                raise StoreError(f"no critiques by {critic!r} in {store.root}; critics: {known}")
            rows = catalog.arrow(
                "SELECT doc_id::VARCHAR AS doc_id, status, score FROM "
                f"({critiques_query(snapshot, critic)}) WHERE list_contains($1::UUID[], doc_id)",
                [[format_id(canary.id) for canary in canaries]],
            )
            rows_by_critic[critic] = {row["doc_id"]: row for row in rows.to_pylist()}
    finally:
        catalog.close()
    results = (_compare(canary, critic, rows_by_critic[critic]) for canary, critic in pairs)
    return list(dict.fromkeys(results))


def _compare(canary: Canary, critic: str, rows: dict[str, dict[str, Any]]) -> CanaryResult:
    doc_id = format_id(canary.id)
    row = rows.get(doc_id)
    score = row["score"] if row is not None else None
    lowest, highest = canary.score
    if row is None:
        state = "missing"
    elif row["status"] != OK or score is None:
        state = row["status"] if row["status"] != OK else "changed"
    else:
        # Half a digit is not an exact binary fraction.
        state = "passed" if lowest - 1e-9 <= score <= highest + 1e-9 else "changed"
    name = canary.name or (canary.text or doc_id).strip().splitlines()[0][:60]
    return CanaryResult(name, doc_id, critic, canary.score, score, state)
