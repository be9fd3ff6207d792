"""Conditioning: a document and its critique as one row of tokens with loss weights.

`<|bos|><|feedback|><|score_10|> every step is correct<|/feedback|>` + document + `<|eos|>`.
The template is this project's: the paper's (arXiv 2605.20285) is not public.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError, RejectedConversation
from ixt_data.mix import Condition, DocumentFeedback, ScoredFeedback, SpanFeedback, needs_edges
from ixt_data.records import Span
from ixt_train.conditioning.encoder import Encoder, TokenArray
from ixt_train.conditioning.tokenizer import control_tokens, tokenizer_id

FEEDBACK, END_FEEDBACK = "<|feedback|>", "<|/feedback|>"
FLAW, END_FLAW = "<|flaw|>", "<|/flaw|>"
SCORES = tuple(f"<|score_{n}|>" for n in range(11))
SPECIAL_TOKENS: tuple[str, ...] = (FEEDBACK, END_FEEDBACK, *SCORES, FLAW, END_FLAW)
"""Special tokens that a tokenizer needs besides its beginning, end and padding tokens."""

Weights = npt.NDArray[np.float32]
_NOTHING = np.empty(0, np.int32)
_PARTING = "\n\n"


class Feedback(NamedTuple):
    """Feedback on a document: a score from 0 to 1 and a critique; either may be missing."""

    score: float | None = None
    critique: str = ""


Choice = Literal["given", "best", "worst", "none"] | Feedback
"""The document's own feedback, the best or worst observed in training, none, or a given one."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample as tokens.

    Attributes:
        input_ids: int32[T].
        loss_weights: weight of the loss at predicting each token, float32[T].
        rejected: why the chat template rejects the conversation; empty for all other samples.
        worse_from: of a pair, the first token of its worse conversation, which follows the better
            one.
    """

    input_ids: TokenArray
    loss_weights: Weights
    rejected: str = ""
    worse_from: int | None = None


def score_bin(score: float, edges: Sequence[float] = ()) -> int:
    """Return the bin of a score, 0 to 10: steps of 0.1, or the share of edges it reaches."""
    # Scores are float32 in shards and float64 in rows: both must give the same bin for 0.35.
    if edges:
        score = bisect_right(edges, round(score, 5) + 1e-9) / len(edges)
    return min(max(floor(round(score * 10, 4) + 0.5), 0), 10)


def score_token(score: float) -> str:
    """Return the token of a score from 0 to 1, in steps of 0.1."""
    return SCORES[score_bin(score)]


def tag_token(tag: str) -> str:
    """Return the single token of a span's tag; tokenizers without it spell the tag out."""
    return f"<|flaw:{tag}|>"


class Conditioner:
    """An encoder of documents with critiques as tokens, under one condition.

    The feedback is in front of the document (or after it, or inside it for spans), between control
    tokens that no document can spell.
    """

    needs_text = False
    """Whether documents must come as text and with their spans, under any condition."""

    def __init__(
        self,
        tokenizer: Any,
        condition: Condition,
        observed: Mapping[str, tuple[float, str]] | None = None,
    ) -> None:
        """Check that the tokenizer has every token that the condition needs.

        Args:
            tokenizer: a fast Hugging Face tokenizer with beginning and end tokens.
            condition: see `ixt_data.mix.Condition`.
            observed: the feedback `best` and `worst`; see `ixt_data.mix.observed_feedback`.

        Raises:
            ConfigError: the tokenizer is not a fast one, or tokens are missing.
        """
        self.encoder = Encoder(tokenizer)
        self.tokenizer = tokenizer
        self.tokenizer_id = tokenizer_id(tokenizer)
        self.condition = condition
        self.observed = {name: Feedback(*pair) for name, pair in (observed or {}).items()}
        self._backend = self.encoder.backend
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._tag_replaces = self._repeat_every = None
        self._is_appended = False
        if isinstance(condition, SpanFeedback):
            self._tag_replaces = condition.tag_replaces
        elif isinstance(condition, DocumentFeedback):
            self._repeat_every = condition.repeat_every
            self._is_appended = condition.position == "append"
        self._check()

    @property
    def default_choice(self) -> Choice:
        """The feedback for every document that has any; `given` is its own."""
        preamble = self.condition.fixed_feedback
        if preamble is None:
            return "given"
        if preamble == "best" or preamble == "worst":
            return "best" if preamble == "best" else "worst"
        return Feedback(self.observed["best"].score if "best" in self.observed else None, preamble)

    def with_condition(self, condition: Condition) -> "Conditioner":
        """Return a conditioner for another condition, such as a phase of the schedule has."""
        return Conditioner(self.tokenizer, condition, self._pairs())

    def _pairs(self) -> dict[str, tuple[float, str]]:
        return {name: (f.score or 0.0, f.critique) for name, f in self.observed.items()}

    def _check(self) -> None:
        if self._bos is None or self._eos is None:
            raise ConfigError("the tokenizer has no beginning or end token (bos_token, eos_token)")
        condition = self.condition
        if needs_edges(self.condition):
            raise ConfigError(
                "condition.edges: bins is quantile, but the edges are not computed yet; call "
                "ixt_data.mix.with_edges"
            )
        needed: tuple[str, ...] = ()
        if isinstance(condition, SpanFeedback):
            needed = (FLAW, END_FLAW)
        elif isinstance(condition, DocumentFeedback) and condition.template == "special":
            needed = (FEEDBACK, END_FEEDBACK)
            if isinstance(condition, ScoredFeedback):
                needed += SCORES
        missing = [token for token in needed if self._backend.token_to_id(token) is None]
        if missing:
            raise ConfigError(
                f"the tokenizer has no {', '.join(missing)} for condition.kind "
                f"{condition.kind!r}; add them: "
                "ixt_train.conditioning.tokenizer.add_special_tokens(tokenizer, SPECIAL_TOKENS)"
            )

    def encode(
        self,
        text: str | TokenArray,
        critique: str | TokenArray | None = None,
        score: float | None = None,
        spans: Sequence[Span] = (),
        feedback: Choice = "given",
    ) -> Encoded:
        """Encode one sample: beginning, feedback and document under the condition, end.

        Args:
                text: the document, or its tokens int32[N]; spans need the text.
                critique: the text of its critique, or its tokens.
                score: its score, 0 to 1.
                spans: judged passages, in document order; character offsets.
                feedback: feedback that replaces the document's own.

        Returns:
                `input_ids` int32[T] and `loss_weights` float32[T].

        Raises:
            ConfigError: `best` or `worst`, and the conditioner has no observed feedback.
            RejectedConversation: the chat template rejects a conversation.
        """
        if feedback == "given":
            feedback_ids = self._feedback_tokens(score, "" if critique is None else critique)
        else:
            feedback_ids = self._chosen_tokens(feedback)
        tagged = self.has_tags and feedback == "given"
        document, weights = self._document(text, spans, tagged)
        if self._repeat_every and len(feedback_ids):
            document, weights = self._with_repeats(
                document, weights, feedback_ids, self._repeat_every
            )
        first, last = len(feedback_ids), len(document)
        ids = np.empty(first + last + 2, np.int32)
        loss = np.empty(first + last + 2, np.float32)
        ids[0], ids[-1], loss[0], loss[-1] = self._bos, self._eos, 0.0, 1.0
        feedback_at, document_at = slice(1, 1 + first), slice(1 + first, -1)
        if self._is_appended:
            feedback_at, document_at = slice(1 + last, -1), slice(1, 1 + last)
        ids[feedback_at], ids[document_at] = feedback_ids, document
        loss[feedback_at], loss[document_at] = self.condition.loss_on_prefix, weights
        return Encoded(ids, loss)

    def encode_or_reject(self, *args: Any, **options: Any) -> Encoded:
        """Return `encode`; of a conversation that is rejected, two tokens without loss."""
        try:
            return self.encode(*args, **options)
        except RejectedConversation as error:
            ids = np.array([self._bos, self._eos], np.int32)
            return Encoded(ids, np.zeros(len(ids), np.float32), str(error))

    def prompt(self, text: str = "", feedback: Choice = "best") -> TokenArray:
        """Return the tokens that a model continues: beginning, feedback, start of the document.

        It omits feedback that comes after the document. Under the condition `spans`, feedback
        text is a tag at the position where the model continues.

        Returns:
            int32[T].
        """
        feedback_ids = self._chosen_tokens(feedback)
        if self._is_appended:
            feedback_ids = feedback_ids[:0]
        document, _ = self._document(text, (), tagged=False)
        prefix_ids = self._with_tag(document, feedback)
        return np.concatenate([[self._bos], feedback_ids, prefix_ids]).astype(np.int32)

    @property
    def has_tags(self) -> bool:
        """Whether feedback is tags inside the document."""
        return isinstance(self.condition, SpanFeedback)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens with which a model ends its text."""
        return (self._eos,)

    @property
    def banned_tokens(self) -> list[int]:
        """The tokens that a model must never generate."""
        return sorted(set(control_tokens(self.tokenizer)) - set(self.ends))

    def tags(self) -> list[str]:
        """Return the tags of spans that have a dedicated token."""
        tokens = sorted(self._backend.get_vocab())
        before, after = tag_token("\0").split("\0")
        return [
            token[len(before) : -len(after)]
            for token in tokens
            if token.startswith(before) and token.endswith(after)
        ]

    def _with_tag(self, prefix_ids: TokenArray, feedback: Choice) -> TokenArray:
        """Return the ids to continue: with a tag appended, or replacing their last token."""
        if not self.has_tags or isinstance(feedback, str) or not feedback.critique:
            return prefix_ids
        last = self._backend.decode(prefix_ids[-1:].tolist(), skip_special_tokens=False)
        if last.strip() == self._tag_replaces:
            prefix_ids = prefix_ids[:-1]
        return np.concatenate([prefix_ids, self._tag(feedback.critique)]).astype(np.int32)

    def _chosen_tokens(self, choice: Choice) -> TokenArray:
        """Return the tokens of chosen feedback; empty if there is none."""
        if choice in ("none", "given"):
            return _NOTHING
        if isinstance(choice, str):
            if choice not in self.observed:
                if not isinstance(self.condition, DocumentFeedback):
                    return _NOTHING
                raise ConfigError(
                    f"feedback {choice!r}: the conditioner has no observed feedback of that name"
                )
            choice = self.observed[choice]
        return self._feedback_tokens(*choice)

    def _feedback_tokens(self, score: float | None, critique: str | TokenArray) -> TokenArray:
        """Return the tokens of feedback; empty if it has neither score nor critique."""
        condition, critique_ids, number = self.condition, _NOTHING, None
        if not isinstance(condition, DocumentFeedback):
            return _NOTHING
        if condition.kind != "score" and len(critique):
            critique_ids = self.encoder.words(critique) if isinstance(critique, str) else critique
        if isinstance(condition, ScoredFeedback) and score is not None:
            number = score_bin(score, condition.edges)
        if number is None and not len(critique_ids):
            return _NOTHING
        if condition.template == "plain":
            preamble = "Feedback:" if number is None else f"Feedback: {number}/10."
            return np.concatenate(
                [self.encoder.words(preamble), critique_ids, self.encoder.document(_PARTING)]
            )
        token = [] if number is None else [self._id(SCORES[number])]
        ends = [self._id(FEEDBACK)], [self._id(END_FEEDBACK)]
        return np.concatenate([ends[0], token, critique_ids, ends[1]]).astype(np.int32)

    def _with_repeats(
        self, document: TokenArray, weights: Weights | float, feedback_ids: TokenArray, every: int
    ) -> tuple[TokenArray, Weights | float]:
        """Insert the feedback again between chunks of a document."""
        at = np.array(range(every, len(document), every), np.int64)
        if not len(at):
            return document, weights
        each = np.broadcast_to(np.asarray(weights, np.float32), len(document))
        positions = np.repeat(at, len(feedback_ids))
        return (
            np.insert(document, positions, np.tile(feedback_ids, len(at))),
            np.insert(each, positions, np.float32(self.condition.loss_on_prefix)),
        )

    def _document(
        self, text: str | TokenArray, spans: Sequence[Span], tagged: bool
    ) -> tuple[TokenArray, Weights | float]:
        rest = self.condition.loss_by_verdict.get("rest", 1.0)
        if not isinstance(text, str):
            return text, rest
        if not spans or not (tagged or self.condition.weighs_spans):
            return self.encoder.document(text), rest
        ids, offsets = self.encoder.document_with_offsets(text)
        weights = np.full(len(ids), rest, np.float32)
        return self._with_verdicts(text, ids, offsets, weights, spans, tagged)

    def _with_verdicts(
        self,
        text: str,
        ids: TokenArray,
        offsets: npt.NDArray[np.int64],
        weights: Weights,
        spans: Sequence[Span],
        tagged: bool,
    ) -> tuple[TokenArray, Weights]:
        """Return tokens and loss weights with the weights and tags of judged passages."""
        by_verdict = self.condition.loss_by_verdict
        rest = by_verdict.get("rest", 1.0)
        positions, keep = [], np.ones(len(ids), bool)
        for span in spans:
            first = int(np.searchsorted(offsets[:, 1], span.start, "right"))
            last = int(np.searchsorted(offsets[:, 0], span.end, "left"))
            tokens = range(first, last)
            sign = self._find_token(self.condition.verdict_after, text, offsets, tokens)
            judged = first if sign is None else sign + 1
            weights[judged:last] = by_verdict.get(span.verdict, rest)
            if tagged and (span.tag or span.verdict == "wrong"):
                replaced = self._find_token(self._tag_replaces, text, offsets, tokens)
                if replaced is not None:
                    keep[replaced] = False
                positions.append((first if replaced is None else replaced, self._tag(span.tag)))
        return self._insert(ids, weights, positions, keep)

    def _find_token(
        self, pattern: str | None, text: str, offsets: npt.NDArray[np.int64], span: range
    ) -> int | None:
        """Return the first token of a span whose text is `pattern`, or None."""
        if pattern is None:
            return None
        return next((i for i in span if text[slice(*offsets[i])].strip() == pattern), None)

    def _insert(
        self,
        ids: TokenArray,
        weights: Weights,
        positions: Sequence[tuple[int, list[int]]],
        keep: npt.NDArray[np.bool_],
    ) -> tuple[TokenArray, Weights]:
        """Insert tags before the tokens at their positions, with the loss weight of feedback."""
        if not positions:
            return ids, weights
        at = np.repeat(
            [token_index for token_index, _ in positions], [len(tag) for _, tag in positions]
        )
        tags = np.array([token for _, tag in positions for token in tag], np.int32)
        keep = np.insert(keep, at, True)
        return (
            np.insert(ids, at, tags)[keep],
            np.insert(weights, at, np.float32(self.condition.loss_on_prefix))[keep],
        )

    def _tag(self, tag: str) -> list[int]:
        single = self._backend.token_to_id(tag_token(tag))
        if single is not None:
            return [single]
        return [
            self._id(FLAW),
            *(self.encoder.words(tag).tolist() if tag else ()),
            self._id(END_FLAW),
        ]

    def _id(self, token: str) -> int:
        return int(self._backend.token_to_id(token))
