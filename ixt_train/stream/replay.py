"""Replay: the batches of a past train run, recomputed from its plan and checked by its record."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ixt_data.errors import ConfigError, FingerprintError
from ixt_data.mix import Ints, load_mix, plan_mix
from ixt_data.records import format_id, parse_id
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner, build_conditioner, load_tokenizer
from ixt_train.config import load_train_config
from ixt_train.runs import (
    find_steps,
    observed_pairs,
    read_pairs,
    read_step_draws,
    run_folder,
    scope_of,
)
from ixt_train.stream.mix_stream import MixStream


class Replay:
    """The batches of one past train run."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        """Recompute the plan of the train run.

        Args:
            folder: run folder of the train run.
            store: root of the store; None uses the store that it trained from.

        Raises:
            ConfigError: the folder is not a complete run folder.
            FingerprintError: the recomputed plan differs.
        """
        self.folder = Path(folder)
        record = run_folder.read_json(self.folder / run_folder.PLAN)
        config = load_train_config(self.folder / run_folder.CONFIG)
        mix = load_mix(self.folder / run_folder.MIX)
        self.store = Store.open(store or config.store or mix.store)
        self.config, self.batch_size = config, config.global_batch_size
        self.pairs = read_pairs(self.folder, config)
        self.plan = plan_mix(
            mix,
            record["samples"],
            store=self.store,
            batch=self.batch_size,
            holdout=config.holdout,
            scope_of=scope_of(self.pairs),
        )
        if self.plan.digest != record["digest"]:
            raise FingerprintError(
                f"{self.folder}: its plan was {record['digest']} and would now be "
                f"{self.plan.digest}: the store is another one, or this version of ixt orders "
                "differently. Name the store that it trained from: --store"
            )

    def batch(self, step: int) -> dict[str, Any]:
        """Return the documents, critiques and tokens of one step, in the order of the plan.

        Raises:
            ConfigError: the train run has no such step.
            FingerprintError: the record of the train run names other documents.
        """
        draws = self._draws(step)
        tokenizer = load_tokenizer(self.folder / run_folder.TOKENIZER)
        observed = observed_pairs(run_folder.read_json(self.folder / run_folder.FEEDBACK))
        conditioner = build_conditioner(
            self.config, tokenizer, self.plan.mix.condition, observed, self.pairs
        )
        columns, tokenized = self._read(draws, None), self._read(draws, conditioner)
        samples = [
            {
                "doc_id": format_id(sample["doc_id"]),
                "text": sample["text"],
                "critique": sample["critique"],
                "score": sample["score"],
                "has_feedback": sample["has_feedback"],
                "input_ids": tokens["input_ids"].tolist(),
                **{key: tokens[key] for key in ("rejected", "worse_from") if key in tokens},
                **self._worse(sample["doc_id"]),
            }
            for sample, tokens in zip(columns, tokenized, strict=True)
        ]
        recorded = read_step_draws(self.folder, step)
        if recorded is not None and Counter(recorded) != Counter(s["doc_id"] for s in samples):
            raise FingerprintError(
                f"{self.folder}: the record of step {step} names other documents than its plan"
            )
        return {"step": step, "recorded": recorded is not None, "samples": samples}

    def _worse(self, doc_id: bytes) -> dict[str, Any]:
        """Return the id and the last message of the worse conversation of a pair."""
        if self.pairs is None:
            return {}
        worse_id, answer = self.pairs.worse(doc_id)
        return {"worse_id": format_id(worse_id), "worse_answer": answer}

    def document(self, doc_id: str) -> dict[str, Any]:
        """Return the recorded steps that drew a document, once per draw.

        Args:
            doc_id: its doc_id; or its first digits, or its source_id, in the snapshot of the plan.

        Raises:
            UnknownDocument: no document has this name.
            StoreError: several documents have it; the message lists them.
        """
        try:
            parsed_id = parse_id(doc_id)
        except ValueError:
            found = self.store.document(doc_id, at=self.plan.version)
            parsed_id = parse_id(found.row["doc_id"])
        return {"doc_id": format_id(parsed_id), "steps": find_steps(self.folder, parsed_id)}

    def _draws(self, step: int) -> Ints:
        steps = self.plan.samples // self.batch_size
        if not 1 <= step <= steps:
            raise ConfigError(f"--batch: {step} is not among the steps 1 to {steps:,}")
        epoch, offset = divmod((step - 1) * self.batch_size, self.plan.epoch_samples)
        return self.plan.order(epoch)[offset : offset + self.batch_size]

    def _read(self, draws: Ints, conditioner: Conditioner | None) -> list[dict[str, Any]]:
        with (
            tempfile.TemporaryDirectory() as local,
            MixStream(
                self.plan,
                conditioner,
                store=self.store.root,
                local=local,
                batch_size=self.batch_size,
            ) as stream,
        ):
            samples: list[dict[str, Any]] = stream[np.asarray(draws)]
            return samples
