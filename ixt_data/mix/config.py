"""The mix: weighted selections, conditioning, schedule and seed, as a YAML file says them."""

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
    """How a document's critique becomes tokens beside it."""

    kind: Literal["none", "score", "critique", "both", "spans"] = "both"
    """What the model sees: nothing, the score token, the words, both, or a tag at each defect."""
    position: Literal["prefix", "append"] = "prefix"
    """Feedback before the document or after it."""
    tag_replaces: Annotated[str, Field(min_length=1)] | None = None
    """`spans`: the tag takes the place of the span's first token that reads like this, such as
    `=`, and costs no token; null, or where a span has none, puts it before the span."""
    dropout: Share = 0.1
    """Share of samples without feedback."""
    loss_on_prefix: Weight = 0.0
    """Loss weight of the feedback's tokens."""
    loss_by_verdict: dict[str, Weight] = Field(default={"right": 1.0, "wrong": 1.0, "rest": 1.0})
    """Loss weight of a document's tokens by the verdict of the span they are in; `rest` is for
    tokens in no span and for verdicts not named."""
    verdict_after: Annotated[str, Field(min_length=1)] | None = None
    """`loss_by_verdict` counts in a span only after its first token that reads like this, such as
    `=`: the part that the verdict is about. null, or where a span has none: in the whole span."""
    cooldown: Share = 0.1
    """Last share of the run without feedback."""
    noisy: Share = 0.0
    """Share of samples with the feedback of another document of their shard: a control. 1 shuffles
    all feedback."""
    feedback: Annotated[str, Field(min_length=1)] = "given"
    """Whose feedback the model is told. `given`: the document's own. `best`, `worst`: the one that
    was observed in what is drawn. `shuffled`: that of another document, as `noisy: 1`. Anything
    else is a text that all are told, with the best score."""
    bins: Literal["raw", "threshold", "quantile"] = "raw"
    """How a score becomes one of eleven tokens. `raw`: in steps of 0.1. `threshold`: by how many
    `edges` it reaches. `quantile`: the same, with the edges that part the scores that are drawn
    into eleven equal shares."""
    edges: tuple[Share, ...] = ()
    """Ascending scores of `threshold`; those of `quantile` are found when a train run begins."""
    repeat_every: PositiveInt | None = None
    """Tell the feedback again after every so many tokens of the document; null tells it once."""
    template: Literal["special", "plain"] = "special"
    """`special`: feedback between tokens of its own. `plain`: in words that any tokenizer has."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError(f"edges: must ascend, got {list(self.edges)}")
        if self.bins == "threshold" and not self.edges:
            raise ValueError("edges: missing; bins: threshold needs at least one, such as [0.5]")
        if self.bins == "raw" and self.edges:
            raise ValueError("edges: given, but bins is raw; set bins to threshold")
        if self.repeat_every and self.position == "append":
            raise ValueError("repeat_every: feedback that comes after the document comes once")
        if self.tag_replaces is not None and self.kind != "spans":
            raise ValueError(f"tag_replaces: kind {self.kind!r} has no tags; it is for spans")
        if self.kind in ("none", "spans"):
            for key, value in (("noisy", self.noisy), ("feedback", self.feedback != "given")):
                if value:
                    raise ValueError(
                        f"{key}: kind {self.kind!r} tells no feedback that could be another"
                    )
        if self.feedback == "none":
            raise ValueError("feedback: to tell none, set kind to none")
        if self.noisy and self.feedback != "given":
            raise ValueError(f"noisy: feedback is {self.feedback!r} for all; set one of them")
        return self

    @property
    def shuffled(self) -> float:
        """Share of samples with the feedback of another document."""
        return 1.0 if self.feedback == "shuffled" else self.noisy

    @property
    def told(self) -> str | None:
        """What all documents are told instead of feedback from critiques; None for that."""
        return None if self.feedback in ("given", "shuffled") else self.feedback

    @property
    def weighs_spans(self) -> bool:
        """Whether loss weights differ by verdict."""
        return any(weight != 1.0 for weight in self.loss_by_verdict.values())

    @property
    def reads_critiques(self) -> bool:
        """Whether anything of a critique is needed."""
        return self.kind != "none" or self.weighs_spans


class Selection(ConfigModel):
    """A named SQL predicate over a snapshot, and its share of the draws."""

    name: Annotated[str, Field(min_length=1)]
    """What schedules and summaries call it; the name of the saved selection by default."""
    use: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(@\d+)?$")] | None = None
    """A saved selection that gives predicate and critic: NAME as the snapshot has it, or
    NAME@VERSION as that commit saved it."""
    where: Annotated[str, Field(min_length=1)] = EVERYTHING
    """SQL over the columns of documents and of the critic's critiques."""
    critic: str | None = None
    """Whose critiques, by name or id, instead of the mix's."""
    weight: Weight = 1.0
    """Share of the draws, relative to the other selections."""
    max_repeats: PositiveInt | None = None
    """Most draws of one document over the run; null sets no limit."""

    @model_validator(mode="before")
    @classmethod
    def _named_as_saved(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("use"), str):
            return {**value, "name": value["use"].partition("@")[0]}
        return value

    @model_validator(mode="after")
    def _one_predicate(self) -> Self:
        # With its version, `where` tells what it was found to be.
        if self.use and "@" not in self.use and "where" in self.model_fields_set:
            raise ValueError(f"where: given, but `use: {self.use}` gives the predicate")
        return self

    @property
    def used(self) -> tuple[str, int | None]:
        """Name and version of the saved selection; the version is None where the mix has none."""
        name, _, version = (self.use or "").partition("@")
        return name, int(version) if version else None


class Weighting(ConfigModel):
    """How draws spread over the documents of one selection."""

    by: Annotated[str, Field(min_length=1)] = "score"
    """SQL giving one number per document."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Softmax temperature; null draws uniformly."""


class Phase(ConfigModel):
    """A share of the run with settings of its own."""

    share: Annotated[float, Field(gt=0, le=1)]
    """How much of the run; what the phases leave is drawn by the mix's own settings."""
    weights: dict[str, Weight] = Field(default={})
    """Weights by selection, instead of their own."""
    where: dict[str, str] = Field(default={})
    """Predicates by selection, instead of their own."""
    condition: Condition | None = None
    """Keys of the condition to change; `cooldown` belongs to the run and cannot be among them."""


class Mix(ConfigModel):
    """Everything that a training job draws."""

    store: str = "./ixt"
    """Root of the store, relative to the working folder."""
    snapshot: int | str | None = None
    """Version or tag; null is the newest, pinned when the mix is planned."""
    corpus: Annotated[tuple[str, ...], BeforeValidator(_as_tuple, str | list[str])] | None = None
    """Corpus or corpora; null takes all."""
    critic: str | None = None
    """Whose critiques, by name or id, where a selection names none of its own."""
    condition: Condition = Condition()
    """How critiques become tokens."""
    selections: Annotated[tuple[Selection, ...], Field(min_length=1)] = (Selection(name="all"),)
    """What is drawn; a document in two selections is drawn for both."""
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
        """Whether a selection has no critic; what a saved one has is not known yet."""
        return any(self.critic_of(own) is None and own.use is None for own in self.selections)

    @property
    def reads_critiques(self) -> bool:
        """Whether the condition of any phase needs critiques."""
        return any(self.condition_in(phase).reads_critiques for phase in self.phases())

    def critic_of(self, selection: Selection) -> str | None:
        """Whose critiques the documents of a selection come with."""
        return selection.critic or self.critic

    @property
    def critics(self) -> tuple[str | None, ...]:
        """The different critics of the selections, in their order."""
        return tuple(dict.fromkeys(map(self.critic_of, self.selections)))

    def condition_in(self, phase: Phase) -> Condition:
        """The condition of one phase: the mix's own with the phase's keys on top."""
        if phase.condition is None:
            return self.condition
        changed = {key: getattr(phase.condition, key) for key in phase.condition.model_fields_set}
        # Not a plain copy: keys of both together must fit.
        return Condition.model_validate(self.condition.model_dump() | changed)

    def schedule_conditions(self) -> list[Condition]:
        """The conditions that phases of the schedule give."""
        return [phase.condition for phase in self.schedule if phase.condition is not None]

    def with_edges(self, edges: tuple[float, ...]) -> Self:
        """The same with edges wherever a condition has quantiles and none."""

        def filled(condition: Condition) -> Condition:
            if condition.bins != "quantile" or condition.edges:
                return condition
            return condition.model_copy(update={"edges": edges})

        schedule = tuple(
            phase.model_copy(update={"condition": filled(phase.condition)})
            if phase.condition
            else phase
            for phase in self.schedule
        )
        return self.model_copy(update={"condition": filled(self.condition), "schedule": schedule})

    def phases(self) -> tuple[Phase, ...]:
        """The whole run as phases: the schedule, and what it leaves."""
        left = 1 - sum(phase.share for phase in self.schedule)
        return self.schedule if left < 1e-9 else (*self.schedule, Phase(share=left))

    def content(self) -> dict[str, Any]:
        """All that decides the draws, without the place of the store and the name of its pin."""
        content = self.model_dump(mode="json", exclude={"store", "snapshot"})
        for selection in content["selections"]:
            # So that the digests of mixes without saved selections stay as they were.
            if selection["use"] is None:
                del selection["use"]
        return content


def load_mix(path: str | Path, overrides: Iterable[str] = ()) -> Mix:
    """The mix in a YAML file, with overrides such as `condition.kind=none`.

    Raises:
        ConfigError: the file cannot be read, or a key is wrong; the full key path is named.
    """
    return load_config(Mix, path, overrides)
