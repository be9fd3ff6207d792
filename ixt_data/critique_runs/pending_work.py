"""What a critique run is about to do: how many documents, and why all of them, if it is all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ixt_data.log import CriticInfo, ShardInfo, Snapshot


@dataclass(frozen=True, slots=True)
class PendingWork:
    """What is left to do.

    Attributes:
        documents: to be critiqued.
        before: the critic that had this name until now, None if this one has written already, or
            nobody has.
        changed: where their configs differ, as paths.
    """

    documents: int
    before: str | None = None
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.documents:,} documents to do"
        return (
            f"this is another critic than {self.before}, which had its name: "
            f"{', '.join(self.changed)} changed. {self.documents:,} documents to do; with --name "
            "the two would be apart in the view critiques"
        )


def pending_work(snapshot: Snapshot, shards: list[ShardInfo], critic: CriticInfo) -> PendingWork:
    """What a critic has to do for some text shards."""
    documents = sum(shard.samples - shard.orphans for shard in shards)
    names = snapshot.critic_ids(critic.name)
    if not names or critic.id in names:
        return PendingWork(documents)
    before = snapshot.critics[names[-1]]
    return PendingWork(documents, before.id, tuple(_changed(before.config, critic.config)))


def _changed(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two trees differ: the deepest keys that both have."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
        keys = dict.fromkeys(old)
    else:
        if old != new:
            yield path
        return
    for key in keys:
        if key != "rubric_id":
            deeper = f"{path}.{key}" if path else str(key)
            yield from _changed(old.get(key), new.get(key), deeper)
