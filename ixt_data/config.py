"""Configuration files: YAML plus dotted overrides into frozen models; a typo names its key path."""

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
    """Base of every part of a configuration: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def load_config(model: type[M], path: str | Path, overrides: Iterable[str] = ()) -> M:
    """The configuration in a YAML file, with overrides `dotted.key=value` on top.

    Raises:
        ConfigError: the file cannot be read, or a key is wrong; all wrong keys are named.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no mapping, but {type(tree).__name__}")
    for override in overrides:
        apply_override(tree, override)
    return validate(model, tree, str(path))


def validate(model: type[M], tree: Any, name: str) -> M:
    """The configuration that `tree` describes; `name` is what errors call it.

    Raises:
        ConfigError: wrong keys, each with its full path and the nearest valid one.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = [_describe(model, item["loc"], item) for item in error.errors()]
        raise ConfigError(f"{name}: {'; '.join(found)}") from None


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Sets one `dotted.key=value` in a tree; the value is read as YAML, list places as numbers.

    Raises:
        ConfigError: it is no `key=value`, or leads through something that has no keys.
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
        raise ConfigError(f"override {override!r}: there is no {key!r} to set it in") from None


def key_path(location: Iterable[ConfigKey]) -> str:
    """A place in a configuration, as in `selections.1.where`."""
    return ".".join(map(str, location)) or "(top)"


def _describe(model: type[BaseModel], location: tuple[ConfigKey, ...], error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = _unknown(model, location)
    elif error["type"] == "missing":
        message = "missing"
    elif not isinstance(error["input"], Mapping | list):
        message = f"{message} (got {error['input']!r})"
    # A rule over several keys names their path itself.
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
    """The model inside `tuple[Model, ...]`, `Model | None` and the like."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    inner = (_model_in(part) for part in typing.get_args(annotation))
    return next((found for found in inner if found is not None), None)
