"""The pending work of a critique run: its documents, and the config changes that caused it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ixt_data.console import format_count
from ixt_data.log import CriticInfo, ShardInfo, Snapshot


@dataclass(frozen=True, slots=True)
class PendingWork:
    """Pending work.

    Attributes:
        documents: to critique.
        previous_critic: id of the critic with this name until now; None if this critic has
            critiques, or no critic has this name.
        changed_keys: paths in the config where the two critics differ.
    """

    documents: int
    previous_critic: str | None = None
    changed_keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.previous_critic is None:
            return f"{format_count(self.documents, 'document')} to critique"
        return (
            f"this critic replaces {self.previous_critic}, which has the same name: "
            f"changed in its config: {', '.join(self.changed_keys)}. "
            f"{format_count(self.documents, 'document')} to critique; "
            "--name NAME would keep both in the view critiques"
        )


def find_pending_work(
    snapshot: Snapshot, shards: list[ShardInfo], critic: CriticInfo
) -> PendingWork:
    """Return the pending work of a critic on some text shards."""
    documents = sum(shard.samples - shard.orphans for shard in shards)
    names = snapshot.critic_ids(critic.name)
    if not names or critic.id in names:
        return PendingWork(documents)
    previous = snapshot.critics[names[-1]]
    changed = tuple(_changed_paths(previous.config, critic.config))
    return PendingWork(documents, previous.id, changed)


def _changed_paths(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield the paths where two trees differ: the deepest keys that both have."""
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
            yield from _changed_paths(old.get(key), new.get(key), deeper)
