"""The router loss of models with experts."""

import pytest
import torch
from model_families import tiny_model
from torch.nn import functional

from ixt_train.inference.router_loss import router_loss_weight
from ixt_train.trainer.document_probe import separate_documents
from ixt_train.trainer.objective import LanguageModel

EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}


def batch_of(rows: int, tokens: int, width: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 5 + rows * width).remainder(60).view(rows, width)
    mask = (torch.arange(width) < tokens).long().expand(rows, width)
    return {"input_ids": ids, "attention_mask": mask, "loss_weights": mask.float()}


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "olmoe", "gpt_oss"])
def test_loss_includes_the_router_loss_of_tokens_alone(family: str) -> None:
    model = LanguageModel(tiny_model(family, **EXPERTS, router_aux_loss_coef=0.5))
    batch = batch_of(2, 9, 12)
    short = {key: value[:, :9] for key, value in batch.items()}
    # Transformers' own loss, of rows without padding.
    expected = model.model(
        input_ids=short["input_ids"], labels=short["input_ids"], output_router_logits=True
    )
    model.train()
    loss = float(model.loss(model(batch), batch))
    assert loss == pytest.approx(float(expected.loss), abs=1e-5)
    entropy = functional.cross_entropy(
        expected.logits[:, :-1].flatten(0, 1), short["input_ids"][:, 1:].flatten()
    )
    assert loss > entropy + 0.5
    # An evaluation has none.
    model.eval()
    assert float(model.loss(model(batch), batch)) == pytest.approx(float(entropy), abs=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "olmoe"])
def test_router_loss_of_packed_documents_is_that_of_each_alone(family: str) -> None:
    model = LanguageModel(tiny_model(family, **EXPERTS, router_aux_loss_coef=0.5))
    separate_documents(model, 24)
    one = batch_of(1, 8, 8)
    packed = {key: torch.cat([value, value], 1) for key, value in one.items()}
    packed["position_ids"] = torch.arange(8).repeat(2)[None]
    packed["loss_weights"] = torch.tensor([0.0, *[1.0] * 7]).repeat(2)[None]
    model.train()
    losses = [model.loss(model(batch), batch) for batch in (one, packed)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-5)


def test_batch_of_padding_has_a_finite_loss() -> None:
    model = LanguageModel(tiny_model("mixtral", **EXPERTS)).train()
    batch = batch_of(2, 0, 8)
    assert torch.isfinite(model.loss(model(batch), batch))


def test_dense_model_has_no_router_loss() -> None:
    assert router_loss_weight(tiny_model("llama")) == 0
