"""Evaluation: held-out loss by score bucket and feedback, the effect of feedback, and tasks."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, Scope, critics_in, held_out_predicate
from ixt_data.records import Span
from ixt_data.store import Store
from ixt_train.conditioning import Choice, Conditioner
from ixt_train.config import EvalConfig, TaskConfig, load_run_mix, load_train_config
from ixt_train.evaluation.held_out_samples import (
    HeldOut,
    accepted_samples,
    distinguishes,
    encode_held_out,
    equalize_tokens,
)
from ixt_train.evaluation.lockstep import in_lockstep
from ixt_train.evaluation.tasks import Task, load_task
from ixt_train.inference import LoadedModel, logits_of, pick_device, row_losses
from ixt_train.runs import CONFIG, read_pairs, scope_of
from ixt_train.stream import (
    Collator,
    World,
    gather_from_all_ranks,
    is_distributed,
    run_on_all_ranks,
)

Floats = npt.NDArray[np.float64]
_CHOICES: dict[str, Choice] = {
    "best": "best",
    "worst": "worst",
    "none": "none",
    "observed": "given",
}
UNSCORED, ALL = "unscored", "all"


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the buckets between edges, such as 0.8-1."""
    return [f"{a:g}-{b:g}" for a, b in pairwise(edges)]


def held_out_documents(
    store: Store,
    mix: Mix,
    share: float,
    edges: Sequence[float],
    per_bucket: int,
    scope: Callable[[Store, Mix], Scope] = Scope,
) -> list[HeldOut]:
    """Select held-out documents of a mix's corpora, spread evenly, with a maximum per bucket.

    Args:
        store: the mix's store.
        mix: a mix with a pinned snapshot. Its selections do not matter here, and the first of
            several critics gives the score.
        share: share of documents that was held out of training.
        edges: edges of the score buckets.
        per_bucket: maximum documents per bucket; documents without a score are a separate bucket.
        scope: constructor of the scope of the documents.
    """
    if not share or not per_bucket:
        return []
    with scope(store, mix) as opened:
        critic = opened.mix.critics[0]
        value = "critiques.score" if critic else "NULL::DOUBLE"
        matches = opened.find("held out", held_out_predicate(share), value, critic)
        scores = (
            matches.values if matches.values is not None else np.full(matches.documents, np.nan)
        )
        names = [*bucket_names(edges), UNSCORED]
        last = len(names) - 2
        bucket = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, last)
        bucket[np.isnan(scores)] = last + 1
        documents: list[HeldOut] = []
        for number, name in enumerate(names):
            positions = matches.numbers()[bucket == number]
            picks = np.linspace(0, len(positions) - 1, min(per_bucket, len(positions))).astype(int)
            ranks = None if matches.ranks is None else matches.ranks[bucket == number][picks]
            documents += _read(store, opened, positions[picks], ranks, name)
    return documents


def empty_holdout(share: float, per_bucket: int) -> str:
    """Return why `held_out_documents` selected no document, for a message."""
    if not per_bucket:
        return "the number of held-out documents per bucket (eval.samples) is 0"
    if not share:
        return "holdout is 0"
    return f"holdout {share:g} holds out no document of a corpus this small; use a larger share"


def _read(store: Store, scope: Scope, positions: Any, ranks: Any, bucket: str) -> Iterator[HeldOut]:
    order = critics_in(scope.mix.critics[0])
    ranks = np.zeros(len(positions), np.uint8) if ranks is None else ranks
    shard_of = np.searchsorted(scope.starts, positions, "right") - 1
    for number in np.unique(shard_of):
        info = scope.shards[number]
        is_here = shard_of == number
        rows = (positions[is_here] - scope.starts[number]).tolist()
        text = list(store.shard(info).rows(("doc_id", "text")))
        critiques = []
        for critic in order:
            aligned = scope.critiques_of(info, critic)
            critiques.append(list(store.shard(aligned).rows()) if aligned else [{}] * len(text))
        for row, rank in zip(rows, ranks[is_here].tolist(), strict=True):
            yield _document(text[row], critiques[rank][row], bucket)


def _document(text: dict[str, Any], critique: dict[str, Any], bucket: str) -> HeldOut:
    score = critique.get("score", float("nan"))
    return HeldOut(
        doc_id=text["doc_id"],
        text=text["text"],
        bucket=bucket,
        score=None if np.isnan(score) else float(score),
        critique=critique.get("critique", ""),
        spans=tuple(Span(*span) for span in critique.get("spans") or ()),
    )


class Evaluator:
    """A repeated measurement of a model on the same documents and problems, tokenized once.

    Attributes:
        rejected: number of held-out conversations that the chat template rejects. They are left
            out.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        config: EvalConfig,
        documents: Sequence[HeldOut],
        max_length: int,
    ) -> None:
        """Tokenize documents and problems.

        Args:
            conditioner: the conditioner of training.
            config: the evaluation settings.
            documents: held-out documents.
            max_length: longer samples are cut. Under every feedback the loss then covers the same
                tokens of the document.

        Raises:
            ConfigError: a task cannot be read.
        """
        self._batch_size = config.batch_size
        self._collate = Collator(conditioner.tokenizer.pad_token_id, max_length)
        samples = {
            name: encode_held_out(conditioner, documents, _CHOICES[name])
            for name in config.feedback
            if documents and distinguishes(conditioner.condition, name)
        }
        accepted = accepted_samples(list(samples.values()))
        self.rejected = len(documents) - len(accepted) if samples else 0
        self._samples = {name: [own[i] for i in accepted] for name, own in samples.items()}
        equalize_tokens(list(self._samples.values()), max_length)
        names = [documents[i].bucket for i in accepted]
        order = [*bucket_names(config.buckets), UNSCORED]
        self._buckets = {
            name: np.array([i for i, own in enumerate(names) if own == name])
            for name in sorted(set(names), key=order.index)
        }
        self._buckets[ALL] = np.arange(len(names))
        self._conditioner = conditioner
        self._tasks: list[Task] = [load_task(task, conditioner) for task in config.tasks]

    def documents(self) -> dict[str, int]:
        """Return the number of held-out documents by bucket."""
        return {bucket: len(at) for bucket, at in self._buckets.items()}

    def has_tokens(self) -> bool:
        """Return whether a held-out document has a token that counts."""
        own = next(iter(self._samples.values()), [])
        return any(sample["loss_weights"].any() for sample in own)

    def measure(self, model: Any, sharded: bool = False) -> dict[str, Any]:
        """Measure a model in evaluation mode; skip parts without documents or tasks.

        The ranks of a job call this together. Each one measures its part of the documents and
        problems, and all return the same metrics.

        Args:
            model: a Hugging Face causal language model, or its FSDP wrapper.
            sharded: whether each rank has a part of the weights.

        Returns:
            `loss`: by feedback and bucket (`all`: all buckets), in nats per token of the document.
            `feedback_gain`: likewise, the reduction of the loss by feedback; see `feedback_gain`.
            `tasks`: share of problems with every answer right.
        """
        parts = gather_from_all_ranks(
            run_on_all_ranks(lambda: self._measure_own_part(model, sharded))
        )
        losses: dict[str, Floats] = {
            name: np.sum([part[0][name] for part in parts], 0) for name in self._samples
        }
        return self._metrics(losses, {k: sum(part[1][k] for part in parts) for k in parts[0][1]})

    def _measure_own_part(
        self, model: Any, sharded: bool
    ) -> tuple[dict[str, Floats], dict[str, int]]:
        """Measure every n-th batch of documents and problem, of n ranks.

        Returns:
            By feedback, nats and tokens of each document, float64[2, N], 0 for those of others;
            and by task, the number of right problems.
        """
        world = World.detect() if is_distributed() else World()
        with in_lockstep(model) if sharded else nullcontext(model) as shared:
            losses: dict[str, Floats] = {
                name: self._losses(shared, rows, world) for name, rows in self._samples.items()
            }
            return losses, {
                task.name: sum(task.part(world.rank, world.size).solve(shared, self._conditioner))
                for task in self._tasks
            }

    def _metrics(self, losses: dict[str, Floats], right: dict[str, int]) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        if self._samples:
            metrics["loss"] = {
                feedback: {
                    bucket: float(nats[at].sum() / tokens[at].sum())
                    for bucket, at in self._nonempty_buckets(tokens)
                }
                for feedback, (nats, tokens) in losses.items()
            }
            unconditioned = losses["none"][0] if "none" in losses else None
            conditioned = {name: own for name, own in losses.items() if name != "none"}
            if unconditioned is not None and conditioned:
                metrics["feedback_gain"] = {
                    feedback: {
                        bucket: feedback_gain(unconditioned[at], nats[at], tokens[at])
                        for bucket, at in self._nonempty_buckets(tokens)
                    }
                    for feedback, (nats, tokens) in conditioned.items()
                }
        if self._tasks:
            metrics["tasks"] = {t.name: right[t.name] / len(t.items) for t in self._tasks}
        return metrics

    def _nonempty_buckets(self, tokens: Floats) -> Iterator[tuple[str, Any]]:
        """Yield buckets that have tokens to count, and the numbers of their documents."""
        return ((name, at) for name, at in self._buckets.items() if tokens[at].any())

    @torch.inference_mode()
    def _losses(self, model: Any, samples: list[dict[str, Any]], world: World) -> Floats:
        """Return the sum of token losses in nats, and the number of tokens, of each document."""
        sums = np.zeros((2, len(samples)))
        # Rows of similar length share a batch, to keep padding small.
        order = sorted(range(len(samples)), key=lambda i: len(samples[i]["input_ids"]))
        starts = range(0, len(order), self._batch_size)
        for start in starts[world.rank :: world.size]:
            batch_indices = order[start : start + self._batch_size]
            batch = self._collate([samples[i] for i in batch_indices])
            ids = batch["input_ids"].to(model.device)
            logits = logits_of(model, {"input_ids": ids})
            rows = row_losses(logits, ids, batch["loss_weights"].to(model.device))
            sums[:, batch_indices] = torch.stack(rows).cpu().numpy()
        return sums


def feedback_gain(
    unconditioned: Floats, conditioned: Floats, tokens: Floats
) -> dict[str, float | None]:
    """Return how much feedback lowers the loss, in nats per token; negative if it raises it.

    The standard error is that of a ratio of sums over documents (Cochran, Sampling Techniques,
    section 6.4): tokens of one document are not independent. It is None for a single document.

    Args:
        unconditioned: nats of each document without feedback, float64[N].
        conditioned: nats of each document with feedback, float64[N].
        tokens: tokens of each document, float64[N].
    """
    differences, n = unconditioned - conditioned, len(tokens)
    mean = differences.sum() / tokens.sum()
    spread = float(((differences - mean * tokens) ** 2).sum())
    error = math.sqrt(spread * n / (n - 1)) / tokens.sum() if n > 1 else None
    return {"gain": float(mean), "standard_error": None if error is None else float(error)}


def evaluate(
    loaded: LoadedModel,
    store: str | Path | None = None,
    config: str | Path | None = None,
    samples: int | None = None,
) -> dict[str, Any]:
    """Evaluate a trained model as its train run did, or by another train config.

    Args:
        loaded: the model.
        store: root of the store; by default the store of the train run.
        config: a train config with another mix, holdout and eval; an exported model needs one.
        samples: held-out documents per bucket; by default the config's `eval.samples`.

    Returns:
        `step`, `documents` (their number by bucket), `rejected` (conversations that the chat
        template rejects, which are left out), `loss` and `feedback_gain` as
        `Evaluator.measure` returns them, and `tasks` as `solve_tasks` returns them.
        Losses are in nats per token.

    Raises:
        ConfigError: the model is an exported one, and the config is missing; or no document is held
            out, or the chat template rejects all of them, and the config has no task.
        StoreError: the store or the snapshot does not exist.

    Examples:
        >>> metrics = evaluate(load_model(run), samples=2)
        >>> sorted(metrics)
        ['documents', 'feedback_gain', 'loss', 'rejected', 'step', 'tasks']
        >>> sorted(metrics["loss"])
        ['best', 'none', 'observed', 'worst']
    """
    if config is None and loaded.run is None:
        raise ConfigError(
            "an exported model does not define what to measure; name a train config (--config), "
            "a task (--task) or a task of lm-evaluation-harness (--lm-eval)"
        )
    path = Path(config) if config is not None else _run_config(loaded)
    settings = load_train_config(path)
    mix = load_run_mix(settings)
    opened_store = Store.open(store or settings.store or mix.store)
    eval_config = (
        settings.eval if samples is None else settings.eval.model_copy(update={"samples": samples})
    )
    pairs = None if loaded.run is None or config else read_pairs(loaded.run, settings)
    documents = held_out_documents(
        opened_store,
        mix,
        settings.holdout,
        eval_config.buckets,
        eval_config.samples,
        scope_of(pairs),
    )
    if not documents and not eval_config.tasks:
        raise ConfigError(
            f"nothing to measure: {empty_holdout(settings.holdout, eval_config.samples)}. "
            "Change the train config and train again, or give --task or --lm-eval"
        )
    losses = eval_config.model_copy(update={"tasks": ()})
    evaluator = Evaluator(loaded.conditioner, losses, documents, settings.max_length)
    if evaluator.rejected == len(documents) and not eval_config.tasks:
        raise ConfigError(
            f"nothing to measure: the chat template rejects all {len(documents)} held-out "
            "conversations"
        )
    metrics = evaluator.measure(loaded.model.to(pick_device()))
    return {
        "step": loaded.step,
        "documents": evaluator.documents(),
        "rejected": evaluator.rejected,
        **metrics,
        "tasks": solve_tasks(loaded, eval_config.tasks),
    }


def solve_tasks(loaded: LoadedModel, tasks: Iterable[TaskConfig]) -> list[dict[str, Any]]:
    """Solve tasks; return one row per task: share of right items and its standard error.

    Raises:
        ConfigError: a task cannot be read.
    """
    model = loaded.model.to(pick_device())
    rows = []
    for task in tasks:
        is_right = load_task(task, loaded.conditioner).solve(model, loaded.conditioner)
        share = float(np.mean(is_right))
        rows.append(
            {
                "task": task.name,
                "feedback": task.feedback,
                "guidance": task.guidance,
                "problems": len(is_right),
                "exact_match": share,
                "standard_error": math.sqrt(share * (1 - share) / len(is_right)),
            }
        )
    return rows


def _run_config(loaded: LoadedModel) -> Path:
    assert loaded.run is not None
    return loaded.run / CONFIG
