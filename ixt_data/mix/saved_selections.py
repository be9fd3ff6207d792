"""Resolution of saved selections in a mix: `use: NAME` becomes the saved predicate."""

from ixt_data.errors import MixError, StoreError
from ixt_data.log import SelectionInfo, Snapshot
from ixt_data.mix.config import Mix, Selection
from ixt_data.store import Store, saved_selection


def resolve_selections(store: Store, mix: Mix, snapshot: Snapshot) -> Mix:
    """Return the mix with predicate, critic and version of each saved selection filled in.

    A resolved mix stays the same when it is resolved again.

    Raises:
        MixError: a selection does not exist in the snapshot, or differs from the mix.
    """
    if all(selection.use is None for selection in mix.selections):
        return mix
    selections = tuple(_resolve(store, snapshot, selection) for selection in mix.selections)
    resolved = mix.model_copy(update={"selections": selections})
    if None in resolved.critics and resolved.reads_critiques:
        names = [s.name for s in selections if resolved.critic_of(s) is None]
        raise MixError(
            f"critic: missing, but selection {names[0]!r} was saved without one and the condition "
            "reads critiques. Name the critic in the mix, or set condition.kind to none"
        )
    return resolved


def _resolve(store: Store, snapshot: Snapshot, selection: Selection) -> Selection:
    if selection.use is None:
        return selection
    name, version = selection.used
    try:
        info, version = _find_saved(store, snapshot, name, version)
    except StoreError as error:
        raise MixError(f"selection {selection.name!r}: use: {error}") from None
    if "where" in selection.model_fields_set and selection.where != info.where:
        raise MixError(
            f"selection {selection.name!r}: {name}@{version} was saved as {info.where!r}, and the "
            f"mix has {selection.where!r}: remove `where`, or remove `use`"
        )
    if selection.critic and info.critic and selection.critic != info.critic:
        raise MixError(
            f"selection {selection.name!r}: {name}@{version} was saved for critiques by "
            f"{info.critic!r}, and the mix specifies {selection.critic!r}"
        )
    change = {
        "use": f"{name}@{version}",
        "where": info.where,
        "critic": selection.critic or info.critic,
    }
    return selection.model_copy(update=change)


def _find_saved(
    store: Store, snapshot: Snapshot, name: str, version: int | None
) -> tuple[SelectionInfo, int]:
    """Return the selection of the snapshot, or of the commit `version`."""
    if version is None:
        saved = saved_selection(snapshot, name, store.root)
        return saved, saved.version
    if 1 <= version <= store.log.newest():
        for info in store.log.read(version).selections:
            if info.name == name:
                return info, version
    raise StoreError(
        f"version {version} of {store.root} did not save a selection {name!r}. "
        f"Its versions: ixt select show {name} --history"
    )
