"""An adapter of a trained model for lm-evaluation-harness, with feedback before every question.

The harness's own command line knows the model as `ixt` if it is started from this module:
`python -m ixt_train.evaluation.harness run --model ixt --model_args checkpoint=DIR --tasks ...`
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ixt_data.errors import ConfigError, MissingExtra
from ixt_train.conditioning import ChatConditioner, Choice
from ixt_train.inference import (
    GenerationPrefix,
    LoadedModel,
    TokenIds,
    TokenSampling,
    choose_feedback,
    cut_at_stop,
    decode_continuation,
    feedback_prefix,
    generate_all,
    load_model,
    pick_device,
    score_continuations,
)

try:
    from lm_eval import simple_evaluate
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError:
    raise MissingExtra("lm_eval", "eval") from None

_BATCH_SIZE = 16
# For a model whose config does not specify its length.
_DEFAULT_MAX_LENGTH = 2048
# First character of a conversation's JSON, passed to the harness as text; no question starts so.
_CONVERSATION = "\ue000"


@register_model("ixt")
class ConditionedLM(TemplateLM):  # type: ignore[misc]
    """A trained model for the harness; a context that does not fit is cut after the feedback."""

    def __init__(
        self,
        checkpoint: str | Path | LoadedModel,
        feedback: str = "best",
        score: float | None = None,
        guidance: float = 1.0,
        against: str = "none",
        batch_size: int | str | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        **_: Any,
    ) -> None:
        """Load the model.

        Args:
            checkpoint: a model, or a path for `load_model`.
            feedback: best, worst, none, or a text; see `choose_feedback`.
            score: the score that goes with a text, 0 to 1.
            guidance: gamma; 1 disables guidance.
            against: the feedback that guidance leads away from.
            batch_size: rows per forward pass.
            progress: called with the number of answered questions and their total.

        Raises:
            ConfigError: the model does not exist, or it does not know such feedback.
        """
        super().__init__()
        loaded = checkpoint if isinstance(checkpoint, LoadedModel) else load_model(checkpoint)
        conditioner = loaded.conditioner
        self._choices = (
            choose_feedback(conditioner, feedback, score),
            choose_feedback(conditioner, against),
        )
        self._conditioned, self._base = (
            feedback_prefix(conditioner, choice) for choice in self._choices
        )
        self._progress = progress
        self._guidance_sampling = TokenSampling(guidance=float(guidance))
        self._rows = int(batch_size) if batch_size and batch_size != "auto" else _BATCH_SIZE
        self._conditioner, self.tokenizer = conditioner, loaded.tokenizer
        self._model = loaded.model.to(pick_device())
        self._device = self._model.device
        self._max_length = getattr(
            loaded.model.config, "max_position_embeddings", _DEFAULT_MAX_LENGTH
        )
        self._context_budget = self._max_length - max(len(self._conditioned), len(self._base))

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token in front of a document."""
        return int(self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """The name of the tokenizer in the harness's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Return the tokens of a text as training reads it, without control tokens."""
        return list(self._conditioner.encoder.document(string).tolist())

    @property
    def is_chat(self) -> bool:
        """Whether the model was trained on conversations."""
        return isinstance(self._conditioner, ChatConditioner)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text; it is rendered later, and contents stay contents.

        Args:
            chat_history: messages; the last one is the start of a reply if none is to follow.
            add_generation_prompt: whether a reply of the assistant is to follow.

        Raises:
            ConfigError: the model was not trained on conversations.
        """
        if not self.is_chat:
            raise ConfigError("the model was not trained on conversations (stage sft)")
        prefix = "" if add_generation_prompt else chat_history[-1]["content"]
        messages = chat_history if add_generation_prompt else chat_history[:-1]
        return _CONVERSATION + json.dumps([messages, prefix])

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context.startswith(_CONVERSATION):
            return [], self.tok_encode(continuation)
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-likelihood of complete texts in nats, each window under the feedback."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        counts = []
        for (text,) in (request.args for request in requests):
            results = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                # One position for the token before the window.
                max_seq_len=self._context_budget - 1,
                context_len=1,
            )
            own = [(None, *make_disjoint_window(window)) for window in results]
            counts.append(len(own))
            windows += own
        nats = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        return [sum(next(nats)[0] for _ in range(count)) for count in counts]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        pending = [
            (
                self._chat_prefix(pair[0], len(after), 0)
                if pair and pair[0].startswith(_CONVERSATION)
                else self._prefix(context, self._context_budget - len(after), 0),
                tuple(after),
            )
            for pair, context, after in requests
        ]
        results: dict[int, tuple[float, bool]] = {}
        lengths = [len(prefix.conditioned) + len(after) for prefix, after in pending]
        for chunk in self._batches(range(len(pending)), lengths, disable_tqdm):
            scored = score_continuations(
                self._model,
                [pending[i][0] for i in chunk],
                [pending[i][1] for i in chunk],
                gamma=self._guidance_sampling.guidance,
                banned_tokens=self._conditioner.banned_tokens,
                pad=self.tokenizer.pad_token_id,
            )
            results |= dict(zip(chunk, scored, strict=True))
        return [results[i] for i in range(len(pending))]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate texts up to a stop string, as long as the task and the model allow."""
        pending = []
        for context, settings in (request.args for request in requests):
            sampling = self._sampling_of(settings)
            if context.startswith(_CONVERSATION):
                token_budget = min(sampling.max_new_tokens, self._max_length // 2)
                pending.append((sampling, self._chat_prefix(context, token_budget, token_budget)))
                continue
            ids = self.tok_encode(context)
            n_kept = min(
                len(ids),
                max(self._context_budget - sampling.max_new_tokens, self._context_budget // 2),
            )
            token_budget = min(sampling.max_new_tokens, self._context_budget - n_kept)
            pending.append((sampling, self._prefix(ids, n_kept, token_budget)))
        texts: dict[int, str] = {}
        for sampling in dict.fromkeys(sampling for sampling, _ in pending):
            indices = [i for i, (own, _) in enumerate(pending) if own == sampling]
            lengths = [len(prefix.conditioned) for _, prefix in pending]
            for chunk in self._batches(indices, lengths, disable_tqdm):
                prefix = [pending[i][1] for i in chunk]
                for i, row in zip(
                    chunk,
                    generate_all(self._model, self._conditioner, prefix, sampling),
                    strict=True,
                ):
                    text = decode_continuation(self.tokenizer, pending[i][1], row)
                    texts[i] = cut_at_stop(text, sampling.stop)
        return [texts[i] for i in range(len(pending))]

    def _sampling_of(self, settings: dict[str, Any]) -> TokenSampling:
        normalized = normalize_gen_kwargs(settings, default_max_gen_toks=256)
        return TokenSampling(
            max_new_tokens=int(normalized["max_gen_toks"]),
            temperature=float(normalized["temperature"]) if normalized["do_sample"] else 0.0,
            top_p=float(normalized.get("top_p", 1.0)),
            top_k=int(normalized.get("top_k", 0)),
            stop=tuple(s for s in normalized["until"] if s),
            guidance=self._guidance_sampling.guidance,
            batch_size=self._rows,
        )

    def _prefix(
        self, context: Sequence[int], token_budget: int, max_new_tokens: int
    ) -> GenerationPrefix:
        """Return a context under the feedback, cut to its last `token_budget` tokens."""
        if token_budget < 0:
            raise ConfigError(
                f"an answer of {self._context_budget - token_budget} tokens does not fit into the "
                f"{self._context_budget} "
                "positions that the model has besides its feedback"
            )
        ids = tuple(context)
        if ids[:1] == (self.prefix_token_id,):
            ids = ids[1:]
        ids = ids[len(ids) - min(token_budget, len(ids)) :]
        return GenerationPrefix(self._conditioned + ids, self._base + ids, max_new_tokens)

    def _chat_prefix(
        self, context: str, token_budget: int, max_new_tokens: int
    ) -> GenerationPrefix:
        """Return a conversation under the feedback; drop its first turns if it is too long."""
        messages, prefix = json.loads(context.removeprefix(_CONVERSATION))
        answer = tuple(self.tok_encode(prefix))
        while True:
            conditioned, base = (self._reply(messages, choice) + answer for choice in self._choices)
            if max(len(conditioned), len(base)) + token_budget <= self._max_length:
                return GenerationPrefix(conditioned, base, max_new_tokens)
            first = 1 if messages[0]["role"] == "system" else 0
            if len(messages) - first < 2:
                raise ConfigError(
                    f"the question {messages[-1]['content'][:40]!r}... and an answer of "
                    f"{token_budget} tokens do not fit into the model's {self._max_length}"
                )
            del messages[first]

    def _reply(self, messages: Sequence[Mapping[str, Any]], choice: Choice) -> TokenIds:
        assert isinstance(self._conditioner, ChatConditioner)
        return tuple(self._conditioner.reply(messages, choice).tolist())

    def _batches(
        self, chosen: Iterable[int], lengths: Sequence[int], quiet: bool
    ) -> Iterable[list[int]]:
        """Yield batches, the longest rows first: a lack of memory shows immediately."""
        order = sorted(chosen, key=lambda i: -lengths[i])
        for start in range(0, len(order), self._rows):
            chunk = order[start : start + self._rows]
            yield chunk
            if not quiet:
                self._progress(start + len(chunk), len(order))


def run_tasks(
    model: ConditionedLM,
    tasks: Sequence[str],
    folder: str | Path | None = None,
    limit: int | None = None,
    fewshot: int | None = None,
    chat: bool | None = None,
) -> list[dict[str, Any]]:
    """Run tasks of the harness; return one row per task and metric.

    Args:
        model: the model to evaluate.
        tasks: task names, also several separated by commas.
        folder: folder of custom task files.
        limit: number of questions per task, from the start; None asks all.
        fewshot: solved examples before each question; None uses the task's default.
        chat: prompt as the user of a conversation; None decides by the model's training.

    Raises:
        ConfigError: the harness has no such task, or cannot load it.
    """
    tasks = [name for names in tasks for name in names.split(",")]
    manager = _manager(tasks, folder)
    # Tasks print; stdout is for results.
    with redirect_stdout(sys.stderr):
        results = simple_evaluate(
            model,
            tasks=tasks,
            num_fewshot=fewshot,
            limit=limit,
            apply_chat_template=model.is_chat if chat is None else chat,
            task_manager=manager,
            log_samples=False,
        )
    return [row for task, metrics in results["results"].items() for row in _rows(task, metrics)]


def _manager(tasks: Sequence[str], folder: str | Path | None) -> TaskManager:
    """Return a manager that knows the tasks: those of the folder, else also the harness's own."""
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"--lm-eval-path {folder} is not a folder")
    path = None if folder is None else str(folder)
    manager = TaskManager(include_path=path, include_defaults=folder is None)
    if folder is not None and any(not manager.match_tasks([task]) for task in tasks):
        manager = TaskManager(include_path=path)
    unknown = [task for task in tasks if not manager.match_tasks([task])]
    if unknown:
        own = "" if folder is None else f" or in {folder}"
        raise ConfigError(
            f"lm-evaluation-harness has no task {', '.join(unknown)} in its own list{own}; "
            "run: lm-eval ls tasks"
        )
    return manager


def _rows(task: str, metrics: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for key, value in metrics.items():
        metric, _, filter_name = key.partition(",")
        if not filter_name or metric.endswith("_stderr"):
            continue
        error = metrics.get(f"{metric}_stderr,{filter_name}")
        yield {
            "task": task,
            "metric": metric,
            "filter": filter_name,
            "value": value,
            "standard_error": error if isinstance(error, float) else None,
        }


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
