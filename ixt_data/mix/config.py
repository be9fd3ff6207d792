"""The configuration of a mix: weighted selections, conditioning, schedule and seed."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from ixt_data.config import ConfigModel, load_config

EVERYTHING = "true"
MAX_PHASES = 60

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Condition(ConfigModel):
    """Conversion of a document's critique to tokens before, after or inside the document."""

    kind: Literal["none", "score", "critique", "both", "spans"] = "both"
    """Feedback in a sample: none, the score token, the critique text, both, or tags at defects."""
    position: Literal["prefix", "append"] = "prefix"
    """Feedback before the document or after it."""
    tag_replaces: Annotated[str, Field(min_length=1)] | None = None
    """`spans`: the tag replaces the span's first token with this text, such as `=`, and adds no
    token. With null, or in a span without such a token, the tag is before the span."""
    dropout: Share = 0.1
    """Share of samples without feedback."""
    loss_on_prefix: Weight = 0.0
    """Loss weight of the feedback tokens."""
    loss_by_verdict: dict[str, Weight] = Field(default={"right": 1.0, "wrong": 1.0, "rest": 1.0})
    """Loss weight of a document's tokens by the verdict of their span; `rest` is for tokens outside
    of spans and for other verdicts."""
    verdict_after: Annotated[str, Field(min_length=1)] | None = None
    """`loss_by_verdict` applies only after the span's first token with this text, such as `=`. With
    null, or in a span without such a token, it applies to the complete span."""
    cooldown: Share = 0.1
    """Last share of the run without feedback."""
    noisy: Share = 0.0
    """Share of samples with the feedback of another document of their shard, as a control
    experiment. 1 shuffles all feedback."""
    feedback: Annotated[str, Field(min_length=1)] = "given"
    """The feedback of all samples. `given`: the document's own. `best`, `worst`: the best or worst
    feedback in the drawn documents. `shuffled`: that of another document, like `noisy: 1`. Any
    other value is a fixed text, with the best score."""
    bins: Literal["raw", "threshold", "quantile"] = "raw"
    """Mapping of a score to one of eleven tokens. `raw`: steps of 0.1. `threshold`: the number of
    `edges` that it reaches. `quantile`: the same, with edges that split the drawn scores into
    eleven equal shares."""
    edges: tuple[Share, ...] = ()
    """Ascending scores for `threshold`; a train run computes those for `quantile` at its start."""
    repeat_every: PositiveInt | None = None
    """Number of document tokens after which the feedback repeats; null: no repetition."""
    template: Literal["special", "plain"] = "special"
    """`special`: feedback between special tokens. `plain`: feedback as text for any tokenizer."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError(f"edges: must ascend, got {list(self.edges)}")
        if self.bins == "threshold" and not self.edges:
            raise ValueError("edges: missing; bins: threshold needs at least one, such as [0.5]")
        if self.bins == "raw" and self.edges:
            raise ValueError("edges: given, but bins is raw; set bins to threshold")
        if self.repeat_every and self.position == "append":
            raise ValueError("repeat_every: must be null if position is append")
        if self.tag_replaces is not None and self.kind != "spans":
            raise ValueError(f"tag_replaces: kind {self.kind!r} has no tags; it is for spans")
        if self.kind in ("none", "spans"):
            for key, value in (("noisy", self.noisy), ("feedback", self.feedback != "given")):
                if value:
                    raise ValueError(
                        f"{key}: kind {self.kind!r} has no feedback that could be replaced"
                    )
        if self.feedback == "none":
            raise ValueError("feedback: for samples without feedback, set kind to none")
        if self.noisy and self.feedback != "given":
            raise ValueError(
                f"noisy: feedback is {self.feedback!r} for all samples; set only one of them"
            )
        return self

    @property
    def shuffled(self) -> float:
        """Share of samples with the feedback of another document."""
        return 1.0 if self.feedback == "shuffled" else self.noisy

    @property
    def fixed_feedback(self) -> str | None:
        """Feedback of all samples; None if each sample has the feedback of a critique."""
        return None if self.feedback in ("given", "shuffled") else self.feedback

    @property
    def weighs_spans(self) -> bool:
        """True if loss weights differ by verdict."""
        return any(weight != 1.0 for weight in self.loss_by_verdict.values())

    @property
    def reads_critiques(self) -> bool:
        """True if samples depend on critiques."""
        return self.kind != "none" or self.weighs_spans


class Selection(ConfigModel):
    """A named SQL predicate over a snapshot, and its share of the draws."""

    name: Annotated[str, Field(min_length=1)]
    """Name in schedules and summaries; by default the name of the saved selection."""
    use: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(@\d+)?$")] | None = None
    """A saved selection that defines predicate and critic: NAME in the snapshot, or NAME@VERSION
    from that commit."""
    where: Annotated[str, Field(min_length=1)] = EVERYTHING
    """SQL over the columns of documents and of the critic's critiques."""
    critic: str | None = None
    """Name or id of the critic for this selection, instead of the mix's critic."""
    weight: Weight = 1.0
    """Share of the draws, relative to the other selections."""
    max_repeats: PositiveInt | None = None
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

    by: Annotated[str, Field(min_length=1)] = "score"
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
    condition: Condition | None = None
    """Changed keys of the condition. `cooldown` belongs to the run and is not valid here."""


class Mix(ConfigModel):
    """Everything that determines the draws of a training job.

    Examples:
        >>> mix = Mix(store="S", condition={"kind": "none"})
        >>> [selection.name for selection in mix.selections]
        ['all']
    """

    store: str = "./ixt"
    """Root of the store, relative to the working folder."""
    snapshot: int | str | None = None
    """Version or tag; null is the newest version at the time of the plan, which is pinned."""
    corpus: Annotated[tuple[str, ...], BeforeValidator(_as_tuple, str | list[str])] | None = None
    """Corpus or list of corpora; null is all."""
    critic: str | None = None
    """Name or id of the critic, for selections without a critic."""
    condition: Condition = Condition()
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
        if phase.condition and "cooldown" in phase.condition.model_fields_set:
            raise ValueError(f"{path}.condition.cooldown: it is a share of the run, not of a phase")
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
        """Return the name or id of a selection's critic, or None."""
        return selection.critic or self.critic

    @property
    def critics(self) -> tuple[str | None, ...]:
        """The distinct critics of the selections, in their order."""
        return tuple(dict.fromkeys(map(self.critic_of, self.selections)))

    def condition_in(self, phase: Phase) -> Condition:
        """Return the condition of one phase: the mix's own, updated with the phase's keys."""
        if phase.condition is None:
            return self.condition
        changed = {key: getattr(phase.condition, key) for key in phase.condition.model_fields_set}
        # Validate again: the combination of both must be consistent.
        return Condition.model_validate(self.condition.model_dump() | changed)

    def schedule_conditions(self) -> list[Condition]:
        """Return the conditions in the phases of the schedule."""
        return [phase.condition for phase in self.schedule if phase.condition is not None]

    def with_edges(self, edges: tuple[float, ...]) -> Self:
        """Return a copy with edges in every condition of `quantile` without edges."""

        def fill(condition: Condition) -> Condition:
            if condition.bins != "quantile" or condition.edges:
                return condition
            return condition.model_copy(update={"edges": edges})

        schedule = tuple(
            phase.model_copy(update={"condition": fill(phase.condition)})
            if phase.condition
            else phase
            for phase in self.schedule
        )
        return self.model_copy(update={"condition": fill(self.condition), "schedule": schedule})

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
    return load_config(Mix, path, overrides)
