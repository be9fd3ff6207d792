"""The optimizer, and the state that a train run takes over from the previous one."""

from typing import Any

import torch
from composer import Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from ixt_data.errors import ConfigError
from ixt_train.config import OptimizerConfig

_MOMENTUM, _STEPS = 0.95, 5
# Of the polynomial that brings singular values near 1 (Jordan et al. 2024, "Muon").
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# The root mean square of AdamW's updates, so that both share a learning rate (arXiv 2502.16982).
_UPDATE_SIZE = 0.2


def build_optimizer(settings: OptimizerConfig, model: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    options: dict[str, Any] = {
        "lr": settings.lr,
        "betas": settings.betas,
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    if settings.kind == "adamw8bit":
        return eight_bit_adamw()(trained, **options)  # type: ignore[no-any-return]
    if settings.kind == "adamw":
        return torch.optim.AdamW(trained, fused=True, **options)
    ends = {id(p) for p in _embedding_parameters(model)}
    matrices = [p for p in trained if p.dim() == 2 and id(p) not in ends]
    others = [p for p in trained if p.dim() != 2 or id(p) in ends]
    groups = [{"params": matrices, "is_muon": True}, {"params": others, "is_muon": False}]
    return Muon([group for group in groups if group["params"]], fused=True, **options)


def eight_bit_adamw() -> Any:
    """Return torchao's AdamW with moments of 8 bits.

    Raises:
        ConfigError: torchao is not installed.
    """
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise ConfigError(
            "optimizer.kind: adamw8bit needs the package torchao. Install it: pip install torchao"
        ) from None
    return AdamW8bit


def _embedding_parameters(model: Any) -> list[nn.Parameter]:
    """Return the parameters of the input embedding and of the head, which Muon is not for."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [p for module in ends if module is not None for p in module.parameters()]


class Muon(torch.optim.AdamW):
    """Muon for the matrices of hidden layers, AdamW for all other parameters.

    An update of a matrix is its Nesterov momentum with all singular values near 1 (Jordan et al.
    2024, kellerjordan.github.io/posts/muon), in the size of AdamW's updates (Liu et al. 2025, arXiv
    2502.16982). Groups of matrices have `is_muon`.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters."""
        loss = None
        if closure is not None:
            # It sets the gradients of all groups to zero first.
            with torch.enable_grad():  # type: ignore[no-untyped-call]
                loss = closure()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["is_muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group["is_muon"] else []:
                if (gradient := parameter.grad) is not None:
                    self._update(parameter, gradient, group["lr"], group["weight_decay"])
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            # AdamW counts the steps of every parameter that it loads.
            state["step"] = torch.tensor(0.0)
            state["momentum"] = torch.zeros_like(parameter)
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        direction = orthogonalize(torch.lerp(gradient, momentum, _MOMENTUM))
        size = _UPDATE_SIZE * max(parameter.shape) ** 0.5
        parameter.mul_(1 - lr * weight_decay).add_(direction.to(parameter.dtype), alpha=-lr * size)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors, and singular values of about 1.

    Ranks of a sharded matrix gather it, compute the same, and keep their parts.
    """
    if isinstance(matrix, DTensor):
        mesh = matrix.device_mesh
        complete = orthogonalize(matrix.full_tensor())
        whole: Any = DTensor.from_local(complete, mesh, [Replicate()] * mesh.ndim)
        part: Tensor = whole.redistribute(placements=matrix.placements)
        return part
    x: Tensor = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x


def load_optimizer_state(trainer: Trainer, optimizer_states: dict[str, Any]) -> None:
    """Load the state of a previous train run's optimizer; its settings stay this train run's.

    Raises:
        ConfigError: that was another kind of optimizer.
    """
    (optimizer,) = trainer.state.optimizers
    kind = type(optimizer).__qualname__
    if kind not in optimizer_states:
        raise ConfigError(
            f"start.optimizer: keep needs the same optimizer.kind; the train run used "
            f"{', '.join(optimizer_states)}, this one uses {kind}. Set start.optimizer to fresh"
        )
    state = optimizer_states[kind]
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    groups = [g | s for g, s in zip(state["param_groups"], settings, strict=True)]
    trainer.state.load_optim_state({"optimizers": {kind: state | {"param_groups": groups}}})
