"""The critics by name. Each is imported only when it is asked for."""

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

CRITICS: Mapping[str, str] = {
    "rules": "ixt_data.critics.rules.critic:RulesCritic",
    "arithmetic": "ixt_data.critics.arithmetic:ArithmeticCritic",
    "import": "ixt_data.critics.imported:ImportCritic",
    "vllm": "ixt_data.critics.vllm.critic:VllmCritic",
}
"""The critics that come with ixt: name -> `module:Class`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def load_critic(
    spec: str, *, options: Mapping[str, Any] | None = None, parts: ChunkOptions | None = None
) -> Critic:
    """A critic by name, or a user's own as `module:Class`; modules of the working folder are found.

    Args:
        spec: `rules`, `arithmetic`, `import`, `vllm` or `module:Class`.
        options: keyword arguments for the class; those from the command line are text.
        parts: judge parts of documents; None: whole documents.

    Raises:
        CriticError: there is no such critic, an option is wrong, or it is no critic.
    """
    critic = _create(spec, critic_class(spec), dict(options or {}))
    _check(spec, critic)
    if parts is None:
        return cast(Critic, critic)
    if spec == "import":
        raise CriticError("imported critiques are of whole documents, not of their parts")
    return ChunkedCritic(cast(Critic, critic), parts)


def critic_class(spec: str) -> type[Any]:
    """The class of a critic.

    Raises:
        CriticError: there is none of this name.
    """
    if spec not in CRITICS and ":" not in spec:
        raise CriticError(_unknown(spec))
    return _load_class(CRITICS.get(spec, spec))


def _unknown(spec: str) -> str:
    valid = f"{', '.join(CRITICS)}, or module:Class for one of your own"
    return f"there is no critic {spec!r}; valid are {valid}"


def _load_class(target: str) -> type[Any]:
    module_name, _, class_name = target.partition(":")
    # Last, so that a file in the working folder hides no installed module.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CriticError(f"critic {target!r}: cannot import {module_name!r} ({reason})") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise CriticError(
            f"critic {target!r}: {module_name} has no class {class_name!r};"
            f" it has {', '.join(classes) or 'none'}"
        )
    return found


def _create(spec: str, critic_class: type[Any], options: dict[str, Any]) -> Any:
    try:
        parameters = inspect.signature(critic_class)
        parameters.bind(**options)
    except (TypeError, ValueError) as error:
        raise CriticError(
            f"critic {spec!r} does not take the options {options}: {error};"
            f" valid are {parameters if isinstance(error, TypeError) else 'none'}"
        ) from None
    try:
        return critic_class(**options)
    except IxtError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CriticError(f"critic {spec!r} could not be made: {reason}") from error


def _check(spec: str, critic: Any) -> None:
    """That `critic` keeps the protocol, as far as that shows before it judges anything."""
    wrong = [f"{name}()" for name in ("config", "run") if not callable(getattr(critic, name, None))]
    name = getattr(critic, "name", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        wrong.insert(0, f"name (letters, digits, '_', '.', '-'; it is {name!r})")
    if wrong:
        raise CriticError(f"{spec!r} is no critic: it lacks {', '.join(wrong)}")
    if hasattr(critic, "connect"):
        # Its config is its server's to tell, when it is first needed.
        return
    try:
        critic_id(critic)
    except Exception as error:
        raise CriticError(f"critic {spec!r}: config() is not plain JSON: {error}") from error
