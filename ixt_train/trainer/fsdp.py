"""FSDP: Composer's settings from the train config, and the checks of this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from composer.utils.parallelism import FSDP2Config, FSDPConfig

from ixt_data.errors import ConfigError


@dataclass
class Fsdp2(FSDP2Config):  # type: ignore[misc]
    """FSDP2, with groups of processes that each hold the complete model (HSDP).

    Composer makes a mesh of two dimensions for them, but has no setting for it in version 2.
    """

    data_parallel_replicate_degree: int | None = None


_KINDS: dict[int, Any] = {1: FSDPConfig, 2: Fsdp2}


def sharding(settings: Mapping[str, Any]) -> FSDPConfig | FSDP2Config:
    """Return Composer's FSDP configuration; its checkpoints are single files.

    Args:
        settings: settings of Composer's FSDPConfig, or with `version: 2` of its FSDP2Config and
            `data_parallel_replicate_degree`.

    Raises:
        ConfigError: a setting is unknown, or this machine does not support it.
    """
    version = settings.get("version", int(os.environ.get("FSDP_VERSION", "1")))
    if version not in _KINDS:
        raise ConfigError(f"fsdp.version: {version!r} is not valid; choose 1 or 2")
    if version == 1 and not torch.cuda.is_available():
        raise ConfigError(
            "fsdp: version 1 needs a GPU, and this machine has none; version: 2 also runs on CPUs"
        )
    replicas = settings.get("data_parallel_replicate_degree")
    if version == 2 and replicas is not None and not torch.cuda.is_available():
        raise ConfigError(
            "fsdp.data_parallel_replicate_degree: FSDP2 averages gradients of replicas by NCCL; "
            "this machine has no GPU, and gloo has no average"
        )
    own = {key: value for key, value in settings.items() if key != "version"}
    if own.get("state_dict_type", "full") != "full":
        raise ConfigError(
            f"fsdp.state_dict_type: {own['state_dict_type']!r} would write many files; set full"
        )
    try:
        return _KINDS[version](**{**own, "state_dict_type": "full"})
    except TypeError as error:
        raise ConfigError(f"fsdp: {error}") from None
