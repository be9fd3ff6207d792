"""The `vllm` critic: a reasoning judge behind OpenAI-compatible servers, over HTTP."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ixt_data.critics.chunked import judge_parts
from ixt_data.critics.rubric import JUDGED_IN_PARTS, Rubric, load_rubric
from ixt_data.critics.vllm import judge_info
from ixt_data.critics.vllm.capabilities import StructuredOutput
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    ConnectionOptions,
    EndpointUnreachable,
    RequestTimeout,
    check_endpoints,
    find_api_key,
)
from ixt_data.critics.vllm.document_request import DocumentRequester
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import HUNG, EndpointPool, Timeouts
from ixt_data.critics.vllm.endpoint_stats import StatsByEndpoint
from ixt_data.critics.vllm.failures import FailureStatus
from ixt_data.critics.vllm.judge_info import Judge
from ixt_data.critics.vllm.prompt_fit import PromptFit
from ixt_data.critics.vllm.prompts import (
    BYTES_PER_TOKEN,
    PROMPT_VERSION,
    JudgeSampling,
    PromptBuilder,
)
from ixt_data.critics.vllm.spending import Spending, SpendingLimits
from ixt_data.errors import CriticError
from ixt_data.records import OK, Critique, Document

if TYPE_CHECKING:
    from ixt_data.critics.vllm.server import ServerProcess

TRIAL_PAUSES = (0.5, 1.0, 2.0)
"""Seconds between the tries to reach a server at the start."""

FAILURE_WINDOW = 200
"""The share of failures is that of the last this many documents."""


class VllmCritic:
    """A reasoning judge that applies a rubric, behind one or many OpenAI-compatible servers.

    Args:
        endpoints: addresses up to `/v1`: a list, or one text separated by commas.
        model: its name on the servers; optional where a server has only one model.
        rubric: a rubric, the name of a rubric that is shipped with ixt, or a YAML file.
        sampling: sampling parameters, or a mapping of them.
        concurrency: maximum of requests in flight per endpoint.
        attempts: maximum of requests per document until its failure is final.
        max_failed: share of failures among the last 200 documents, 0 to 1, above which the run
            stops.
        timeouts: of requests and health checks.
        context: tokens of prompt and completion together, where the server does not report it.
        api_key: bearer token for the servers; by default the environment's IXT_API_KEY.
        api_key_file: file with that token.
        structured: the only form of structured output to accept: `json_schema`, `json_object` or
            `prompt`; `auto` takes the strictest that a server gives.
        connection: proxy and certificates.
        limits: of rates and cost.
        server: a server that this critic starts, supervises and stops.

    Attributes:
        usage: so far, with retries: `requests`, `retries`, `tokens_in`, `tokens_out`,
            `thinking_tokens`, `token_counts`, `cost_millionths`.

    Raises:
        CriticError: neither an endpoint nor a server is given, or an option is wrong.
        ConfigError: the rubric does not exist or is wrong.
    """

    name = "vllm"
    journaled = True
    pipelined = True
    statuses = (OK, *(failure.value for failure in FailureStatus))

    def __init__(
        self,
        endpoints: str | Sequence[str] = (),
        model: str | None = None,
        rubric: str | Rubric = "web",
        sampling: JudgeSampling | Mapping[str, Any] | None = None,
        *,
        concurrency: int | str = 256,
        attempts: int | str = 3,
        max_failed: float | str = 0.5,
        timeouts: Timeouts | None = None,
        context: int | str | None = None,
        api_key: str | None = None,
        api_key_file: str | None = None,
        structured: str = "auto",
        connection: ConnectionOptions | None = None,
        limits: SpendingLimits | None = None,
        server: "ServerProcess | None" = None,
    ) -> None:
        urls = check_endpoints(endpoints.split(",") if isinstance(endpoints, str) else endpoints)
        if not urls and server is None:
            raise CriticError("the vllm critic needs --endpoint URL (up to /v1) or --serve MODEL")
        self.rubric = rubric if isinstance(rubric, Rubric) else load_rubric(rubric)
        sampling = sampling or JudgeSampling()
        self.sampling = (
            sampling if isinstance(sampling, JudgeSampling) else JudgeSampling(**sampling)
        )
        self.usage: Counter[str] = Counter()
        self._urls, self._model, self._server = urls, model, server
        self._concurrency, self._attempts = int(concurrency), int(attempts)
        self._max_failed, self._context = float(max_failed), int(context) if context else None
        self._timeouts = timeouts or Timeouts()
        self._structured = _structured_output(structured)
        self._limits = limits or SpendingLimits()
        self._spending = Spending(self._limits, self.usage)
        self._client = Client(find_api_key(api_key, api_key_file), connection)
        self._budget_note: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._judge: Judge | None = None
        self._recent_statuses: deque[str] = deque(maxlen=FAILURE_WINDOW)
        self._recent_counts: Counter[str] = Counter()

    def __enter__(self) -> "VllmCritic":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def config(self) -> dict[str, Any]:
        """See `Critic.config`; reads tokenizer and chat template from a server.

        Raises:
            CriticError: see `connect`.
        """
        self.connect()
        assert self._judge is not None
        return {
            "critic": "vllm",
            "prompt": PROMPT_VERSION,
            "model": self._model,
            "tokenizer": self._judge.tokenizer,
            "rubric": self.rubric.content,
            "rubric_id": self.rubric.id,
            "sampling": self.sampling.to_json(),
        }

    def connect(self) -> None:
        """Connect to the servers and identify the judge behind them.

        Raises:
            CriticError: no server responds, or one serves another judge.
        """
        if self._loop is not None:
            return
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._connect())
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> None:
        if self._server is not None:
            self._urls = [*self._urls, await self._server.start(self._client)]
        if self._model is None:
            self._model = await self._only_model()
        self._prompts = PromptBuilder(self._model, self.rubric, self.sampling)
        self._endpoints = EndpointPool(
            self._urls, self._client, self._concurrency, self._timeouts, self._check
        )
        reasons = []
        for endpoint in self._endpoints.all:
            for pause in (*TRIAL_PAUSES, None):
                try:
                    await self._check(endpoint)
                    endpoint.readmit()
                    break
                except ConnectionBroken as error:
                    # A gateway may respond with 502 or a page once, and then with the server.
                    endpoint.reason = str(error)
                    if pause is not None:
                        await asyncio.sleep(pause)
                except (EndpointUnreachable, RequestTimeout) as error:
                    endpoint.reason = str(error)
                    break
            if not endpoint.is_up:
                reasons.append(self._client.explain(endpoint.url, endpoint.reason))
        if self._judge is None:
            raise CriticError(f"no server responds: {'; '.join(reasons)}")
        self._fit = PromptFit(self._prompts, self._endpoints, self._client, self._judge, self.usage)
        self._requester = DocumentRequester(
            self._prompts, self._endpoints, self._fit, self._attempts, self.usage, self._spending
        )
        self._endpoints.watch()
        if self._server is not None:
            self._supervision = asyncio.ensure_future(self._supervise(self._server))

    async def _only_model(self) -> str:
        reasons = []
        for url in self._urls:
            try:
                listed = await judge_info.served_models(self._client, url)
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
                reasons.append(self._client.explain(url, str(error)))
                continue
            if listed is None:
                raise CriticError(f"{url} does not list its models: give --model")
            models = [str(model["id"]) for model in listed]
            if len(models) != 1:
                raise CriticError(f"{url} serves {', '.join(models)}: choose one by --model")
            return str(models[0])
        raise CriticError(f"no server responds: {'; '.join(reasons)}")

    async def _check(self, endpoint: Endpoint) -> None:
        judge = await judge_info.inspect_judge(
            self._client,
            endpoint,
            self._prompts,
            wanted=self._structured,
            context=self._context,
            timeout=self._timeouts.request_seconds,
        )
        if self._judge is None:
            self._judge = judge
        elif judge.tokenizer != self._judge.tokenizer:
            raise CriticError(
                f"{endpoint.url} has another tokenizer or chat template than the first server: "
                "one critique run needs one judge"
            )
        else:
            # Any endpoint may get any document, so the smallest context counts.
            contexts = [one.context for one in (self._judge, judge) if one.context]
            self._judge = replace(self._judge, context=min(contexts, default=None))
        if self._judge.context is not None:
            overhead = self._judge.overhead or self._prompts.estimated_overhead
            self._budget_note = self._prompts.limit(self._judge.context, overhead)

    async def _supervise(self, server: "ServerProcess") -> None:
        try:
            await server.supervise(lambda: self._is_hung(server.url))
        except CriticError as error:
            self._endpoints.fail(error)

    def _is_hung(self, url: str) -> bool:
        matching = (endpoint for endpoint in self._endpoints.all if endpoint.url == url)
        return any(not one.is_up and one.reason.startswith(HUNG) for one in matching)

    def describe(self) -> list[str]:
        """Return what each server takes and gives, one line each, for the start of a run."""
        self.connect()
        assert self._judge is not None
        context = f"{self._judge.context:,}" if self._judge.context else "unknown"
        counts = "yes" if self._judge.can_count else "no, estimated"
        lines = [
            f"{one.url}: {one.capabilities.describe()}, context {context}, token counts: {counts}"
            for one in self._endpoints.all
            if one.capabilities is not None
        ]
        return lines + [note for note in (self._budget_note, self._fit.describe()) if note]

    def endpoint_stats(self) -> StatsByEndpoint:
        """Return the endpoints' statistics at this moment; empty before `connect`."""
        endpoints = getattr(self, "_endpoints", None)
        return {one.url: one.stats for one in endpoints.all} if endpoints is not None else {}

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text by the judge's tokenizer, or an estimate.

        It is an estimate where no server counts tokens. Call it between critiques, never from a
        callback inside the event loop.
        """
        self.connect()
        assert self._loop is not None
        return self._loop.run_until_complete(self._fit.count_text(text))

    @property
    def document_bytes(self) -> int | None:
        """Bytes of a document that fit, by an estimate; None where the context is not known."""
        self.connect()
        free = self._fit.free_tokens
        return None if free is None else int(free * BYTES_PER_TOKEN)

    def close(self) -> None:
        """Cancel requests, close connections, and stop the server that was started."""
        loop, self._loop = self._loop, None
        try:
            if loop is not None:
                loop.run_until_complete(self._close())
                loop.close()
        finally:
            if self._server is not None:
                self._server.stop()

    async def _close(self) -> None:
        for task in (others := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()
        self._spending.close()

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield one critique per document, in the order of their completion.

        A new document is requested only after the caller took a finished critique. So a killed
        worker loses no more critiques than requests may be in flight. An error ends the run after
        all finished critiques were yielded. A document that does not fit into the context is judged
        in parts, if the rubric says so; see `judge_parts`.

        Raises:
            CriticError: every further document would fail, for instance with another model.
        """
        self.connect()
        assert self._loop is not None
        divide = partial(self._fit.divide, loop=self._loop)
        return judge_parts(documents, divide, self._judge_whole, "chunk", JUDGED_IN_PARTS)

    def _judge_whole(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield one critique per document, each judged by one request."""
        assert self._loop is not None
        self._endpoints.resume()
        source, tasks = iter(documents), set[asyncio.Task[Critique]]()
        finished: deque[asyncio.Task[Critique]] = deque()
        wake = asyncio.Event()

        def on_done(task: asyncio.Task[Critique]) -> None:
            finished.append(task)
            wake.set()

        failure: BaseException | None = None
        try:
            while failure is None:
                while len(tasks) < self._endpoints.window:
                    document = next(source, None)
                    if document is None:
                        break
                    task = self._loop.create_task(self._requester.critique(document))
                    task.add_done_callback(on_done)
                    tasks.add(task)
                if not tasks:
                    return
                try:
                    self._loop.run_until_complete(wake.wait())
                except BaseException as error:
                    failure = error
                wake.clear()
                while finished:
                    task = finished.popleft()
                    tasks.discard(task)
                    try:
                        critique = task.result()
                    except Exception as error:
                        failure = failure or error
                        continue
                    yield critique
                    try:
                        self._check_failures(critique)
                    except CriticError as error:
                        failure = failure or error
            raise failure
        finally:
            for task in tasks:
                task.cancel()
            if tasks and not self._loop.is_closed():
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _check_failures(self, critique: Critique) -> None:
        recent, has_failed = self._recent_statuses, critique.status != OK
        if len(recent) == FAILURE_WINDOW:
            self._recent_counts[recent[0]] -= 1
        recent.append(critique.status)
        self._recent_counts[critique.status] += 1
        if not has_failed or len(recent) < FAILURE_WINDOW:
            return
        failures = self._recent_counts.copy()
        del failures[OK]
        if failures.total() <= self._max_failed * FAILURE_WINDOW:
            return
        (status, n), *_ = failures.most_common(1)
        raise CriticError(
            f"{failures.total()} of the last {FAILURE_WINDOW} documents failed, {n} of them with "
            f"{status} (the last one: {critique.error}). Fix the cause, then rerun with "
            "--retry-failed, or raise --max-failed"
        )


def _structured_output(name: str) -> StructuredOutput | None:
    if name == "auto":
        return None
    try:
        return StructuredOutput(name)
    except ValueError:
        forms = ", ".join(["auto", *StructuredOutput])
        raise CriticError(f"structured output {name!r} is unknown; valid are {forms}") from None
