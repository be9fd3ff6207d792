"""The result of a verification: its problems, orphans and repairs."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class VerifyProblem:
    """A difference between the store and its log.

    Attributes:
        path: key of the file.
        problem: what is wrong with it.
        documents: number of documents that it affects.
        remedy: the command that repairs it, or another remedy.
    """

    path: str
    problem: str
    documents: int
    remedy: str


@dataclass
class VerifyReport:
    """Result of `verify`.

    Attributes:
        version: of the snapshot that was checked.
        files: number of files that were checked; `bytes` in all.
        bytes: size of these files.
        problems: the differences.
        unfinished: files of ingests that were interrupted; the same command continues each.
        orphans: other files that no version references: from crashed writers, or of expired
            versions.
        repaired: paths that were repaired.
    """

    version: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[VerifyProblem] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as the command line prints it."""
        return {**asdict(self), "ok": not self.problems}
