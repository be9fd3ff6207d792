"""All requests for one document, until it has a critique or a final failure."""

import time
from collections import Counter
from dataclasses import replace

from ixt_data.critics.rubric import INSTRUCTS_JUDGE, instructs_judge
from ixt_data.critics.vllm.capabilities import EVERYTHING, StructuredOutput
from ixt_data.critics.vllm.client import (
    ConnectionBroken,
    EndpointUnreachable,
    HttpResponse,
    RequestTimeout,
)
from ixt_data.critics.vllm.endpoint_pool import EndpointPool, ServerCrashed
from ixt_data.critics.vllm.failures import (
    FINAL_STATUSES,
    OVERLOADED,
    EngineCrashed,
    FailureStatus,
    InvalidResponse,
    Overloaded,
)
from ixt_data.critics.vllm.prompt_fit import PromptFit
from ixt_data.critics.vllm.prompts import PromptBuilder
from ixt_data.critics.vllm.responses import (
    JudgeResponse,
    read_digits,
    read_judge_response,
    to_critique,
)
from ixt_data.critics.vllm.spending import BudgetSpent, Reservation, Spending
from ixt_data.records import Critique, Document

CHAT = "/chat/completions"
NO_EXPECTED = "no_expected"
QUARANTINE_CRASHES = 2
"""After this many server crashes with a document in flight, it is retried exclusively."""


class DocumentRequester:
    """Requests for documents, each document independent of the others.

    Args:
        prompts: builds the request bodies.
        endpoints: the servers.
        fit: fits documents into the context.
        attempts: maximum of requests per document until its failure is final.
        usage: counts requests and tokens.
        spending: limits rates and cost.
    """

    def __init__(
        self,
        prompts: PromptBuilder,
        endpoints: EndpointPool,
        fit: PromptFit,
        attempts: int,
        usage: Counter[str],
        spending: Spending,
    ) -> None:
        self._prompts, self._endpoints, self.fit = prompts, endpoints, fit
        self._max_attempts, self._usage, self._spending = attempts, usage, spending
        self._rubric, self._sampling = prompts.rubric, prompts.sampling

    async def critique(self, document: Document) -> Critique:
        """Return the critique of a document, or a critique with the status of its failure.

        Raises:
            CriticError: every further document would fail, too.
        """
        flags = {INSTRUCTS_JUDGE} if instructs_judge(document.text) else set[str]()
        counts = _RequestCounts()
        try:
            prompt, coverage = await self.fit.prompt(document, flags)
            response = await self._request_samples(prompt, counts)
        except InvalidResponse as failure:
            return Critique(
                document.doc_id,
                failure.status.value,
                flags=tuple(sorted(flags)),
                error=str(failure),
                attempts=counts.attempts,
            )
        distribution = None
        flags |= counts.flags
        if self._sampling.expected and self._endpoints.give_logprobs:
            distribution = await self._score_distribution(prompt, response)
        if self._sampling.expected and distribution is None:
            flags.add(NO_EXPECTED)
        critique = covered(to_critique(document, response, self._rubric, flags), coverage)
        expected, entropy = distribution or (None, None)
        return replace(critique, expected=expected, entropy=entropy, attempts=counts.attempts)

    async def _request_samples(self, prompt: str, counts: "_RequestCounts") -> JudgeResponse:
        """Return all completions of a document, from several requests where a server needs them.

        Raises:
            InvalidResponse: no completion is valid.
        """
        response = await self._request(prompt, counts)
        while len(response.judgements) + len(response.failures) < self._sampling.samples:
            try:
                more = await self._request(prompt, counts)
            except InvalidResponse as failure:
                response.failures.append(failure)
                continue
            response.judgements += more.judgements
            response.failures += more.failures
            response.tokens += more.tokens
        return response

    async def _request(self, prompt: str, counts: "_RequestCounts") -> JudgeResponse:
        """Return the judge's response to a prompt, with retries where they may help.

        Raises:
            InvalidResponse: every attempt failed; it is the last failure.
        """
        while True:
            is_exclusive = counts.crashes >= QUARANTINE_CRASHES
            try:
                response = await self._request_once(prompt, counts, is_exclusive)
                counts.attempts += 1
                return response
            except (Overloaded, EndpointUnreachable):
                # The server never started on it, so it is not an attempt.
                continue
            except ServerCrashed as crash:
                counts.attempts += 1
                counts.crashes += 1
                if is_exclusive:
                    raise InvalidResponse(
                        FailureStatus.poison,
                        f"in flight at {counts.crashes} server crashes, at the last one as the "
                        f"only request ({crash})",
                    ) from None
            except InvalidResponse as failure:
                counts.degenerate += failure.status is FailureStatus.degenerate
                is_final = not self.may_succeed_later(failure) or counts.degenerate > 1
                counts.add_failure(failure, self._max_attempts, is_final=is_final)

    def may_succeed_later(self, failure: InvalidResponse) -> bool:
        """Return whether another request for the same document may succeed."""
        if failure.status in (FailureStatus.timeout, FailureStatus.server_crashed):
            return True
        return failure.status not in FINAL_STATUSES and self._sampling.temperature > 0

    async def _request_once(
        self, prompt: str, counts: "_RequestCounts", is_exclusive: bool
    ) -> JudgeResponse:
        size = self.prompt_bytes(prompt)
        max_tokens = self._prompts.max_tokens * self._sampling.samples
        async with self._spending.reserve(size, max_tokens) as expected:
            return await self._send(prompt, counts, is_exclusive, expected)

    def prompt_bytes(self, prompt: str) -> int:
        """Return the bytes of all messages of a request."""
        return sum(len(one["content"].encode()) for one in self._prompts.messages(prompt))

    async def _send(
        self, prompt: str, counts: "_RequestCounts", is_exclusive: bool, expected: Reservation
    ) -> JudgeResponse:
        pool = self._endpoints
        endpoint = await (pool.acquire_exclusive() if is_exclusive else pool.acquire())
        epoch = endpoint.epoch
        server = endpoint.capabilities or EVERYTHING
        body = self._prompts.chat(prompt, counts.attempts, server)
        start = time.monotonic()
        try:
            await self._spending.pace(expected)
            epoch, start = endpoint.epoch, time.monotonic()
            self._usage["requests"] += 1
            self._usage["retries"] += counts.attempts > 0
            reply = await pool.post(endpoint, CHAT, body, epoch)
            expected.record(reply)
            response = read_judge_response(reply, self._rubric, self._prompts.max_tokens)
            endpoint.check_model(response.model)
            if server.structured is not StructuredOutput.json_schema:
                counts.flags.add(f"answer_by_{server.structured}")
            endpoint.record_response(time.monotonic() - start)
        except Overloaded as refusal:
            endpoint.record_refusal(refusal.retry_after)
            raise
        except EndpointUnreachable:
            expected.cancel()
            raise
        except EngineCrashed as error:
            endpoint.mark_crashed(str(error), epoch)
            raise ServerCrashed(str(error)) from None
        except RequestTimeout as error:
            raise InvalidResponse(FailureStatus.timeout, str(error)) from None
        except ConnectionBroken as error:
            raise InvalidResponse(
                FailureStatus.server_crashed, f"the connection broke: {error}"
            ) from None
        except InvalidResponse as failure:
            is_server_error = failure.status is FailureStatus.server_crashed
            # A gateway responds with HTTP 5xx for a server behind it that crashed.
            if is_server_error and await pool.has_crashed(endpoint, epoch):
                raise ServerCrashed(str(failure)) from None
            unserved = (FailureStatus.too_long, FailureStatus.refused)
            if not is_server_error and failure.status not in unserved:
                endpoint.record_response(time.monotonic() - start)
            raise
        finally:
            pool.release(endpoint, is_exclusive)
        self._usage.update(response.tokens)
        if not response.judgements:
            raise response.failures[0]
        return response

    async def _score_distribution(
        self, prompt: str, response: JudgeResponse
    ) -> tuple[float, float] | None:
        """Return expected score and entropy, None without failing the document."""
        first = response.judgements[0]
        body = self._prompts.digit(prompt, first.answer, first.thinking)
        failures = 0
        while failures < self._max_attempts:
            try:
                # The critique is paid: it is kept without this score rather than lost.
                async with self._spending.reserve(len(body), 1, waits=False) as expected:
                    reply = await self._send_digit(body, expected)
            except BudgetSpent:
                return None
            except EndpointUnreachable:
                continue
            except (ConnectionBroken, RequestTimeout, ServerCrashed):
                failures += 1
                continue
            if reply is not None:
                return read_digits(reply)
        return None

    async def _send_digit(self, body: bytes, expected: Reservation) -> HttpResponse | None:
        """Return the response to a request for one digit, None from a busy server."""
        endpoint = await self._endpoints.acquire()
        try:
            await self._spending.pace(expected)
            self._usage["requests"] += 1
            reply = await self._endpoints.post(endpoint, CHAT, body, endpoint.epoch)
        except EndpointUnreachable:
            expected.cancel()
            raise
        finally:
            self._endpoints.release(endpoint, exclusive=False)
        self._usage.update(expected.record(reply))
        if reply.status in OVERLOADED:
            endpoint.record_refusal(reply.retry_after)
            return None
        return reply


def covered(critique: Critique, coverage: float) -> Critique:
    """Return a critique with the share of the document that the judge saw, if that is below 1."""
    if coverage == 1:
        return critique
    return replace(critique, scores={**critique.scores, "coverage": coverage})


class _RequestCounts:
    """Attempts for one document, server crashes during them, and flags for its critique."""

    def __init__(self) -> None:
        self.attempts = 0
        self.crashes = 0
        self.degenerate = 0
        self.flags = set[str]()
        self._failures = 0

    def add_failure(self, failure: InvalidResponse, max_failures: int, *, is_final: bool) -> None:
        """Count a failed attempt; raise its error if it is the last one."""
        self.attempts += 1
        self._failures += 1
        if is_final or self._failures >= max_failures:
            raise failure
