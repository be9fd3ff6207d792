"""Critics by name; each class is imported on first use."""

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ixt_data.critics.base import Critic, critic_id
from ixt_data.critics.chunked import ChunkedCritic, ChunkOptions
from ixt_data.errors import CriticError, IxtError
from ixt_data.plugins import find_plugins

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def load_critic(
    spec: str, *, options: Mapping[str, Any] | None = None, parts: ChunkOptions | None = None
) -> Critic:
    """Create a critic by name, or a custom one as `module:Class`.

    Modules in the working folder are importable.

    Args:
        spec: `rules`, `arithmetic`, `import`, `vllm`, a plugin's name, or `module:Class`.
        options: keyword arguments of the class; values from the command line are text.
        parts: division of documents into parts that are judged separately; None judges whole
            documents.

    Returns:
        An object with `name`, `config()` and `run(documents)`, see `Critic`.

    Raises:
        CriticError: the critic does not exist, an option is wrong, or the class is not a critic.

    Examples:
        >>> from ixt_data.critics import critic_id, load_critic
        >>> critic = load_critic("arithmetic", options={"clock": 12})
        >>> critic.name
        'arithmetic'
        >>> critic_id(critic) == critic_id(load_critic("arithmetic"))
        False
        >>> from ixt_data.records import Document, document_id
        >>> text = "9 + 5 = 2 - 3 = 11 ;"
        >>> [critique] = critic.run([Document(document_id(text), text)])
        >>> critique.score, critique.critique
        (1.0, 'every step is correct')
    """
    critic = _create(spec, critic_class(spec), dict(options or {}))
    _check_protocol(spec, critic)
    if parts is None:
        return cast(Critic, critic)
    if spec == "import":
        raise CriticError(
            "critic 'import': imported critiques are of whole documents, not of parts"
        )
    return ChunkedCritic(cast(Critic, critic), parts)


def critic_class(spec: str) -> type[Any]:
    """Return the class of a critic.

    Raises:
        CriticError: the critic does not exist or its module cannot be imported.
    """
    if ":" in spec:
        return _load_class(spec)
    known = find_plugins("ixt.critics")
    if spec not in known:
        valid = f"{', '.join(known)}, or module:Class for a custom critic"
        raise CriticError(f"unknown critic {spec!r}; valid are {valid}")
    loaded = known[spec].load()
    if not isinstance(loaded, type):
        raise CriticError(f"critic {spec!r}: {known[spec].target} is not a class")
    return loaded


def _load_class(target: str) -> type[Any]:
    module_name, _, class_name = target.partition(":")
    # At the end of the path, so a file in the working folder hides no installed module.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CriticError(f"critic {target!r}: cannot import {module_name!r} ({reason})") from error
    loaded = getattr(module, class_name, None)
    if not isinstance(loaded, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise CriticError(
            f"critic {target!r}: {module_name} does not define the class {class_name!r};"
            f" it defines {', '.join(classes) or 'none'}"
        )
    return loaded


def _create(spec: str, critic_class: type[Any], options: dict[str, Any]) -> Any:
    valid = "none"
    try:
        signature = inspect.signature(critic_class)
        valid = ", ".join(signature.parameters) or valid
        signature.bind(**options)
    # A class without a signature, such as a built-in one, raises ValueError.
    except (TypeError, ValueError) as error:
        raise CriticError(
            f"critic {spec!r} does not accept these options: {error}; valid are {valid}"
        ) from None
    try:
        return critic_class(**options)
    except IxtError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CriticError(f"critic {spec!r} could not be created: {reason}") from error


def _check_protocol(spec: str, critic: Any) -> None:
    """Check the parts of the protocol that are visible before the critic judges anything."""
    missing = [
        f"{name}()" for name in ("config", "run") if not callable(getattr(critic, name, None))
    ]
    name = getattr(critic, "name", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        missing.insert(0, f"name (letters, digits, '_', '.', '-'; it is {name!r})")
    if missing:
        raise CriticError(f"{spec!r} is not a critic: it does not define {', '.join(missing)}")
    if hasattr(critic, "connect"):
        # Its config needs a server, so it is read on first use.
        return
    try:
        critic_id(critic)
    except (Exception, SystemExit) as error:
        raise CriticError(f"critic {spec!r}: config() is not plain JSON: {error}") from error
