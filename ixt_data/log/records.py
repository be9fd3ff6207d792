"""Records of a state by key: those of a checkpoint, and what was added and removed since."""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Base(Protocol[T_co]):
    """The records of a checkpoint, which are decoded at the first use."""

    @property
    def records(self) -> Mapping[str, T_co]:
        """The records by key."""


class Records(Mapping[str, T]):
    """Records by key, in the order of their addition.

    A long history has hundreds of thousands of them. They become objects when they are first read,
    and copies of a state share them.

    Attributes:
        base: the records of a checkpoint; None without one.
        added: later records by key.
        removed: keys of the checkpoint that were removed later; a key may be added again.
    """

    def __init__(self, base: Base[T] | None = None) -> None:
        self.base = base
        self.added: dict[str, T] = {}
        self.removed: set[str] = set()
        self._records: dict[str, T] | None = self.added if base is None else None

    def copy(self) -> "Records[T]":
        """Return a copy that can be changed independently."""
        copied = Records(self.base)
        copied.added.update(self.added)
        copied.removed |= self.removed
        return copied

    def add(self, records: Iterable[tuple[str, T]]) -> None:
        """Add records; one with a known key replaces the former one."""
        self._forget()
        self.added.update(records)

    def discard(self, key: str) -> None:
        """Remove a record, if there is one with this key."""
        self._forget()
        self.added.pop(key, None)
        if self.base is not None:
            self.removed.add(key)

    def _forget(self) -> None:
        if self.base is not None:
            self._records = None

    def _all(self) -> dict[str, T]:
        if self._records is None:
            assert self.base is not None
            records = dict(self.base.records)
            for key in self.removed:
                records.pop(key, None)
            records.update(self.added)
            self._records = records
        return self._records

    def __getitem__(self, key: str) -> T:
        return self._all()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def get(self, key: str, default: Any = None) -> Any:
        """Return the record with a key, or `default`."""
        return self._all().get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys."""
        return self._all().keys()

    def values(self) -> ValuesView[T]:
        """Return the records."""
        return self._all().values()

    def items(self) -> ItemsView[str, T]:
        """Return keys and records."""
        return self._all().items()
