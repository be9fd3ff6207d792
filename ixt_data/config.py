"""Configuration files: YAML and dotted overrides, validated into frozen models."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ixt_data.errors import ConfigError, describe_failure

ConfigKey = int | str
M = TypeVar("M", bound=BaseModel)
# Kinds of configuration files, by the keys that only they have, and the verb that reads them.
FILE_KINDS = {
    "a mix": ({"selections"}, "ixt mix plan"),
    "a train config": ({"mix", "run_folder"}, "ixt train"),
    "a scaling config": ({"train", "arms"}, "ixt scaling run"),
    "a rubric": ({"task", "dimensions"}, "ixt critique --rubric"),
}


class ConfigModel(BaseModel):
    """Base class of configuration models: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _DistinctKeys(yaml.SafeLoader):
    """Loader of YAML that refuses a key that a mapping has twice: the last one would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in keys if keys.count(key) > 1 and key != "<<"]:
            what = f"the key {twice[0]!r} is there twice"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(model: type[M], path: str | Path, overrides: Iterable[str] = ()) -> M:
    """Read a configuration from a YAML file, and apply overrides `dotted.key=value`.

    Raises:
        ConfigError: the file cannot be read, or keys are invalid; the message names all of them.
    """
    try:
        # A safe loader: it is a subclass of one.
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), _DistinctKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {describe_failure(error)}") from None
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
        message = _other_kind(model, tree) or describe_errors(model, error)
        raise ConfigError(f"{name}: {message}") from None


def file_kind(tree: Any) -> str | None:
    """Return the kind of configuration file that a tree's keys show, such as `a mix`."""
    keys = set(tree) if isinstance(tree, Mapping) else set()
    return next((kind for kind, (signs, _) in FILE_KINDS.items() if keys >= signs), None)


def _other_kind(model: type[BaseModel], tree: Any) -> str | None:
    """Say that a tree is another kind of file than the model reads; None where it is not."""
    kind = file_kind(tree)
    if kind is None or FILE_KINDS[kind][0] <= set(model.model_fields):
        return None
    own = next(
        (k for k, (signs, _) in FILE_KINDS.items() if signs <= set(model.model_fields)), None
    )
    signs, verb = FILE_KINDS[kind]
    this = f", not {own}" if own else ""
    keys = " and ".join(f"`{key}`" for key in sorted(signs))
    return f"this is {kind}{this}: it has {keys}. `{verb}` reads it"


def describe_errors(model: Any, error: ValidationError, path: str = "") -> str:
    """Describe the errors of a validation, each with its full path and the nearest valid key.

    Args:
        model: the model class, or a union of models with different `kind`.
        error: the error of pydantic.
        path: path of the model in its file.
    """
    errors = error.errors()
    unknown: dict[type[BaseModel] | None, list[Any]] = {}
    for item in errors:
        if item["type"] == "extra_forbidden":
            unknown.setdefault(_locate(model, item["loc"])[1], []).append(item)
    many = [items for items in unknown.values() if len(items) > 1]
    single = [item for item in errors if not any(item in items for items in many)]
    parts = [_describe(model, item, path) for item in single]
    return "; ".join([*parts, *(_describe_unknown(model, items, path) for items in many)])


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


def _describe(model: Any, error: Any, prefix: str) -> str:
    location, parent = _locate(model, error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = _unknown(location, parent)
    elif error["type"] == "missing":
        message = "missing"
    elif error["type"] == "union_tag_invalid":
        location = (*location, error["ctx"]["discriminator"].strip("'"))
        message = f"{error['ctx']['tag']!r} is unknown. Valid: {error['ctx']['expected_tags']}"
    elif not isinstance(error["input"], Mapping | list) and error["type"] != "key_of_other_kind":
        message = f"{message} (got {error['input']!r})"
    path = (prefix, *location) if prefix else location
    # A check over several keys names their path in its own message.
    return f"{key_path(path)}: {message}" if path else message


def _describe_unknown(model: Any, errors: list[Any], prefix: str) -> str:
    """Describe several unknown keys of one model, with its valid keys once."""
    located = [_locate(model, error["loc"]) for error in errors]
    paths = [key_path((prefix, *path) if prefix else path) for path, _ in located]
    parent = located[0][1]
    valid = sorted(parent.model_fields) if parent else []
    return f"unknown keys {', '.join(paths)}. Valid: {', '.join(valid)}"


def _unknown(location: tuple[ConfigKey, ...], parent: type[BaseModel] | None) -> str:
    valid = sorted(parent.model_fields) if parent else []
    near = difflib.get_close_matches(str(location[-1]), valid, 1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return f"unknown key{hint} Valid: {', '.join(valid)}"


def _locate(
    model: Any, location: tuple[ConfigKey, ...]
) -> tuple[tuple[ConfigKey, ...], type[BaseModel] | None]:
    """Return a location without the kinds that pydantic inserts, and the model of its last key."""
    path: list[ConfigKey] = []
    models, parent = models_in(model), None
    for key in location:
        by_kind = {kind_of(m): m for m in models if len(models) > 1}
        if key in by_kind:
            models = [by_kind[key]]
            continue
        path.append(key)
        if not isinstance(key, int):
            parent = models[0] if models else None
            field = parent.model_fields.get(key) if parent is not None else None
            models = models_in(field.annotation) if field is not None else []
    return tuple(path), parent


def kind_of(model: type[BaseModel]) -> str | None:
    """Return the only value of the model's key `kind`; None without one."""
    field = model.model_fields.get("kind")
    return None if field is None else next(iter(typing.get_args(field.annotation)), None)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models inside of `tuple[Model, ...]`, `Model | None` or a similar annotation."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in models_in(part)]
