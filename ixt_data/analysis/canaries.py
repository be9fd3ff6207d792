"""Canaries: documents whose scores are known, and that no change of a critic may move.

A JSONL file, one canary a line: `text` (or `doc_id`), `score` as [lowest, highest] from 0 to 1, and
if wanted `name` and `critic`. They are ingested and critiqued like any document, best as a corpus
of their own; here their scores are looked up.
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
    """The document."""
    doc_id: str | None = None
    """Its id, where the text is in the store already."""
    score: tuple[float, float]
    """The lowest and the highest score that are right, 0 to 1."""
    name: str = ""
    """What people call it."""
    critic: str | None = None
    """By whom; by all critics that are compared if it is left out."""

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
        """The document's id."""
        return document_id(self.text) if self.text is not None else parse_id(self.doc_id or "")


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """A canary as a critic sees it now.

    Attributes:
        name: of the canary, else the beginning of its text or its id.
        doc_id: as SQL shows it.
        critic: who.
        expected: lowest and highest score.
        score: what it has now, None if it has none.
        state: `holds`; `moved`: the score is another; `missing`: this critic has not judged it;
            or the status of a critique that failed.
    """

    name: str
    doc_id: str
    critic: str
    expected: tuple[float, float]
    score: float | None
    state: Literal["holds", "moved", "missing"] | str

    @property
    def holds(self) -> bool:
        """Whether the score is where it should be."""
        return self.state == "holds"


def read_canaries(path: Path) -> list[Canary]:
    """The canaries in a file.

    Raises:
        ConfigError: it cannot be read, or a line is wrong; names file and line.
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
            said = f"{where}: {first['msg']}" if where else first["msg"]
            raise ConfigError(f"canaries {path} line {number}: {said}") from None


def look(
    store: Store, canaries: Sequence[Canary], critics: Sequence[str], at: int | str | None = None
) -> list[CanaryResult]:
    """Every canary as each critic sees it.

    Args:
        store: where they were critiqued.
        canaries: see `read_canaries`.
        critics: names or ids, for those canaries that name none.
        at: version or tag, the newest by default.

    Raises:
        StoreError: a canary names a critic that there is not.
    """
    snapshot = store.snapshot(at)
    names = {info.name for info in snapshot.critics.values()}
    catalog = store.catalog(snapshot.version)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    wanted = [(canary, canary.critic or critic) for canary in canaries for critic in critics]
    try:
        for critic in dict.fromkeys(critic for _, critic in wanted):
            if critic not in names and critic not in snapshot.critics:
                known = ", ".join(sorted(names)) or "none"
                raise StoreError(f"no critiques by {critic!r} in {store.root}; critics: {known}")
            rows = catalog.arrow(
                "SELECT doc_id::VARCHAR AS doc_id, status, score FROM "
                f"({critiques_query(snapshot, critic)}) WHERE list_contains($1::UUID[], doc_id)",
                [[format_id(canary.id) for canary in canaries]],
            )
            found[critic] = {row["doc_id"]: row for row in rows.to_pylist()}
    finally:
        catalog.close()
    seen = (_sighting(canary, critic, found[critic]) for canary, critic in wanted)
    return list(dict.fromkeys(seen))


def _sighting(canary: Canary, critic: str, rows: dict[str, dict[str, Any]]) -> CanaryResult:
    doc_id = format_id(canary.id)
    row = rows.get(doc_id)
    score = row["score"] if row is not None else None
    lowest, highest = canary.score
    if row is None:
        state = "missing"
    elif row["status"] != OK or score is None:
        state = row["status"] if row["status"] != OK else "moved"
    else:
        # Scores of half a digit are no exact fractions.
        state = "holds" if lowest - 1e-9 <= score <= highest + 1e-9 else "moved"
    name = canary.name or (canary.text or doc_id).strip().splitlines()[0][:60]
    return CanaryResult(name, doc_id, critic, canary.score, score, state)
