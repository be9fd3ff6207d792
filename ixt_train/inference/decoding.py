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
        conditioned: the prompt with feedback.
        base: the prompt without feedback, used for guidance only.
        token_budget: maximum number of generated tokens.
        seed: seed of sampling.
    """

    conditioned: TokenIds
    base: TokenIds
    token_budget: int
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


def guide(conditioned: Tensor, base: Tensor, gamma: float) -> Tensor:
    """Return log-probabilities, not normalised: `base` at gamma 0, `conditioned` at gamma 1."""
    return base + gamma * (conditioned - base)


class GenerationBatch:
    """Rows that a model continues under feedback, with base rows for guidance."""

    def __init__(
        self,
        model: Any,
        conditioned: Sequence[Sequence[int]],
        base: Sequence[Sequence[int]],
        *,
        gamma: float,
        banned_tokens: Sequence[int],
        pad: int,
    ) -> None:
        """Start the rows.

        Args:
            model: a Hugging Face causal language model, in evaluation mode.
            conditioned: the prompts with feedback, of any lengths.
            base: the same prompts without feedback; used only if gamma is not 1.
            gamma: strength of guidance.
            banned_tokens: tokens that are never chosen.
            pad: the padding token.
        """
        self._gamma, self._banned = gamma, list(banned_tokens)
        self._conditioned = _Branch(model, conditioned, pad)
        self._base = None if gamma == 1 else _Branch(model, base, pad)

    def feed(self, ids: Tensor | None = None) -> Tensor:
        """Return scores [B, V] of the token after `ids` [B, n], given all previous ids."""
        scores = self._conditioned.feed(ids)
        if self._base is not None:
            scores = guide(scores, self._base.feed(ids), self._gamma)
        scores[:, self._banned] = -torch.inf
        return scores


def choose_tokens(scores: Tensor, sampling: TokenSampling, draws: Callable[[], Tensor]) -> Tensor:
    """Return one token for each row of scores [B, V].

    Args:
        scores: log-probabilities, not necessarily normalised.
        sampling: greedy or sampled.
        draws: returns a random number from 0 to 1 for each row, float64[B].
    """
    if sampling.temperature == 0:
        return scores.argmax(-1)
    probabilities, order = (
        (scores.double() / sampling.temperature).softmax(-1).sort(-1, descending=True)
    )
    prefix_ids = probabilities.cumsum(-1) - probabilities
    # The first token that exceeds the share still belongs to it.
    probabilities = probabilities * (prefix_ids < sampling.top_p)
    if sampling.top_k:
        probabilities[:, sampling.top_k :] = 0
    up_to = probabilities.cumsum(-1)
    thresholds = draws().to(up_to.device)[:, None] * up_to[:, -1:]
    indices = torch.searchsorted(up_to, thresholds, right=True)
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    return order.gather(-1, indices.minimum(last))[:, 0]


@torch.inference_mode()
def generate_all(
    model: Any,
    conditioner: Conditioner,
    prefixes: Sequence[GenerationPrefix],
    sampling: TokenSampling,
) -> list[Generated]:
    """Continue rows until each has ended, reached a stop string or its maximum length.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        conditioner: knows the tokens that end a row and the banned tokens.
        prefixes: rows in any order; those of similar length share a batch.
        sampling: temperature, stop strings and so on.
    """
    generated: dict[int, Generated] = {}
    # The longest rows first: a lack of memory shows immediately.
    order = sorted(range(len(prefixes)), key=lambda i: -len(prefixes[i].conditioned))
    for start in range(0, len(order), sampling.batch_size):
        chunk = order[start : start + sampling.batch_size]
        rows = GenerationBatch(
            model,
            [prefixes[i].conditioned for i in chunk],
            [prefixes[i].base for i in chunk],
            gamma=sampling.guidance,
            banned_tokens=conditioner.banned_tokens,
            pad=conditioner.tokenizer.pad_token_id,
        )
        batch = _generate_batch(rows, conditioner, sampling, [prefixes[i] for i in chunk])
        generated |= dict(zip(chunk, batch, strict=True))
    return [generated[i] for i in range(len(prefixes))]


def _generate_batch(
    rows: GenerationBatch,
    conditioner: Conditioner,
    sampling: TokenSampling,
    prefixes: Sequence[GenerationPrefix],
) -> list[Generated]:
    streams = [torch.Generator().manual_seed(row.seed) for row in prefixes]

    def draws() -> Tensor:
        return torch.stack([torch.rand((), generator=s, dtype=torch.float64) for s in streams])

    generated: list[list[int]] = [[] for _ in prefixes]
    endings: list[Ending | None] = [None if row.token_budget > 0 else "length" for row in prefixes]
    decode = conditioner.tokenizer.decode
    # A letter has at most 4 tokens: a stop string cannot start before the last of these.
    n_tail_tokens = 4 * max(map(len, sampling.stop), default=0)
    last_ids = None
    while None in endings:
        last_ids = choose_tokens(rows.feed(last_ids), sampling, draws)[:, None]
        for i, token in enumerate(last_ids[:, 0].tolist()):
            if endings[i] is not None:
                continue
            if token in conditioner.ends:
                endings[i] = "end"
                continue
            generated[i].append(token)
            if sampling.stop and _contains(decode(generated[i][-n_tail_tokens:]), sampling.stop):
                endings[i] = "stop"
            elif len(generated[i]) >= prefixes[i].token_budget:
                endings[i] = "length"
    return [Generated(tuple(ids), end) for ids, end in zip(generated, endings, strict=True) if end]


@torch.inference_mode()
def score_continuations(
    model: Any,
    prefixes: Sequence[GenerationPrefix],
    continuations: Sequence[TokenIds],
    *,
    gamma: float,
    banned_tokens: Sequence[int],
    pad: int,
) -> list[tuple[float, bool]]:
    """Return each continuation's log-likelihood in nats, and whether it is the greedy choice.

    Args:
        model: a Hugging Face causal language model, in evaluation mode.
        prefixes: the prefixes.
        continuations: one or more tokens each.
        gamma: strength of guidance; the guided distribution is normalised.
        banned_tokens: tokens that decoding never chooses.
        pad: the padding token.
    """
    scores = _scores(model, [row.conditioned for row in prefixes], continuations, pad)
    if gamma != 1:
        base = _scores(model, [row.base for row in prefixes], continuations, pad)
        pairs = zip(scores, base, strict=True)
        scores = [
            guide(conditioned, unconditioned, gamma).log_softmax(-1)
            for conditioned, unconditioned in pairs
        ]
    results = []
    for rows, ids in zip(scores, continuations, strict=True):
        tokens = torch.tensor(ids, device=rows.device)
        nats = float(rows.gather(1, tokens[:, None]).sum())
        rows[:, list(banned_tokens)] = -torch.inf
        results.append((nats, bool((rows.argmax(-1) == tokens).all())))
    return results


def _scores(
    model: Any, prefix_ids: Sequence[TokenIds], suffix_ids: Sequence[TokenIds], pad: int
) -> list[Tensor]:
    """Return log-probabilities [len(after), V] of each row at the tokens of `suffix_ids`."""
    rows = [a + b for a, b in zip(prefix_ids, suffix_ids, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=model.device)
    logits = logits_of(model, {"input_ids": ids})
    return [
        logits[i, len(row) - len(suffix) - 1 : len(row) - 1].float().log_softmax(-1)
        for i, (row, suffix) in enumerate(zip(rows, suffix_ids, strict=True))
    ]


def _contains(text: str, stop: Sequence[str]) -> bool:
    return any(string in text for string in stop)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return the text before its first stop string."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]
