"""Evaluation: held-out loss by score bucket and feedback, and tasks by exact match."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ixt_data.errors import ConfigError
from ixt_data.mix import Condition, Mix, held_out
from ixt_data.mix.scope import Scope
from ixt_data.model import Span
from ixt_data.store import Store
from ixt_train.conditioning import Choice, Conditioner, Encoded
from ixt_train.config import EvalConfig, load_mix_of, load_train_config
from ixt_train.models import logits_of, row_losses
from ixt_train.packing import Collator
from ixt_train.run_folder import CONFIG
from ixt_train.tasks import Problem, load_problems, solve
from ixt_train.tokenizer import control_tokens
from ixt_train.trained import Trained, pick_device

_CHOICES: dict[str, Choice] = {
    "best": "best",
    "worst": "worst",
    "none": "none",
    "observed": "given",
}
UNSCORED = "unscored"


@dataclass(frozen=True)
class HeldOut:
    """A document that training never saw, with its critique; the bucket is that of its score."""

    doc_id: bytes
    text: str
    bucket: str
    score: float | None = None
    critique: str = ""
    spans: tuple[Span, ...] = ()


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Names of the buckets between edges, as in 0.8-1."""
    return [f"{a:g}-{b:g}" for a, b in pairwise(edges)]


def held_out_documents(
    store: Store, mix: Mix, share: float, edges: Sequence[float], per_bucket: int
) -> list[HeldOut]:
    """Held-out documents of a mix's corpora, up to so many per bucket, evenly from the store.

    Args:
        store: where they are.
        mix: with its snapshot pinned; predicates of its selections do not matter here, and of
            several critics the first one scores.
        share: the share that was held out of training.
        edges: of the score buckets.
        per_bucket: documents per bucket; those without a score make a bucket of their own.
    """
    if not share or not per_bucket:
        return []
    with Scope(store, mix) as scope:
        critic = scope.critics[0]
        value = "critiques.score" if critic else "NULL::DOUBLE"
        found = scope.find("held out", held_out(share), value, critic)
        scores = found.values if found.values is not None else np.full(found.documents, np.nan)
        names = [*bucket_names(edges), UNSCORED]
        last = len(names) - 2
        bucket = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, last)
        bucket[np.isnan(scores)] = last + 1
        documents: list[HeldOut] = []
        for number, name in enumerate(names):
            places = found.numbers()[bucket == number]
            picks = np.linspace(0, len(places) - 1, min(per_bucket, len(places))).astype(int)
            documents += _read(store, scope, places[picks], name)
    return documents


def _read(store: Store, scope: Scope, places: Any, bucket: str) -> Iterator[HeldOut]:
    shard_of = np.searchsorted(scope.starts, places, "right") - 1
    for number in np.unique(shard_of):
        info = scope.shards[number]
        rows = (places[shard_of == number] - scope.starts[number]).tolist()
        text = list(store.shard(info).rows(("doc_id", "text")))
        aligned = scope.critiques_of(info, scope.critics[0])
        critiques = list(store.shard(aligned).rows()) if aligned else [{}] * len(text)
        for row in rows:
            yield _document(text[row], critiques[row], bucket)


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
    """Measures a model again and again on the same documents and problems, tokenized once."""

    def __init__(
        self,
        conditioner: Conditioner,
        config: EvalConfig,
        documents: Sequence[HeldOut],
        max_length: int,
    ) -> None:
        """Tokenizes everything.

        Args:
            conditioner: as in training.
            config: what to measure.
            documents: held-out documents.
            max_length: longer samples are cut, so that under every feedback the loss is about
                the same tokens of the document.

        Raises:
            ConfigError: a task cannot be read.
        """
        self._batch_size = config.batch_size
        self._banned = control_tokens(conditioner.tokenizer)
        self._collate = Collator(conditioner.tokenizer.pad_token_id, max_length)
        self._losses = {
            name: _encode(conditioner, documents, _CHOICES[name])
            for name in config.feedback
            if documents and _has(conditioner.condition, name)
        }
        _cut_alike(list(self._losses.values()), max_length)
        self._buckets = [document.bucket for document in documents]
        self._banned_in_tasks = [*self._banned, conditioner.tokenizer.eos_token_id]
        self._tasks: dict[str, list[Problem]] = {
            task.name: load_problems(task, conditioner) for task in config.tasks
        }

    def measure(self, model: Any) -> dict[str, Any]:
        """Figures of a model in evaluation mode; parts without documents or tasks are left out.

        `loss`: by feedback and bucket (`all`: over all of them), in nats per token of the document.
        `tasks`: share of problems with every answer right.
        """
        figures: dict[str, Any] = {}
        if self._losses:
            figures["loss"] = {n: self._bucket_losses(model, s) for n, s in self._losses.items()}
        if self._tasks:
            figures["tasks"] = {
                name: float(np.mean(solve(model, problems, self._banned_in_tasks)))
                for name, problems in self._tasks.items()
                if problems
            }
        return figures

    @torch.inference_mode()
    def _bucket_losses(self, model: Any, samples: list[dict[str, Any]]) -> dict[str, float]:
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        # Rows of like length go together, so that little of a batch is padding.
        order = sorted(range(len(samples)), key=lambda i: len(samples[i]["input_ids"]))
        for begin in range(0, len(order), self._batch_size):
            chosen = order[begin : begin + self._batch_size]
            batch = self._collate([samples[i] for i in chosen])
            ids = batch["input_ids"].to(model.device)
            logits = logits_of(model, {"input_ids": ids})
            rows = row_losses(logits, ids, batch["loss_weights"].to(model.device))
            for i, loss, weight in zip(chosen, *(part.tolist() for part in rows), strict=True):
                for bucket in (self._buckets[i], "all"):
                    sums[bucket][0] += loss
                    sums[bucket][1] += weight
        return {name: loss / weight for name, (loss, weight) in sorted(sums.items()) if weight}


def _has(condition: Condition, feedback: str) -> bool:
    """Whether a model of this condition can tell this feedback from none."""
    if condition.kind == "none":
        return feedback == "none"
    return condition.kind != "spans" or feedback in ("none", "observed")


def _encode(
    conditioner: Conditioner, documents: Sequence[HeldOut], choice: Choice
) -> list[dict[str, Any]]:
    """Samples whose loss counts the document's own tokens, each once."""
    even = {"loss_on_prefix": 0.0, "loss_by_verdict": {}}
    asking = conditioner.with_condition(conditioner.condition.model_copy(update=even))
    tokenizer = conditioner.tokenizer
    control = np.array([*control_tokens(tokenizer), tokenizer.eos_token_id])
    samples = []
    for document in documents:
        encoded = asking.encode(
            document.text, document.critique, document.score, document.spans, feedback=choice
        )
        samples.append(_sample(document, encoded, control))
    return samples


def _sample(document: HeldOut, encoded: Encoded, control: Any) -> dict[str, Any]:
    weights = np.where(np.isin(encoded.input_ids, control), 0, encoded.loss_weights)
    return {
        "input_ids": encoded.input_ids,
        "loss_weights": weights.astype(np.float32),
        "doc_id": document.doc_id,
    }


def _cut_alike(by_feedback: Sequence[Sequence[dict[str, Any]]], max_length: int) -> None:
    """Counts of each document only the tokens that fit under the longest feedback."""
    for samples in zip(*by_feedback, strict=True):
        counted = [np.flatnonzero(sample["loss_weights"]) for sample in samples]
        fit = min(int(np.searchsorted(places, max_length)) for places in counted)
        for sample, places in zip(samples, counted, strict=True):
            sample["loss_weights"][places[fit:]] = 0.0


def evaluate_trained(
    trained: Trained, store: str | Path | None = None, config: str | Path | None = None
) -> dict[str, Any]:
    """Measures a trained model as its train run did, or as another config says.

    Args:
        trained: the model.
        store: where the held-out documents are; by default where the train run had them.
        config: a train config whose mix, holdout and eval part count; an exported model needs one.

    Raises:
        ConfigError: an exported model without a config.
    """
    if config is None and trained.run is None:
        raise ConfigError("an exported model does not say what to measure; name a train config")
    path = Path(config) if config is not None else _own_config(trained)
    settings = load_train_config(path)
    mix = load_mix_of(settings)
    opened = Store.open(store or settings.store or mix.store)
    documents = held_out_documents(
        opened, mix, settings.holdout, settings.eval.buckets, settings.eval.samples
    )
    evaluator = Evaluator(trained.conditioner, settings.eval, documents, settings.max_length)
    figures = evaluator.measure(trained.model.to(pick_device()))
    return {"step": trained.step, "documents": len(documents), **figures}


def _own_config(trained: Trained) -> Path:
    assert trained.run is not None
    return trained.run / CONFIG
