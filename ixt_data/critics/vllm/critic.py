"""The critic itself: every document asked until it has a critique or a reason for having none."""

import asyncio
import contextlib
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ixt_data.critics.rubric import Rubric, load_rubric
from ixt_data.critics.vllm import judge_info as judges
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    RequestTimeout,
)
from ixt_data.critics.vllm.document_request import DocumentRequester
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import FROZEN, Endpoints, Timeouts
from ixt_data.critics.vllm.endpoint_stats import Meters
from ixt_data.critics.vllm.judge_info import Judge
from ixt_data.critics.vllm.prompts import PROMPT_VERSION, JudgeSampling, PromptBuilder
from ixt_data.critics.vllm.responses import FailureStatus
from ixt_data.errors import CriticError
from ixt_data.records import OK, Critique, Document

if TYPE_CHECKING:
    from ixt_data.critics.vllm.server import Server

RECENT = 200
"""Documents over which the share of failures is watched."""


class VllmCritic:
    """A thinking judge that applies a rubric, behind one or many OpenAI-compatible servers.

    Args:
        endpoints: addresses up to `/v1`, one or several, or separated by commas.
        model: its name there; may be left out where a server has only one.
        rubric: a rubric, the name of one that comes with ixt, or its file.
        sampling: how answers are drawn.
        concurrency: requests under way at each endpoint, at most.
        attempts: how often a document is asked before its failure counts.
        max_failed: share of failures among the last 200 documents that stops the critique run.
        patience: how long to wait for what.
        context: tokens of prompt and answer together, where the server does not say.
        api_key: for servers that want one; the environment's IXT_API_KEY by default.
        server: a server of our own, which is kept alive while this critic is open.

    Attributes:
        spent: requests, `tokens_in`, `tokens_out` and `thinking_tokens` so far, with retries.
    """

    name = "vllm"
    journaled = True
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
        patience: Timeouts | None = None,
        context: int | str | None = None,
        api_key: str | None = None,
        server: "Server | None" = None,
    ) -> None:
        urls = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
        if not urls and server is None:
            raise CriticError("the vllm critic needs --endpoint URL (up to /v1) or --serve MODEL")
        self.rubric = rubric if isinstance(rubric, Rubric) else load_rubric(rubric)
        sampling = sampling or JudgeSampling()
        self.sampling = (
            sampling if isinstance(sampling, JudgeSampling) else JudgeSampling(**sampling)
        )
        self.spent: Counter[str] = Counter()
        self._urls, self._model, self._server = urls, model, server
        self._concurrency, self._attempts = int(concurrency), int(attempts)
        self._max_failed, self._context = float(max_failed), int(context) if context else None
        self._patience = patience or Timeouts()
        self._client = Client(api_key or os.environ.get("IXT_API_KEY"))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._judge: Judge | None = None
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._failures: Counter[str] = Counter()

    def __enter__(self) -> "VllmCritic":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def config(self) -> dict[str, Any]:
        """See `Critic.config`; asks a server for its tokenizer and chat template."""
        self.connect()
        assert self._judge is not None
        return {
            "critic": "vllm",
            "prompt": PROMPT_VERSION,
            "model": self._model,
            "tokenizer": self._judge.tokenizer,
            "rubric": self.rubric.model_dump(mode="json"),
            "rubric_id": self.rubric.id,
            "sampling": self.sampling.to_json(),
        }

    def connect(self) -> None:
        """Finds the servers, and what judge they are.

        Raises:
            CriticError: none answers, or one is another judge.
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
        self._requests = PromptBuilder(self._model, self.rubric, self.sampling)
        self._endpoints = Endpoints(
            self._urls, self._client, self._concurrency, self._patience, self._check
        )
        reasons = []
        for endpoint in self._endpoints.all:
            try:
                await self._check(endpoint)
                endpoint.welcome()
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
                endpoint.why = str(error)
                reasons.append(f"{endpoint.url}: {error}")
        if self._judge is None:
            raise CriticError(f"no server answers: {'; '.join(reasons)}")
        self._asker = DocumentRequester(
            self._requests, self._endpoints, self._client, self._judge, self._attempts, self.spent
        )
        self._endpoints.watch()
        if self._server is not None:
            self._keeper = asyncio.ensure_future(self._keep(self._server))

    async def _only_model(self) -> str:
        for url in self._urls:
            with contextlib.suppress(EndpointUnreachable, ConnectionBroken, RequestTimeout):
                models = [m["id"] for m in await judges.served_models(self._client, url)]
                if len(models) != 1:
                    raise CriticError(f"{url} serves {', '.join(models)}: choose one by --model")
                return str(models[0])
        raise CriticError(f"no server answers at {', '.join(self._urls)}")

    async def _check(self, endpoint: Endpoint) -> None:
        found = await judges.examine(self._client, endpoint, self._requests)
        if self._judge is None:
            self._judge = replace(found, context=found.context or self._context)
        elif found.tokenizer != self._judge.tokenizer:
            raise CriticError(
                f"{endpoint.url} has another tokenizer or chat template than the first server: "
                "one critique run needs one judge"
            )
        else:
            # Any of them may be asked: what fits must fit into all.
            contexts = [one.context for one in (self._judge, found) if one.context]
            self._judge = replace(self._judge, context=min(contexts, default=None))

    async def _keep(self, server: "Server") -> None:
        try:
            await server.keep(lambda: self._is_frozen(server.url))
        except CriticError as error:
            self._endpoints.fatal = error

    def _is_frozen(self, url: str) -> bool:
        own = (endpoint for endpoint in self._endpoints.all if endpoint.url == url)
        return any(not endpoint.up and endpoint.why.startswith(FROZEN) for endpoint in own)

    def meters(self) -> Meters:
        """What is known of the endpoints at this moment; nothing before `connect`."""
        endpoints = getattr(self, "_endpoints", None)
        return {one.url: one.meter for one in endpoints.all} if endpoints is not None else {}

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the judge's tokenizer; estimated where no server counts them.

        To be called between answers, not from within the loop.
        """
        self.connect()
        assert self._loop is not None
        return self._loop.run_until_complete(self._asker.count_text(text))

    def close(self) -> None:
        """Ends requests, connections, and the server that was started."""
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

    def run(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """See `Critic.run`: as they are answered.

        A document is begun only when the caller has taken up an earlier one, so that a killed
        worker loses no more answers than requests may be under way.

        Raises:
            CriticError: going on would be of no use, for instance since the model is another.
        """
        self.connect()
        assert self._loop is not None
        self._endpoints.resume()
        source, tasks = iter(documents), set[asyncio.Task[Critique]]()
        finished: deque[asyncio.Task[Critique]] = deque()
        wake = asyncio.Event()

        def done(task: asyncio.Task[Critique]) -> None:
            finished.append(task)
            wake.set()

        try:
            while True:
                while len(tasks) < self._endpoints.window:
                    document = next(source, None)
                    if document is None:
                        break
                    task = self._loop.create_task(self._asker.critique(document))
                    task.add_done_callback(done)
                    tasks.add(task)
                if not tasks:
                    return
                self._loop.run_until_complete(wake.wait())
                wake.clear()
                while finished:
                    task = finished.popleft()
                    critique = task.result()
                    yield critique
                    tasks.discard(task)
                    self._watch_share(critique)
        finally:
            for task in tasks:
                task.cancel()
            if tasks and not self._loop.is_closed():
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _watch_share(self, critique: Critique) -> None:
        recent, failed = self._recent, critique.status != OK
        if len(recent) == RECENT:
            self._failures[recent[0]] -= 1
        recent.append(critique.status)
        self._failures[critique.status] += 1
        if not failed or len(recent) < RECENT:
            return
        bad = self._failures.copy()
        del bad[OK]
        if bad.total() <= self._max_failed * RECENT:
            return
        (status, n), *_ = bad.most_common(1)
        raise CriticError(
            f"{bad.total()} of the last {RECENT} documents failed, {n} of them with {status} "
            f"(the last one: {critique.error}). Mend that and run again with --retry-failed, or "
            "raise --max-failed"
        )
