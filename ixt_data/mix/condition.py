"""The conditions of a mix: what a sample contains besides its document, one class per kind."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ixt_data.config import ConfigModel, describe_errors, kind_of
from ixt_data.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Condition(ConfigModel):
    """The keys of every kind: the loss weights of the document, and the end of the run."""

    kind: str
    """What samples contain besides their document."""
    loss_by_verdict: dict[str, Weight] = Field(default={"right": 1.0, "wrong": 1.0, "rest": 1.0})
    """Loss weight of a document's tokens by the verdict of their span; `rest` is for tokens outside
    of spans and for other verdicts."""
    verdict_after: Text | None = None
    """`loss_by_verdict` applies only after the span's first token with this text, such as `=`. With
    null, or in a span without such a token, it applies to the complete span."""
    cooldown: Share = 0.1
    """Last share of the run without feedback, in any phase."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_keys_of_other_kinds(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        kind = kind_of(cls)
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError("key_of_other_kind", f"kind {kind!r} has no {key}, {has}"),
                loc=(key,),
                input=value[key],
            )
            for key in value
            if key not in cls.model_fields and (has := _kinds_with(key))
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return value

    @property
    def shuffled(self) -> float:
        """Share of samples with the feedback of another document."""
        return 0.0

    @property
    def fixed_feedback(self) -> str | None:
        """Feedback of all samples; None if each sample has the feedback of a critique."""
        return None

    @property
    def weighs_spans(self) -> bool:
        """True if loss weights differ by verdict."""
        return any(weight != 1.0 for weight in self.loss_by_verdict.values())

    @property
    def reads_critiques(self) -> bool:
        """True if samples depend on critiques."""
        return True

    def with_equal_losses(self) -> Self:
        """Return a copy that weighs all tokens of documents alike, and feedback not at all."""
        equal = {"loss_by_verdict": {}, "loss_on_prefix": 0.0}
        return self.model_copy(update={k: equal[k] for k in equal if k in type(self).model_fields})


class NoFeedback(_Condition):
    """Documents without feedback."""

    kind: Literal["none"]
    dropout: ClassVar[float] = 1.0
    loss_on_prefix: ClassVar[float] = 0.0

    @property
    def reads_critiques(self) -> bool:
        """True if loss weights depend on spans."""
        return self.weighs_spans


class _Feedback(_Condition):
    """The keys of every kind with feedback."""

    dropout: Share = 0.1
    """Share of samples without feedback."""
    loss_on_prefix: Weight = 0.0
    """Loss weight of the feedback tokens."""


class SpanFeedback(_Feedback):
    """Tags inside the document, where the defects are."""

    kind: Literal["spans"]
    tag_replaces: Text | None = None
    """The tag replaces the span's first token with this text, such as `=`, and adds no token. With
    null, or in a span without such a token, the tag is before the span."""


class DocumentFeedback(_Feedback):
    """The keys of every kind with feedback on the document: its rendering, and its controls."""

    position: Literal["prefix", "append"] = "prefix"
    """Feedback before the document or after it."""
    repeat_every: PositiveInt | None = None
    """Number of document tokens after which the feedback repeats; null: no repetition."""
    template: Literal["special", "plain"] = "special"
    """`special`: feedback between special tokens. `plain`: feedback as text for any tokenizer."""
    noisy: Share = 0.0
    """Share of samples with the feedback of another document of their shard, as a control
    experiment. 1 shuffles all feedback."""
    feedback: Text = "given"
    """The feedback of all samples. `given`: the document's own. `best`, `worst`: the best or worst
    feedback in the drawn documents. `shuffled`: that of another document, like `noisy: 1`. Any
    other value is a fixed text, with the best score."""

    @model_validator(mode="after")
    def _check_feedback(self) -> Self:
        if self.repeat_every and self.position == "append":
            raise ValueError("repeat_every: must be null if position is append")
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


class CritiqueFeedback(DocumentFeedback):
    """The text of the critique."""

    kind: Literal["critique"]


class ScoredFeedback(DocumentFeedback):
    """The keys of every kind with a score token."""

    bins: Literal["raw", "threshold", "quantile"] = "raw"
    """Mapping of a score to one of eleven tokens. `raw`: steps of 0.1. `threshold`: the number of
    `edges` that it reaches. `quantile`: the same, with edges that split the drawn scores into
    eleven equal shares."""
    edges: tuple[Share, ...] = ()
    """Ascending scores for `threshold`; a train run computes those for `quantile` at its start."""

    @model_validator(mode="after")
    def _check_edges(self) -> Self:
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError(f"edges: must ascend, got {list(self.edges)}")
        if self.bins == "threshold" and not self.edges:
            raise ValueError("edges: missing; bins: threshold needs at least one, such as [0.5]")
        if self.bins == "raw" and self.edges:
            raise ValueError("edges: given, but bins is raw; set bins to threshold")
        return self


class ScoreFeedback(ScoredFeedback):
    """The score token."""

    kind: Literal["score"]
    feedback: Literal["given", "best", "worst", "shuffled"] = "given"


class FullFeedback(ScoredFeedback):
    """The score token and the text of the critique."""

    kind: Literal["both"] = "both"


def _with_kind(value: Any) -> Any:
    return {"kind": "both", **value} if isinstance(value, Mapping) else value


Condition = Annotated[
    NoFeedback | ScoreFeedback | CritiqueFeedback | FullFeedback | SpanFeedback,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
"""Conversion of a document's critique to tokens before, after or inside the document."""

KINDS: Mapping[str, type[_Condition]] = {
    "none": NoFeedback,
    "score": ScoreFeedback,
    "critique": CritiqueFeedback,
    "both": FullFeedback,
    "spans": SpanFeedback,
}
_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)


def _kinds_with(key: str) -> str:
    kinds = [kind for kind, model in KINDS.items() if key in model.model_fields]
    return f"only {', '.join(kinds)}" if kinds else ""


def build_condition(**keys: Any) -> Condition:
    """Build a condition from its keys; `kind` is `both` by default.

    Raises:
        ValidationError: a key or value that the kind does not have.

    Examples:
        >>> build_condition(kind="score", dropout=0.2).dropout
        0.2
    """
    return _CONDITION.validate_python(keys)


def parse_condition(tree: Any, name: str) -> Condition:
    """Parse a condition from plain values.

    Args:
        tree: a mapping, as YAML or JSON gives it.
        name: name of the source in error messages.

    Raises:
        ConfigError: invalid keys.
    """
    try:
        return _CONDITION.validate_python(tree)
    except ValidationError as error:
        raise ConfigError(f"{name}: {describe_errors(Condition, error)}") from None


def change_condition(condition: Condition, changes: Mapping[str, Any]) -> Condition:
    """Return a condition with some keys changed, such as a phase has.

    If the kind changes, it retains those keys that the other kind has, too. If `bins` changes, it
    retains no edges.

    Raises:
        ValidationError: a key or value that the kind does not have.
    """
    kind = str(changes.get("kind", condition.kind))
    fields = KINDS[kind].model_fields if kind in KINDS else {}
    retained = fields.keys() - ({"edges"} if "bins" in changes else set())
    return build_condition(**condition.model_dump(include=retained) | dict(changes))


def needs_edges(condition: Condition) -> bool:
    """Return True for a condition of `quantile` without edges."""
    if not isinstance(condition, ScoredFeedback):
        return False
    return condition.bins == "quantile" and not condition.edges


def _changes_schema() -> dict[str, Any]:
    """Return the JSON schema of changed keys: any key of any kind."""
    properties: dict[str, Any] = {}
    for model in KINDS.values():
        properties |= model.model_json_schema()["properties"]
    without_defaults = {
        key: {name: value for name, value in schema.items() if name != "default"}
        for key, schema in properties.items()
    }
    without_defaults["kind"] = {"enum": list(KINDS), "type": "string"}
    del without_defaults["cooldown"]
    return {"type": "object", "properties": without_defaults, "additionalProperties": False}


ConditionChanges = Annotated[dict[str, Any], WithJsonSchema(_changes_schema())]
"""Changed keys of a condition."""
