"""The protocol that every critic implements, and a base class for simple critics."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from ixt_data.errors import Terminated
from ixt_data.records import Critique, Document, content_id


@runtime_checkable
class Critic(Protocol):
    """A judge that applies one rubric.

    A critic may also have: `usage`, a Counter of its costs; `statuses`, all statuses it gives;
    `journaled = True`, if its critiques are expensive enough for a journal; `pipelined = True`, if
    `run` takes documents one by one as it has capacity, so that they may come from several units;
    `one_per_core = True`, if `ixt critique` starts one process per core for it;
    `describe()`, lines about its servers for the start of a run;
    `shared_source_ids`, if it finds documents by source_id: a run sets it to the ids that several
    documents of the corpus have; `endpoint_stats()`, `connect()` and `close()`.

    Attributes:
        name: its name in mixes and queries; a new version keeps the name and gets a new id.
    """

    name: str

    def config(self) -> dict[str, Any]:
        """Return everything that the critiques depend on, JSON-serializable.

        Endpoints, concurrency and timeouts do not belong to it: the critic's id is its hash.
        """

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield exactly one critique per document, in any order.

        A document without one gets the status `no_answer`. A second one ends the critique run with
        an error; finished units are stored.

        Args:
            documents: read lazily; each has a distinct 16-byte `doc_id`.

        Raises:
            CriticError: every further document would fail.
        """


def critic_id(critic: Critic) -> str:
    """Return a critic's id: `name-` and 12 hex digits of a hash of its config.

    It is the name of the critic's column family and of its partition of rows.
    """
    return f"{critic.name}-{content_id(critic.config())}"


class EmbeddedCritic:
    """Base class of critics that judge one document at a time in this process.

    Subclasses set `name` and define `config` and `judge`. An exception in `judge` becomes a
    critique with the status `error`.
    """

    name: str

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        raise NotImplementedError

    def judge(self, document: Document) -> Critique:
        """Return the critique of one document."""
        raise NotImplementedError

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield the critiques in the order of the documents; see `Critic.run`."""
        return map(self._judge_or_error, documents)

    def _judge_or_error(self, document: Document) -> Critique:
        try:
            return self.judge(document)
        except Terminated:
            raise
        # A critic that calls sys.exit() must not end the run as if it were complete.
        except (Exception, SystemExit) as error:
            message = f"{type(error).__name__}: {error}"
            return Critique(document.doc_id, "error", error=message)
