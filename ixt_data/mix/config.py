"""The configuration of a mix: weighted selections, conditioning, schedule and seed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ixt_data.config import ConfigModel, describe_errors, load_config
from ixt_data.mix.condition import (
    Condition,
    ConditionChanges,
    FullFeedback,
    Text,
    Weight,
    change_condition,
    needs_edges,
)

EVERYTHING = "true"
MAX_PHASES = 60


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _as_order(value: Any) -> Any:
    """Return a list of critics as their order `human,quality`."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return value
    critics = [name.strip() for name in names]
    if not all(critics) or not critics:
        raise ValueError(f"{value!r} is not a critic, or a list of critics")
    if len(set(critics)) < len(critics):
        raise ValueError(f"{value!r} contains a critic twice")
    return ",".join(critics)


CriticOrder = Annotated[
    str, BeforeValidator(_as_order, str | list[str]), Field(pattern=r"^[^,]+(,[^,]+)*$")
]
"""Name or id of a critic, or an order of several."""


class Selection(ConfigModel):
    """A named SQL predicate over a snapshot, and its share of the draws."""

    name: Text
    """Name in schedules and summaries; by default the name of the saved selection."""
    use: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(@\d+)?$")] | None = None
    """A saved selection that defines predicate and critic: NAME in the snapshot, or NAME@VERSION
    from that commit."""
    where: Text = EVERYTHING
    """SQL over the columns of documents and of the critic's critiques."""
    critic: CriticOrder | None = None
    """Name or id of the critic for this selection, instead of the mix's critic, or a list of
    critics as there."""
    weight: Weight = 1.0
    """Share of the draws, relative to the other selections."""
    max_repeats: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    """Maximum draws of one document over the run; null sets no limit."""

    @model_validator(mode="before")
    @classmethod
    def _named_as_saved(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("use"), str):
            return {**value, "name": value["use"].partition("@")[0]}
        return value

    @model_validator(mode="after")
    def _one_predicate(self) -> Self:
        # In a resolved mix, `use` has a version and `where` contains the saved predicate.
        if self.use and "@" not in self.use and "where" in self.model_fields_set:
            raise ValueError(f"where: given, but `use: {self.use}` gives the predicate")
        return self

    @property
    def used(self) -> tuple[str, int | None]:
        """Name and version of the saved selection; the version is None if the mix has none."""
        name, _, version = (self.use or "").partition("@")
        return name, int(version) if version else None


class Weighting(ConfigModel):
    """Distribution of the draws over the documents of one selection."""

    by: Text = "score"
    """SQL expression with one number per document."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Temperature of the softmax; null draws uniformly."""


class Phase(ConfigModel):
    """A share of the run with separate settings."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the run. The remainder after all phases uses the mix's own settings."""
    weights: dict[str, Weight] = Field(default={})
    """Weights by selection, replacing the selections' own weights."""
    where: dict[str, str] = Field(default={})
    """Predicates by selection, replacing the selections' own predicates."""
    condition: ConditionChanges | None = None
    """Changed keys of the condition. `cooldown` belongs to the run and is not valid here."""


class Mix(ConfigModel):
    """Everything that determines the draws of a training job.

    Examples:
        >>> mix = Mix(store="S", condition={"kind": "none"})
        >>> [selection.name for selection in mix.selections]
        ['all']
    """

    store: str = "./ixt"
    """Root of the store, relative to the file; the default is in the working folder."""
    snapshot: int | str | None = None
    """Version or tag; null is the newest version at the time of the plan, which is pinned."""
    corpus: Annotated[tuple[str, ...], BeforeValidator(_as_tuple, str | list[str])] | None = None
    """Corpus or list of corpora; null is all."""
    critic: CriticOrder | None = None
    """Name or id of the critic, for selections without a critic. Of a list such as `[human,
    quality]` each document is drawn with the critique of the first one that succeeded."""
    condition: Condition = FullFeedback()
    """Conversion of critiques to tokens."""
    selections: Annotated[tuple[Selection, ...], Field(min_length=1)] = (Selection(name="all"),)
    """The selections to draw from. A document in two selections is drawn for both."""
    weighting: Weighting = Weighting()
    """Weights within a selection."""
    schedule: Annotated[tuple[Phase, ...], Field(max_length=MAX_PHASES)] = ()
    """Phases in the order of the run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 17
    """Seed of draws, order and dropout."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [selection.name for selection in self.selections]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"selections: the name {min(twice)!r} is given twice")
        if sum(phase.share for phase in self.schedule) > 1 + 1e-9:
            shares = [phase.share for phase in self.schedule]
            raise ValueError(f"schedule: the shares {shares} are more than the whole run")
        if self._lacks_critic() and self.condition.reads_critiques:
            raise ValueError(
                f"critic: missing, but condition.kind is {self.condition.kind!r}. Name the critic, "
                "or set condition.kind to none"
            )
        for i, phase in enumerate(self.schedule):
            self._check_phase(f"schedule.{i}", phase, names)
        return self

    def _check_phase(self, path: str, phase: Phase, names: list[str]) -> None:
        for key in ("weights", "where"):
            for name in getattr(phase, key):
                if name not in names:
                    raise ValueError(
                        f"{path}.{key}.{name}: no such selection. Valid: {', '.join(names)}"
                    )
        if phase.condition and "cooldown" in phase.condition:
            raise ValueError(f"{path}.condition.cooldown: it is a share of the run, not of a phase")
        try:
            self.condition_in(phase)
        except ValidationError as error:
            raise ValueError(describe_errors(Condition, error, f"{path}.condition")) from None
        if self._lacks_critic() and self.condition_in(phase).reads_critiques:
            raise ValueError(f"critic: missing, but {path}.condition needs critiques")

    def _lacks_critic(self) -> bool:
        """Return True if a selection has no critic. A saved one is unknown before resolution."""
        return any(self.critic_of(own) is None and own.use is None for own in self.selections)

    @property
    def reads_critiques(self) -> bool:
        """True if the condition of any phase needs critiques."""
        return any(self.condition_in(phase).reads_critiques for phase in self.phases())

    def critic_of(self, selection: Selection) -> str | None:
        """Return the name or id of a selection's critic or the order of several, or None."""
        return selection.critic or self.critic

    @property
    def critics(self) -> tuple[str | None, ...]:
        """The distinct critics, or orders of critics, of the selections, in their order."""
        return tuple(dict.fromkeys(map(self.critic_of, self.selections)))

    def condition_in(self, phase: Phase) -> Condition:
        """Return the condition of one phase: the mix's own, updated with the phase's keys."""
        if phase.condition is None:
            return self.condition
        return change_condition(self.condition, phase.condition)

    def lacks_edges(self) -> bool:
        """Return True if a condition of `quantile` has no edges yet."""
        own = [self.condition, *map(self.condition_in, self.schedule)]
        return any(needs_edges(condition) for condition in own)

    def with_edges(self, edges: tuple[float, ...]) -> Self:
        """Return a copy with edges in every condition of `quantile` without edges."""
        condition = self.condition
        if needs_edges(condition):
            condition = change_condition(condition, {"edges": edges})
        filled = self.model_copy(update={"condition": condition})
        schedule = tuple(
            phase.model_copy(update={"condition": {**(phase.condition or {}), "edges": edges}})
            if needs_edges(filled.condition_in(phase))
            else phase
            for phase in self.schedule
        )
        return filled.model_copy(update={"schedule": schedule})

    def phases(self) -> tuple[Phase, ...]:
        """Return all phases of the run: the schedule, and the remainder."""
        left = 1 - sum(phase.share for phase in self.schedule)
        return self.schedule if left < 1e-9 else (*self.schedule, Phase(share=left))

    def content(self) -> dict[str, Any]:
        """Return everything that determines the draws, without the store's root and snapshot."""
        content = self.model_dump(mode="json", exclude={"store", "snapshot"})
        for selection in content["selections"]:
            # Without this, the digests of mixes without saved selections would change.
            if selection["use"] is None:
                del selection["use"]
        return content


def load_mix(path: str | Path, overrides: Iterable[str] = ()) -> Mix:
    r"""Read a mix from a YAML file, and apply overrides such as `condition.kind=none`.

    A store in the file is relative to the file, one in an override to the working folder.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value`; the value is YAML, a list index is a number.

    Raises:
        ConfigError: the file cannot be read, or a key is invalid; the message has its full path.

    Examples:
        >>> import tempfile, ixt_data
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp(), "mix.yaml")
        >>> _ = path.write_text("store: S\ncondition: {kind: none}\n")
        >>> ixt_data.load_mix(path, ["seed=3"]).seed
        3
    """
    changed = list(overrides)
    mix = load_config(Mix, path, changed)
    is_typed = any(override.partition("=")[0].strip() == "store" for override in changed)
    is_in_file = "store" in mix.model_fields_set and not is_typed
    folder = Path(path).parent if is_in_file else Path()
    return mix.model_copy(update={"store": store_at(mix.store, folder)})


def store_at(store: str, folder: Path) -> str:
    """Return the absolute root of a store that is relative to a folder; an address stays."""
    return store if "://" in store else str((folder / store).resolve())
