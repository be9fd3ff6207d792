"""The one small protocol that every critic implements."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from ixt_data.records import Critique, Document, content_id


@runtime_checkable
class Critic(Protocol):
    """A judge applying one rubric.

    Attributes:
        name: what mixes and queries call it; a new version keeps the name and gets a new id.
    """

    name: str

    def config(self) -> dict[str, Any]:
        """All that the critiques depend on, JSON-serializable; never endpoints or concurrency."""

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Exactly one critique per document, in any order."""


def critic_id(critic: Critic) -> str:
    """`name-` and a hash of the config: the id of the critic's family and lane."""
    return f"{critic.name}-{content_id(critic.config())}"


class EmbeddedCritic:
    """Base of critics that judge one document at a time in this process."""

    name: str

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        raise NotImplementedError

    def judge(self, document: Document) -> Critique:
        """The critique of one document."""
        raise NotImplementedError

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """See `Critic.run`: in the order of the documents; one that raises has status error."""
        return map(self._judged, documents)

    def _judged(self, document: Document) -> Critique:
        try:
            return self.judge(document)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return Critique(document.doc_id, "error", error=message)
