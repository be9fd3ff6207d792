"""Low-rank adapters: trained alone, resumed exactly, merged wherever the model is used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import Stopped, Tree, crash_at, losses, run
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_data.errors import ConfigError
from ixt_train.config.lora_config import LoraConfig
from ixt_train.inference.adapters import ADAPTERS, save_adapters, with_adapters
from ixt_train.inference.loaded_model import load_model
from ixt_train.inference.model import model_like
from ixt_train.inference.model_export import export_model
from ixt_train.runs.checkpoints import load_weights, newest_checkpoint, read_checkpoint

LORA: Tree = {"rank": 4, "alpha": 8}
TINY = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip


@pytest.fixture
def adapted(config_tree: Tree, tmp_path: Path) -> Tree:
    """The config of a midtrain run with adapters, from a short pretraining."""
    first = run(config_tree, run_folder=str(tmp_path / "first"), duration="4ba")
    tree = {k: v for k, v in config_tree.items() if k not in ("model", "tokenizer")}
    return tree | {
        "stage": "midtrain",
        "start": {"checkpoint": first.run_folder},
        "lora": LORA,
        "duration": "8ba",
    }


def weights_of(folder: str) -> dict[str, Any]:
    latest = newest_checkpoint(Path(folder))
    assert latest is not None
    return dict(read_checkpoint(latest)["state"]["model"])


def test_only_adapters_and_control_tokens_change(adapted: Tree, tmp_path: Path) -> None:
    result = run(adapted)
    before = load_model(tmp_path / "first").model.state_dict()
    after = weights_of(result.run_folder)
    frozen = [name for name in after if "lora_" not in name and "token_adapter" not in name]
    kept = {name: name.replace(".base_layer", "").removeprefix("model.") for name in frozen}
    assert len(kept) > 10
    for name, old in kept.items():
        assert torch.equal(after[name], before[old]), name
    changed = [name for name, value in after.items() if "lora_B" in name and value.any()]
    # Seven layers of each block.
    assert len(changed) % 7 == 0
    assert changed
    assert result.losses["train"] < losses(result.run_folder)[0]


def test_resume_is_exact_and_the_model_is_merged(
    adapted: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(adapted, run_folder=str(tmp_path / "whole"))
    with monkeypatch.context() as crash:
        crash_at(6, crash)
        with pytest.raises(Stopped):
            run(adapted)
    result = run(adapted)
    assert losses(result.run_folder) == losses(whole.run_folder)
    loaded = load_model(result.run_folder)
    assert not any("lora" in name for name in loaded.model.state_dict())
    out = tmp_path / "out"
    export_model(loaded, out)
    exported = load_model(out).model
    ids = torch.arange(5, 15)[None]
    with torch.inference_mode():
        torch.testing.assert_close(exported(ids).logits, loaded.model(ids).logits)
    assert not (out / ADAPTERS).exists()


def test_adapters_start_from_a_run_with_adapters(adapted: Tree, tmp_path: Path) -> None:
    second = run(adapted)
    third = adapted | {"start": {"checkpoint": second.run_folder}, "duration": "4ba"}
    result = run(third, run_folder=str(tmp_path / "third"))
    # It starts where the second run ended.
    assert losses(result.run_folder)[0] < losses(second.run_folder)[0]
    # Without adapters, the next stage trains every weight.
    full = run({k: v for k, v in third.items() if k != "lora"}, run_folder=str(tmp_path / "full"))
    before, after = load_model(second.run_folder).model, load_model(full.run_folder).model
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert not torch.equal(old, new), name
    start = {"checkpoint": second.run_folder, "optimizer": "keep"}
    plain = {k: v for k, v in third.items() if k != "lora"} | {"start": start}
    with pytest.raises(ConfigError, match="moments of adapters"):
        run(plain, run_folder=str(tmp_path / "fourth"))


def test_stage_without_adapters_trains_the_merged_weights(adapted: Tree, tmp_path: Path) -> None:
    second = run(adapted, duration="2ba")
    merged = {k: v for k, v in adapted.items() if k != "lora"}
    merged |= {"start": {"checkpoint": second.run_folder}, "duration": "2ba"}
    result = run(merged, run_folder=str(tmp_path / "third"))
    before = load_model(second.run_folder).model.state_dict()
    after = load_model(result.run_folder).model.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_bias_of_the_head_stays(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "phi", vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    ids = torch.arange(10)[None]
    expected = model(ids).logits
    save_adapters(tmp_path, LoraConfig(), [1, 2])
    torch.testing.assert_close(with_adapters(model, tmp_path)(ids).logits, expected)


@pytest.mark.parametrize(
    "family",
    [
        # Conv1D layers, whose weights are transposed, and an output tied to the embeddings.
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2},
        {**TINY, "tie_word_embeddings": True},
    ],
)
def test_exported_model_has_the_logits_of_the_adapted_one(
    config_tree: Tree, tmp_path: Path, family: Tree
) -> None:
    tree = config_tree | {"model": {"config": family}, "eval": {"samples": 0}, "ema": None}
    first = run(tree, run_folder=str(tmp_path / "first"), duration="2ba")
    del tree["model"], tree["tokenizer"]
    tree |= {"stage": "midtrain", "start": {"checkpoint": first.run_folder}, "lora": LORA}
    result = run(tree, optimizer={"lr": 3e-2})
    assert losses(result.run_folder)[-1] < losses(result.run_folder)[0]
    folder = Path(result.run_folder)
    adapted = with_adapters(model_like(folder / "model"), folder / "model")
    load_weights(adapted, read_checkpoint(Path(result.checkpoint)), True)
    export_model(load_model(folder), tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert exported.get_output_embeddings().weight is exported.get_input_embeddings().weight
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        logits = adapted.eval()(ids).logits
        before = load_model(first.run_folder).model(ids).logits
        torch.testing.assert_close(exported(ids).logits, logits, atol=1e-5, rtol=1e-4)
    assert (logits - before).abs().max() > 0.05


def test_adapters_work_with_chunked_loss_and_packed_documents(adapted: Tree) -> None:
    packed = {"packing": "best_fit", "attention": "document", "cross_entropy": "chunked"}
    result = run(adapted | packed, duration="2ba")
    assert result.steps == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": None, "stage": "pretrain"}, "adapters need a trained model"),
        ({"lora": {"targets": ["no_such"]}}, r"no layer no_such; it has .*down_proj.*q_proj"),
        ({"lora": {"targets": ["q_proj", "no_such"]}}, "lora.targets: the model has no layer"),
        ({"lora": {"targets": ["lm_head"]}}, "lm_head is an embedding"),
        ({"lora": {"targets": ["embed_tokens"]}}, "embed_tokens is an embedding"),
        ({"lora": {"targets": ["norm"]}}, "RMSNorm.* is not supported"),
        ({"fsdp": {"version": 2}}, "remove fsdp"),
        (
            {"lora": {"load_in_4bit": True}},
            r"load_in_4bit: .*QLoRA.* need a GPU and .*bitsandbytes",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(
    adapted: Tree, config_tree: Tree, changes: Tree, message: str
) -> None:
    tree = adapted | changes
    if tree["start"] is None:
        tree |= {key: config_tree[key] for key in ("model", "tokenizer")}
    with pytest.raises(ConfigError, match=message):
        run(tree)
