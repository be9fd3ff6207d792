"""The stream feeds trainers that know nothing of it."""

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from critiqued import critiqued_store, words_tokenizer
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_data.mix import Mix, plan_mix
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.inference.model import weighted_loss
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.packing import Collator, document_mask

READ = ("input_ids", "labels", "attention_mask", "position_ids")


@pytest.fixture
def tokenizer():
    return words_tokenizer()


@pytest.fixture
def model(tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture
def samples(tmp_path: Path, tmp_path_factory, tokenizer, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))
    store = critiqued_store(tmp_path / "store", 100)
    mix = Mix(critic="numbers")
    plan = plan_mix(mix, 64, store=store, batch=16)
    conditioner = Conditioner(tokenizer, mix.condition)
    with MixStream(
        plan, conditioner, store=store.root, local=tmp_path / "l", batch_size=16
    ) as stream:
        yield stream


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def test_plain_loop_reads_the_stream(samples, model, tokenizer):
    collate = Collator(tokenizer.pad_token_id, 32, "best_fit", separate_documents=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = weights(model)
    batch = next(iter(DataLoader(samples, batch_size=16, collate_fn=collate)))
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits
    total, weight = weighted_loss(logits, batch["input_ids"], batch["loss_weights"])
    (total / weight).backward()
    optimizer.step()
    assert (weights(model) != before).any()


def test_packed_documents_do_not_attend_to_each_other(samples, model, tokenizer):
    model.eval()
    collate = Collator(tokenizer.pad_token_id, 64, "best_fit", separate_documents=True)
    some = [sample for _, sample in zip(range(8), samples, strict=False)]
    packed = collate(some)
    mask = document_mask(packed)
    with torch.no_grad():
        by_places = model(
            input_ids=packed["input_ids"], position_ids=packed["position_ids"], use_cache=False
        ).logits
        by_mask = model(
            input_ids=packed["input_ids"],
            position_ids=packed["position_ids"],
            attention_mask=torch.where(mask, 0.0, torch.finfo(torch.float32).min),
        ).logits
        alone = [
            model(input_ids=torch.from_numpy(sample["input_ids"]).long()[None]).logits[0]
            for sample in some
        ]
    kept = packed["attention_mask"] > 0
    torch.testing.assert_close(by_places[kept], by_mask[kept], atol=1e-5, rtol=1e-4)
    expected = sorted(logits.sum().item() for logits in alone)
    parts = []
    for row, places, own in zip(by_places, packed["position_ids"], kept, strict=True):
        begins = [i for i in range(int(own.sum())) if places[i] == 0] + [int(own.sum())]
        parts += [row[a:b].sum().item() for a, b in pairwise(begins)]
    assert sorted(parts) == pytest.approx(expected, abs=1e-3)


def test_hugging_face_trainer_reads_the_stream(samples, model, tokenizer, tmp_path):
    from transformers import Trainer, TrainingArguments

    collate = Collator(tokenizer.pad_token_id, 32)

    def read(some):
        batch = collate(some)
        return {key: batch[key] for key in READ if key in batch}

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=16,
        remove_unused_columns=False, report_to=[], use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    before = weights(model)
    result = Trainer(model, arguments, train_dataset=samples, data_collator=read).train()
    assert result.global_step == 1
    assert (weights(model) != before).any()
