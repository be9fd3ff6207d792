"""Decoding: continuation of token rows, guided by what the model generates without feedback.

Guidance is classifier-free (Ho & Salimans, arXiv 2207.12598; for language models Sanchez et al.,
arXiv 2306.17806): log p = log p_base + gamma (log p_conditioned - log p_base). Gamma 1 disables it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ixt_data.errors import ConfigError
from ixt_train.conditioning import Conditioner
from ixt_train.inference.model import logits_of

TokenIds = tuple[int, ...]
Ending = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class TokenSampling:
    """The selection of tokens.

    Attributes:
        max_new_tokens: maximum number of generated tokens.
        temperature: 0 chooses the most likely token each time.
        top_p: sample from the fewest tokens that cover this share of the probability.
        top_k: sample from this number of the most likely tokens; 0 samples from all.
        stop: end before any of these strings.
        guidance: gamma; above 1 it strengthens the feedback, at 0 it removes it.
        samples: number of continuations per prompt.
        seed: seed of sampling; it gives the same continuation in any batch.
        batch_size: rows per forward pass.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    guidance: float = 1.0
    samples: int = 1
    seed: int = 0
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name, valid, fits in (
            ("max_new_tokens", "1 or more", self.max_new_tokens >= 1),
            ("temperature", "0 or more", self.temperature >= 0),
            ("top_p", "above 0 and at most 1", 0 < self.top_p <= 1),
            ("top_k", "0 or more", self.top_k >= 0),
            ("guidance", "0 or more", self.guidance >= 0),
            ("samples", "1 or more", self.samples >= 1),
            ("batch_size", "1 or more", self.batch_size >= 1),
            ("stop", "strings that are not empty", all(self.stop)),
        ):
            if not fits:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not {valid}")
        if self.samples > 1 and not self.temperature:
            raise ConfigError(
                f"samples: {self.samples} greedy samples would all be the same; give a temperature"
            )


@dataclass(frozen=True)
class GenerationPrefix:
    """A row of tokens to continue.

    Attributes:
        told: the prompt with feedback.
        base: the prompt without feedback, used for guidance only.
        room: maximum number of generated tokens.
        seed: seed of sampling.
    """

    told: TokenIds
    base: TokenIds
    room: int
    seed: int = 0


@dataclass(frozen=True)
class Generated:
    """The generated tokens of a row without the end token, and the reason for its end."""

    ids: TokenIds
    ending: Ending


class _Branch:
    """Rows under one feedback, padded on the left, with the key-value cache of the past."""

    def __init__(self, model: Any, rows: Sequence[Sequence[int]], pad: int) -> None:
        self._model, self._cache = model, None
        longest = max(map(len, rows))
        padded = [[pad] * (longest - len(row)) + list(row) for row in rows]
        real = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        self._waiting = torch.tensor(padded, dtype=torch.long, device=model.device)
        self._mask = torch.tensor(real, dtype=torch.long, device=model.device)

    def feed(self, ids: Tensor | None) -> Tensor:
        """Return log-probabilities [B, V] of the token after `ids` [B, n] and all previous ids."""
        if ids is not None:
            self._waiting = torch.cat([self._waiting, ids], 1)
            self._mask = torch.cat([self._mask, torch.ones_like(ids)], 1)
        ids, self._waiting = self._waiting, self._waiting[:, :0]
        positions = (self._mask.cumsum(1) - 1).clamp_min(0)
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions[:, -ids.shape[1] :],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        return out.logits[:, -1].float().log_softmax(-1)  # type: ignore[no-any-return]


def guided(told: Tensor, base: Tensor, gamma: float) -> Tensor:
    """Return log-probabilities, not normalised: `base` at gamma 0, `told` at gamma 1."""
    return base + gamma * (told - base)


class GenerationBatch:
    """Rows that a model continues under feedback, with base rows for guidance."""

    def __init__(
        self,
        model: Any,
        told: Sequence[Sequence[int]],
        base: Sequence[Sequence[int]],
        *,
        gamma: float,
        banned: Sequence[int],
        pad: int,
    ) -> None:
        """Start the rows.

        Args:
            model: a Hugging Face causal language model, in evaluation mode.
            told: the prompts with feedback, of any lengths.
            base: the same prompts without feedback; used only if gamma is not 1.
            gamma: strength of guidance.
            banned: tokens that are never chosen.
            pad: the padding token.
        """
        self._gamma, self._banned = gamma, list(banned)
        self._told = _Branch(model, told, pad)
        self._base = None if gamma == 1 else _Branch(model, base, pad)

    def feed(self, ids: Tensor | None = None) -> Tensor:
        """Return scores [B, V] of the token after `ids` [B, n], given all previous ids."""
        scores = self._told.feed(ids)
        if self._base is not None:
            scores = guided(scores, self._base.feed(ids), self._gamma)
        scores[:, self._banned] = -torch.inf
        return scores


def pick(scores: Tensor, how: TokenSampling, draws: Callable[[], Tensor]) -> Tensor:
    """Return one token for each row of scores [B, V].

    Args:
        scores: log-probabilities, not necessarily normalised.
        how: greedy or sampled.
        draws: returns a random number from 0 to 1 for each row, float64[B].
    """
    if how.temperature == 0:
        return scores.argmax(-1)
    chances, order = (scores.double() / how.temperature).softmax(-1).sort(-1, descending=True)
    before = chances.cumsum(-1) - chances
    # The first token that exceeds the share still belongs to it.
    chances = chances * (before < how.top_p)
    if how.top_k:
        chances[:, how.top_k :] = 0
    up_to = chances.cumsum(-1)
    wanted = draws().to(up_to.device)[:, None] * up_to[:, -1:]
    place = torch.searchsorted(up_to, wanted, right=True)
    last = (chances > 0).sum(-1, keepdim=True) - 1
    return order.gather(-1, place.minimum(last))[:, 0]


@torch.inference_mode()
def write_all(
    model: Any, conditioner: Conditioner, begun: Sequence[GenerationPrefix], how: TokenSampling
) -> list[Generated]:
    """Continue rows until each has ended, reached a stop string or its maximum length.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        conditioner: knows the tokens that end a row and the banned tokens.
        begun: rows in any order; those of similar length share a batch.
        how: temperature, stop strings and so on.
    """
    written: dict[int, Generated] = {}
    # The longest rows first: a lack of memory shows immediately.
    order = sorted(range(len(begun)), key=lambda i: -len(begun[i].told))
    for start in range(0, len(order), how.batch_size):
        chunk = order[start : start + how.batch_size]
        rows = GenerationBatch(
            model,
            [begun[i].told for i in chunk],
            [begun[i].base for i in chunk],
            gamma=how.guidance,
            banned=conditioner.banned,
            pad=conditioner.tokenizer.pad_token_id,
        )
        came = _write(rows, conditioner, how, [begun[i] for i in chunk])
        written |= dict(zip(chunk, came, strict=True))
    return [written[i] for i in range(len(begun))]


def _write(
    rows: GenerationBatch,
    conditioner: Conditioner,
    how: TokenSampling,
    begun: Sequence[GenerationPrefix],
) -> list[Generated]:
    streams = [torch.Generator().manual_seed(row.seed) for row in begun]

    def draws() -> Tensor:
        return torch.stack([torch.rand((), generator=s, dtype=torch.float64) for s in streams])

    written: list[list[int]] = [[] for _ in begun]
    endings: list[Ending | None] = [None if row.room > 0 else "length" for row in begun]
    decode = conditioner.tokenizer.decode
    # A letter has at most 4 tokens: a stop string cannot start before the last of these.
    reach = 4 * max(map(len, how.stop), default=0)
    chosen = None
    while None in endings:
        chosen = pick(rows.feed(chosen), how, draws)[:, None]
        for i, token in enumerate(chosen[:, 0].tolist()):
            if endings[i] is not None:
                continue
            if token in conditioner.ends:
                endings[i] = "end"
                continue
            written[i].append(token)
            if how.stop and _holds(decode(written[i][-reach:]), how.stop):
                endings[i] = "stop"
            elif len(written[i]) >= begun[i].room:
                endings[i] = "length"
    return [Generated(tuple(ids), end) for ids, end in zip(written, endings, strict=True) if end]


@torch.inference_mode()
def likelihoods(
    model: Any,
    begun: Sequence[GenerationPrefix],
    continuations: Sequence[TokenIds],
    *,
    gamma: float,
    banned: Sequence[int],
    pad: int,
) -> list[tuple[float, bool]]:
    """Return each continuation's log-likelihood in nats, and whether it is the greedy choice.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        begun: the prefixes.
        continuations: one or more tokens each.
        gamma: strength of guidance; the guided distribution is normalised.
        banned: tokens that decoding never chooses.
        pad: the padding token.
    """
    scores = _scores(model, [row.told for row in begun], continuations, pad)
    if gamma != 1:
        base = _scores(model, [row.base for row in begun], continuations, pad)
        pairs = zip(scores, base, strict=True)
        scores = [guided(told, untold, gamma).log_softmax(-1) for told, untold in pairs]
    found = []
    for rows, ids in zip(scores, continuations, strict=True):
        tokens = torch.tensor(ids, device=rows.device)
        nats = float(rows.gather(1, tokens[:, None]).sum())
        rows[:, list(banned)] = -torch.inf
        found.append((nats, bool((rows.argmax(-1) == tokens).all())))
    return found


def _scores(
    model: Any, before: Sequence[TokenIds], after: Sequence[TokenIds], pad: int
) -> list[Tensor]:
    """Return log-probabilities [len(after), V] of each row at the tokens of `after`."""
    rows = [a + b for a, b in zip(before, after, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=model.device)
    logits = logits_of(model, {"input_ids": ids})
    return [
        logits[i, len(row) - len(own) - 1 : len(row) - 1].float().log_softmax(-1)
        for i, (row, own) in enumerate(zip(rows, after, strict=True))
    ]


def _holds(text: str, stop: Sequence[str]) -> bool:
    return any(string in text for string in stop)


def until(text: str, stop: Sequence[str]) -> str:
    """Return the text before its first stop string."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]
