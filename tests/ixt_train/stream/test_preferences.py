"""The example of preferences in docs/other-trainers.md, with TRL's DPOTrainer."""

import json
from pathlib import Path
from typing import Any

import pytest
from critiqued import words_tokenizer
from trainer_examples import EXAMPLES
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"


def test_exported_pairs_train_a_model_by_dpo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {n}"}],
            "chosen": [{"role": "assistant", "content": f"good {n}"}],
            "rejected": [{"role": "assistant", "content": f"bad {n}"}],
            "chosen_score": 0.9,
            "rejected_score": 0.1,
        }
        for n in range(8)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = words_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained("model")
    set_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained("model")  # fmt: skip
    names: dict[str, Any] = {"__name__": "example"}
    exec(EXAMPLES["preferences"], names)
    logged = [row for row in names["trainer"].state.log_history if "train_loss" in row]
    assert names["trainer"].state.global_step == 4
    assert 0 < logged[-1]["train_loss"] < 1
