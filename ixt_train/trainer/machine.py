"""What a train run uses of its machine: GPU, cores, a compiler."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

import torch
from composer.utils.parallelism import FSDPConfig

from ixt_data.errors import ConfigError, MissingExtra
from ixt_train.config import TrainConfig
from ixt_train.inference import token_losses
from ixt_train.trainer.fsdp import sharding
from ixt_train.trainer.optimizers import eight_bit_adamw

_MAX_WORKERS = 4


def check_machine(config: TrainConfig) -> None:
    """Check that this machine has what the config needs.

    Raises:
        ConfigError: it does not.
        MissingExtra: a package is not installed.
    """
    if config.lora is not None:
        MissingExtra.require("lora", "peft")
    if not torch.cuda.is_available():
        for key, value in (("precision", "amp_fp16"), ("microbatch_size", "auto")):
            if getattr(config, key) == value:
                raise ConfigError(f"{key}: {value} needs a GPU, and this machine has none")
        if config.cross_entropy == "cut":
            raise ConfigError(
                "cross_entropy: cut needs a GPU, and this machine has none; chunked also runs on "
                "CPUs"
            )
        if config.compile and which(os.environ.get("CXX", "g++")) is None:
            raise ConfigError(
                "compile: on a CPU torch.compile needs a C++ compiler, and this machine has no "
                "g++. Install one, name it in CXX, or set compile to false"
            )
    if config.optimizer.kind == "adamw8bit":
        eight_bit_adamw()
    token_losses(config.cross_entropy, config.z_loss)
    if config.fsdp is not None:
        kind = sharding(config.fsdp)
        if config.checkpoint.asynchronous and isinstance(kind, FSDPConfig):
            raise ConfigError("checkpoint.asynchronous: with fsdp it needs fsdp.version 2")
        if config.checkpoint.asynchronous and kind.load_monolith_rank0_only:
            raise ConfigError(
                "fsdp.load_monolith_rank0_only: checkpoints with checkpoint.asynchronous are no "
                "single files; remove it"
            )


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set the torch threads of this process within the context.

    By default the processes of a machine share its cores: more threads slow each other down.
    """
    former = torch.get_num_threads()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local))
    try:
        yield
    finally:
        torch.set_num_threads(former)


def worker_count(config: TrainConfig) -> int:
    """Return the number of processes per rank that read and tokenize."""
    if config.num_workers is not None:
        return config.num_workers
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    spare = (len(os.sched_getaffinity(0)) - ranks) // ranks
    return max(0, min(_MAX_WORKERS, spare)) if torch.cuda.is_available() else 0
