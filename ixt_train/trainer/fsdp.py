"""FSDP: settings from the config as Composer takes them, and what a machine must have for them."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from composer.utils.parallelism import FSDP2Config, FSDPConfig

from ixt_data.errors import ConfigError

_KINDS: dict[int, Any] = {1: FSDPConfig, 2: FSDP2Config}


def sharding(settings: Mapping[str, Any]) -> FSDPConfig | FSDP2Config:
    """Composer's FSDP configuration; a checkpoint of it is one file, as always.

    Args:
        settings: of Composer's FSDPConfig, or with `version: 2` of its FSDP2Config.

    Raises:
        ConfigError: a setting is unknown, or needs what this machine does not have.
    """
    version = settings.get("version", int(os.environ.get("FSDP_VERSION", "1")))
    if version not in _KINDS:
        raise ConfigError(f"fsdp.version: {version!r} is neither 1 nor 2")
    if version == 1 and not torch.cuda.is_available():
        raise ConfigError(
            "fsdp: version 1 needs a GPU, and there is none here; version: 2 also works on CPUs"
        )
    own = {key: value for key, value in settings.items() if key != "version"}
    if own.get("state_dict_type", "full") != "full":
        raise ConfigError(
            f"fsdp.state_dict_type: {own['state_dict_type']!r} would write many files; only full"
        )
    try:
        return _KINDS[version](**{**own, "state_dict_type": "full"})
    except TypeError as error:
        raise ConfigError(f"fsdp: {error}") from None
