"""Losses at the head of a model, in chunks, against those of complete logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import tiny_model
from torch import Tensor
from train_runs import Stopped, Tree, crash_at, losses, run, two_processes

from ixt_data.errors import ConfigError
from ixt_train.inference.chunked_loss import check_head, chunked_losses, token_losses
from ixt_train.inference.model import row_losses
from ixt_train.trainer.objective import LanguageModel


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
@pytest.mark.parametrize("has_bias", [False, True])
def test_chunked_losses_and_gradients_are_those_of_complete_logits(
    z_loss: float, has_bias: bool
) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(4, 9, 8), torch.randn(50, 8)
    bias = torch.randn(50) if has_bias else None
    ids = torch.randint(0, 50, (4, 9))
    weights = torch.rand(4, 9) * (torch.rand(4, 9) > 0.3)
    inputs = [tensor.requires_grad_() for tensor in (hidden, weight, bias) if tensor is not None]

    def dense() -> Tensor:
        logits = torch.nn.functional.linear(hidden, weight, bias)
        return row_losses(logits, ids, weights, z_loss)[0].sum()

    def chunked() -> Tensor:
        # 36 tokens in chunks of 7: the last one is shorter.
        compute = chunked_losses(7, z_loss)
        values = compute(hidden.flatten(0, 1), weight, bias, ids.roll(-1, 1).flatten())
        return (values.view(4, 9)[:, :-1] * weights[:, 1:]).sum()

    expected, found = dense(), chunked()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    pairs = zip(
        torch.autograd.grad(expected, inputs), torch.autograd.grad(found, inputs), strict=True
    )
    assert all(torch.allclose(a, b, atol=1e-5, rtol=1e-5) for a, b in pairs)


def batch_of(ids: Tensor) -> dict[str, Any]:
    weights = torch.rand(ids.shape)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "loss_weights": weights}


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2_moe", "opt", "gptj"])
@pytest.mark.parametrize("cpu_bf16", [False, True])
def test_model_has_the_same_loss_and_gradients(family: str, cpu_bf16: bool) -> None:
    model = tiny_model(family).train()
    batch = batch_of(torch.randint(3, 60, (2, 16)))
    check_head(model)
    results = []
    for kind in ("dense", "chunked"):
        model.zero_grad()
        torch.manual_seed(1)
        wrapped = LanguageModel(model, cpu_bf16=cpu_bf16, losses=token_losses(kind, 0.0))
        loss = wrapped.loss(wrapped(batch), batch)
        loss.backward()
        results.append(
            (loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None])
        )
    (dense, expected), (chunked, found) = results
    assert chunked == pytest.approx(dense, rel=1e-6 if not cpu_bf16 else 1e-3)
    tolerance = 1e-5 if not cpu_bf16 else 2e-2
    assert all(torch.allclose(a, b, atol=tolerance) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("family", ["gemma2", "cohere", "granite"])
def test_family_that_changes_its_logits_is_refused(family: str) -> None:
    model = tiny_model(family)
    model.config.final_logit_softcapping = 0.01
    for name, value in (("logit_scale", 0.5), ("logits_scaling", 4.0)):
        if hasattr(model, name):
            setattr(model, name, value)
        if hasattr(model.config, name):
            setattr(model.config, name, value)
    with pytest.raises(ConfigError, match=f"cross_entropy: {family} changes its logits"):
        check_head(model)
    # The head is as before.
    assert model(torch.ones(1, 3, dtype=torch.int64)).logits.shape[-1] > 1


def test_chunked_run_has_the_losses_of_a_dense_run_and_resumes(
    config_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = losses(run(config_tree, run_folder=str(tmp_path / "dense")).run_folder)
    tree = config_tree | {"cross_entropy": "chunked"}
    with monkeypatch.context() as patch:
        crash_at(6, patch)
        with pytest.raises(Stopped):
            run(tree)
    chunked = losses(run(tree).run_folder)
    assert chunked == pytest.approx(dense, rel=1e-5)
    large = losses(run(tree, run_folder=str(tmp_path / "z"), z_loss=0.1).run_folder)
    assert large[0] > chunked[0] + 0.1


@pytest.mark.slow
def test_chunked_run_of_a_sharded_model(
    config_tree: Tree, tmp_path: Path, write_config: Callable[[Tree], Path]
) -> None:
    model = config_tree["model"]["config"] | {"attention_dropout": 0.0}
    calm = config_tree | {"model": {"config": model}}
    dense = losses(run(calm, run_folder=str(tmp_path / "dense")).run_folder)
    tree = calm | {"cross_entropy": "chunked", "fsdp": {"version": 2}}
    sharded = two_processes(write_config(tree))
    assert losses(sharded["run_folder"]) == pytest.approx(dense, abs=1e-4)


def test_cut_without_a_gpu_is_refused(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match="cross_entropy: cut needs a GPU"):
        run(config_tree, cross_entropy="cut")


def test_cut_without_its_package_or_with_a_z_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs the package cut-cross-entropy"):
        token_losses("cut", 0.0)
    with pytest.raises(ConfigError, match="z_loss: cross_entropy cut has none"):
        token_losses("cut", 1e-4)
