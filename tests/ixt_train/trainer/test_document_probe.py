"""Packed documents do not see each other, in any family of models, or the family is refused."""

import re
from pathlib import Path

import pytest
import torch
import transformers
from model_families import FAMILIES, tiny_model
from train_runs import Stopped, Tree, crash_at, run

from ixt_data.errors import ConfigError
from ixt_train.inference.document_attention import document_masks
from ixt_train.inference.loaded_model import load_model
from ixt_train.inference.model import logits_of
from ixt_train.trainer import training
from ixt_train.trainer.document_probe import separate_documents
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.warm_start import WarmStart

DOCS = Path(__file__).parents[3] / "docs" / "training.md"
ROWS = {"position ids": ("positions",), "a mask of ixt": ("layers", "boolean", "additive", "ones")}

COMMON = (
    "bloom falcon gemma3_text gpt2 gpt_neox gpt_oss llama mamba mistral mixtral mpt olmo2 opt "
    "qwen2 qwen2_moe qwen3 smollm3"
).split()


def packed_error(model: LanguageModel) -> float:
    """How much a document behind two others differs from itself alone."""
    sizes, torch_ids = (5, 11, 9), torch.arange(5, 30)[None]
    batch = {
        "input_ids": torch_ids,
        "position_ids": torch.cat([torch.arange(n) for n in sizes])[None],
        "attention_mask": torch.ones_like(torch_ids),
    }
    model.eval()
    with torch.no_grad():
        packed = model(batch)[0, 5:16]
        alone = logits_of(model.model, {"input_ids": torch_ids[:, 5:16]})[0]
    return float((packed - alone).abs().max() / alone.abs().max())


def test_family_separates_documents_or_is_refused() -> None:
    text = DOCS.read_text()
    (version,) = re.findall(r"Families of transformers (\S+),", text)
    is_documented = transformers.__version__ == version
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.M))
    found: dict[str, list[str]] = {name: [] for name in [*ROWS, "refused"]}
    # Of another version, the small configs of some families do not fit, or give large models.
    for family in FAMILIES if is_documented else COMMON:
        model = LanguageModel(tiny_model(family))
        try:
            kind = separate_documents(model, 32)
        except ConfigError:
            found["refused"].append(family)
            continue
        assert packed_error(model) < 1e-5, family
        found[next(name for name, kinds in ROWS.items() if kind in kinds)].append(family)
    if is_documented:
        assert {name: rows[name].split(", ") for name in found} == found


@pytest.mark.parametrize("family", ["falcon", "opt", "mpt"])
def test_position_ids_alone_do_not_separate_documents(family: str) -> None:
    """The fault that the trial is for: the model takes them, and its documents see each other."""
    model = LanguageModel(tiny_model(family))
    assert document_masks(model.model)[0] == "positions"
    assert packed_error(model) > 0.01


def test_mask_of_a_model_with_windows_keeps_its_windows() -> None:
    model = LanguageModel(tiny_model("gpt_oss", sliding_window=4))
    assert separate_documents(model, 32) == "layers"
    assert packed_error(model) < 1e-5
    # One mask for all layers would lose the window.
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    model = LanguageModel(tiny_model("qwen2_moe", **windows))
    try:
        separate_documents(model, 32)
    except ConfigError:
        return
    # Newer versions of transformers separate its documents by position ids.
    assert packed_error(model) < 1e-5


def test_untrained_state_space_model_is_refused() -> None:
    """Its leak is a hundred-thousandth of the logits."""
    tiny = tiny_model("falcon_h1")
    torch.manual_seed(0)
    model = LanguageModel(transformers.AutoModelForCausalLM.from_config(tiny.config))
    with pytest.raises(ConfigError, match="the family falcon_h1"):
        separate_documents(model, 32)
    assert model.training


def test_train_run_with_a_family_that_mixes_documents_is_refused(config_tree: Tree) -> None:
    bloom = {"config": {"model_type": "bloom", "hidden_size": 32, "n_layer": 1, "n_head": 2}}
    tree = config_tree | {"model": bloom, "attention": "document", "eval": {"samples": 0}}
    with pytest.raises(ConfigError, match="document does not work with the family bloom"):
        run(tree, packing="best_fit")
    # Rows of one document need no mask.
    padded = tree | {"run_folder": f"{tree['run_folder']}-padded", "duration": "1ba"}
    assert run(padded, packing="pad").steps == 1


def test_train_run_packs_a_family_by_a_mask(config_tree: Tree, tmp_path: Path) -> None:
    settings = {
        "model_type": "olmoe", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_experts": 4, "num_experts_per_tok": 2,
    }  # fmt: skip
    tree = config_tree | {"model": {"config": settings}, "ema": None, "attention": "document"}
    tree |= {"duration": "3ba", "eval": {"samples": 0}}
    packed = run(tree, packing="best_fit", run_folder=str(tmp_path / "packed"))
    padded = run(tree, packing="pad", run_folder=str(tmp_path / "padded"))
    assert packed.losses["train"] == pytest.approx(padded.losses["train"], abs=1e-4)


def test_attention_implementation_survives_a_resume(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = config_tree["model"]["config"] | {"attn_implementation": "eager"}
    tree = config_tree | {"model": {"config": model}, "eval": {"samples": 0}}
    seen: list[str] = []

    def record(start: WarmStart) -> WarmStart:
        seen.append(start.model.config._attn_implementation)
        return start

    for name in ("starting_model", "resumed_model"):
        load = getattr(training, name)
        monkeypatch.setattr(training, name, lambda *args, load=load: record(load(*args)))
    with monkeypatch.context() as patch:
        crash_at(7, patch)
        with pytest.raises(Stopped):
            run(tree)
    result = run(tree)
    assert seen == ["eager", "eager"]
    assert load_model(result.run_folder).model.config._attn_implementation == "eager"
