"""The examples of docs/other-trainers.md: each is stopped, resumed, and equal to one run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from critiqued import critiqued_store, words_tokenizer
from trainer_examples import EXAMPLES
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

OF_STREAM = [name for name in EXAMPLES if name not in ("stream", "preferences")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = critiqued_store(tmp_path / "store", 100)
    words_tokenizer().save_pretrained(tmp_path / "tokenizer")
    mix = {"store": str(store.root), "critic": "numbers"}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix))
    return tmp_path


def weights(names: dict[str, Any]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in names["model"].parameters()]


def run(example: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Run an example in the working folder, with a tiny model, for some more steps."""
    set_seed(0)
    names: dict[str, Any] = {"__name__": "example"}
    exec(EXAMPLES["stream"], names)
    tokenizer = names["tokenizer"]
    names["model"] = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    names["steps"] = steps
    try:
        exec(EXAMPLES[example], names)
    finally:
        names["stream"].close()
    return weights(names)


@pytest.mark.parametrize(
    "example", [name for name in EXAMPLES if name not in ("stream", "preferences")]
)
def test_example_resumes_to_the_same_weights(
    example: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(folder)
    complete = run(example, 8, monkeypatch)
    (folder / "again").mkdir()
    for name in ("mix.yaml", "tokenizer"):
        (folder / "again" / name).symlink_to(folder / name)
    monkeypatch.chdir(folder / "again")
    stopped = run(example, 4, monkeypatch)
    # This one counts the steps of one run, not of all.
    resumed = run(example, 4 if example == "torchtitan_loader" else 8, monkeypatch)
    assert not all(map(torch.equal, complete, stopped))
    assert all(map(torch.equal, complete, resumed))
