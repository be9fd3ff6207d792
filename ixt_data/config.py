"""Configuration files: YAML and dotted overrides, validated into frozen models."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ixt_data.errors import ConfigError

ConfigKey = int | str
M = TypeVar("M", bound=BaseModel)


class ConfigModel(BaseModel):
    """Base class of configuration models: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def load_config(model: type[M], path: str | Path, overrides: Iterable[str] = ()) -> M:
    """Read a configuration from a YAML file, and apply overrides `dotted.key=value`.

    Raises:
        ConfigError: the file cannot be read, or keys are invalid; the message names all of them.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must contain a YAML mapping, got {type(tree).__name__}")
    for override in overrides:
        apply_override(tree, override)
    return validate(model, tree, str(path))


def validate(model: type[M], tree: Any, name: str) -> M:
    """Validate a tree of plain values as a configuration model.

    Args:
        model: the model class.
        tree: mappings, lists and scalars, as YAML gives them.
        name: name of the source in error messages.

    Raises:
        ConfigError: invalid keys, each with its full path and the nearest valid key.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(model, item["loc"], item) for item in error.errors()]
        raise ConfigError(f"{name}: {'; '.join(problems)}") from None


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in a tree; the value is YAML, a list index is a number.

    Raises:
        ConfigError: the override is not `key=value`, or its path does not exist in the tree.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"override {override!r}: write key=value, as in condition.dropout=0.1")
    *parents, last = path.split(".")
    branch: Any = tree
    for parent in parents:
        branch = _child(branch, parent, override)
    try:
        if isinstance(branch, list):
            branch[int(last)] = yaml.safe_load(text)
        else:
            branch[last] = yaml.safe_load(text)
    except (ValueError, IndexError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"override {override!r}: {last!r} cannot be set ({error})") from None


def _child(branch: Any, key: str, override: str) -> Any:
    try:
        if isinstance(branch, list):
            return branch[int(key)]
        if branch.get(key) is None:
            branch[key] = {}
        return branch[key]
    except (ValueError, IndexError, AttributeError):
        raise ConfigError(f"override {override!r}: key {key!r} does not exist") from None


def key_path(location: Iterable[ConfigKey]) -> str:
    """Format the path of a configuration key, for example `selections.1.where`."""
    return ".".join(map(str, location)) or "(top)"


def _describe(model: type[BaseModel], location: tuple[ConfigKey, ...], error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = _unknown(model, location)
    elif error["type"] == "missing":
        message = "missing"
    elif not isinstance(error["input"], Mapping | list):
        message = f"{message} (got {error['input']!r})"
    # A check over several keys names their path in its own message.
    return message if not location else f"{key_path(location)}: {message}"


def _unknown(model: type[BaseModel], location: tuple[ConfigKey, ...]) -> str:
    parent = _model_at(model, location[:-1])
    valid = sorted(parent.model_fields) if parent else []
    near = difflib.get_close_matches(str(location[-1]), valid, 1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return f"unknown key{hint} Valid: {', '.join(valid)}"


def _model_at(model: type[BaseModel], location: tuple[ConfigKey, ...]) -> type[BaseModel] | None:
    current: Any = model
    for key in location:
        if isinstance(key, int):
            continue
        field = current.model_fields.get(key) if current is not None else None
        current = _model_in(field.annotation) if field is not None else None
    return current  # type: ignore[no-any-return]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside of `tuple[Model, ...]`, `Model | None` or a similar annotation."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    inner = (_model_in(part) for part in typing.get_args(annotation))
    return next((model for model in inner if model is not None), None)
