"""The optimizer, and the state that a train run takes over from the previous one."""

from typing import Any

import torch
from composer import Trainer
from torch import nn

from ixt_train.config import OptimizerConfig


def build_optimizer(settings: OptimizerConfig, model: nn.Module) -> torch.optim.AdamW:
    """Return the optimizer of all trainable parameters."""
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def load_optimizer_state(trainer: Trainer, optimizer_state: dict[str, Any]) -> None:
    """Load AdamW's moments of a previous train run; its settings stay this train run's."""
    (optimizer,) = trainer.state.optimizers
    settings = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    groups = [group | settings for group in optimizer_state["param_groups"]]
    trainer.state.load_optim_state(
        {"optimizers": {"AdamW": optimizer_state | {"param_groups": groups}}}
    )
