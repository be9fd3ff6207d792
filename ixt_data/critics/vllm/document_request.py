"""Asks about one document until there is a critique, or a reason for having none."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn

from ixt_data.critics.rubric import EXCERPTED, INSTRUCTS_JUDGE, instructs_judge
from ixt_data.critics.vllm import judge_info as judges
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    RequestTimeout,
)
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import Endpoints, ServerDied
from ixt_data.critics.vllm.judge_info import BYTES_PER_TOKEN, Judge
from ixt_data.critics.vllm.prompts import PromptBuilder, excerpt
from ixt_data.critics.vllm.responses import (
    FINAL,
    EngineCrashed,
    FailureStatus,
    InvalidResponse,
    JudgeResponse,
    Overloaded,
    read_answer,
    read_digits,
    to_critique,
)
from ixt_data.records import Critique, Document

CHAT = "/chat/completions"
ESTIMATED = "estimated_tokens"
NO_EXPECTED = "no_expected"
QUARANTINE = 2
"""Deaths of a server with a document under way after which the document is tried alone."""

MOST_BYTES = 16
"""Bytes of a token, on average, that no text is thought to have more of: what is too long by this
measure is not counted as a whole, which would take a server minutes."""

PIECE = 1 << 18
"""Characters of a bare text that are counted at a time."""

_SPARE = 16
"""Tokens kept free: servers put a few of their own around a conversation."""


class DocumentRequester:
    """Asks about documents, each on its own.

    Args:
        requests: makes the requests.
        endpoints: who is asked.
        client: for questions that no endpoint has to be free for.
        judge: what is known of them.
        attempts: how often a document is asked before its failure counts.
        spent: where requests and tokens are counted.
    """

    def __init__(
        self,
        requests: PromptBuilder,
        endpoints: Endpoints,
        client: Client,
        judge: Judge,
        attempts: int,
        spent: Counter[str],
    ) -> None:
        self._requests, self._endpoints, self._client = requests, endpoints, client
        self._judge, self._attempts, self._spent = judge, attempts, spent
        self._rubric, self._sampling = requests.rubric, requests.sampling

    async def critique(self, document: Document) -> Critique:
        """The critique of a document, or its failure."""
        flags = {INSTRUCTS_JUDGE} if instructs_judge(document.text) else set[str]()
        asked = _RequestCounts()
        try:
            prompt, coverage = await self._prompt(document, flags)
            answer = await self._answer(prompt, asked)
        except InvalidResponse as failed:
            return Critique(
                document.doc_id,
                failed.status.value,
                flags=tuple(sorted(flags)),
                error=str(failed),
                attempts=asked.attempts,
            )
        digits = None
        if self._sampling.expected:
            digits = await self._digits(prompt, answer)
            flags |= set() if digits else {NO_EXPECTED}
        critique = to_critique(document, answer, self._rubric, flags)
        scores = {**critique.scores, **({"coverage": coverage} if coverage < 1 else {})}
        expected, entropy = digits or (None, None)
        return replace(
            critique, scores=scores, expected=expected, entropy=entropy, attempts=asked.attempts
        )

    async def _prompt(self, document: Document, flags: set[str]) -> tuple[str, float]:
        """The user message for a document, and the share of the document in it.

        Raises:
            Failed: the document is too long.
        """
        context = self._judge.context
        if context is None:
            return self._rubric.user_message(document), 1.0
        room = context - self._sampling.max_tokens - _SPARE
        size, overhead = len(document.text.encode()), self._judge.overhead
        if size > MOST_BYTES * room:
            return await self._excerpt(document, flags, f"over {size // MOST_BYTES:,}", room)
        whole = self._rubric.user_message(document)
        # No tokenizer makes more tokens than bytes, so short documents need not be counted.
        if overhead is not None and overhead + size <= room:
            return whole, 1.0
        tokens = await self._count(whole, flags)
        if tokens <= room:
            return whole, 1.0
        return await self._excerpt(document, flags, f"{tokens:,}", room, tokens)

    async def _excerpt(
        self, document: Document, flags: set[str], size: str, room: int, tokens: int | None = None
    ) -> tuple[str, float]:
        rules, text = self._rubric.long, document.text
        overhead = await self._count(self._rubric.empty_message, flags)
        tokens = tokens or len(text.encode()) // MOST_BYTES + overhead
        chars = len(text) * (room - overhead) / max(1, tokens - overhead)
        flags.add(EXCERPTED)
        # Parts of one document differ in characters per token: a few rounds find what fits.
        for _ in range(6):
            part, coverage = excerpt(text, int(0.97 * chars), rules)
            if rules.policy == "refuse" or coverage < rules.min_coverage:
                break
            prompt = self._rubric.user_message(document, part)
            counted = await self._count(prompt, flags)
            if counted <= room:
                return prompt, coverage
            chars = 0.97 * chars * (room - overhead) / max(1, counted - overhead)
        flags.discard(EXCERPTED)
        raise InvalidResponse(
            FailureStatus.too_long,
            f"{size} tokens of prompt and {self._sampling.max_tokens:,} of answer do not fit "
            f"into {room + self._sampling.max_tokens + _SPARE:,}",
        )

    async def count_text(self, text: str) -> int:
        """Tokens of a bare text, estimated where no server counts them."""
        total = 0
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]

            async def ask(endpoint: Endpoint, piece: str = piece) -> int | None:
                return await judges.count_text(self._client, endpoint, self._requests, piece)

            counted = await self._asked_to_count(ask)
            total += int(len(piece.encode()) / BYTES_PER_TOKEN) if counted is None else counted
        return total

    async def _count(self, user: str, flags: set[str]) -> int:
        messages = self._requests.messages(user)

        async def ask(endpoint: Endpoint) -> int | None:
            return await judges.count(self._client, endpoint, self._requests, messages)

        counted = await self._asked_to_count(ask)
        if counted is not None:
            return counted
        flags.add(ESTIMATED)
        size = sum(len(message["content"].encode()) for message in messages)
        return int(size / BYTES_PER_TOKEN)

    async def _asked_to_count(self, ask: Callable[[Endpoint], Awaitable[int | None]]) -> int | None:
        """What a server says, None where none counts."""
        for _ in range(100 if self._judge.counts else 0):
            for endpoint in self._endpoints.all:
                if not endpoint.up:
                    continue
                with contextlib.suppress(EndpointUnreachable, ConnectionBroken, RequestTimeout):
                    self._spent["token_counts"] += 1
                    if (counted := await ask(endpoint)) is not None:
                        return counted
            if self._endpoints.fatal is not None:
                raise self._endpoints.fatal
            await asyncio.sleep(0.5)
        return None

    async def _answer(self, prompt: str, asked: "_RequestCounts") -> JudgeResponse:
        """The judge's answer to a prompt, asked as often as is sensible.

        Raises:
            Failed: there is none; the last failure counts.
        """
        while True:
            alone = asked.deaths >= QUARANTINE
            try:
                answer = await self._once(prompt, asked, alone)
                asked.attempts += 1
                return answer
            except (Overloaded, EndpointUnreachable):
                # It was never begun: the document has nothing to do with it.
                continue
            except ServerDied as died:
                asked.attempts += 1
                asked.deaths += 1
                if alone:
                    what = f"in flight at {asked.deaths} deaths of a server, at the last one alone"
                    raise InvalidResponse(FailureStatus.poison, f"{what} ({died})") from None
            except InvalidResponse as failed:
                asked.failed(failed, self._attempts, again=self._may_differ(failed))

    def _may_differ(self, failed: InvalidResponse) -> bool:
        if failed.status in (FailureStatus.timeout, FailureStatus.server_died):
            return True
        return failed.status not in FINAL and self._sampling.temperature > 0

    async def _once(self, prompt: str, asked: "_RequestCounts", alone: bool) -> JudgeResponse:
        endpoint = await (self._endpoints.acquire_alone() if alone else self._endpoints.acquire())
        epoch = endpoint.epoch
        body = self._requests.chat(prompt, asked.attempts)
        start = time.monotonic()
        try:
            self._spent["requests"] += 1
            self._spent["retries"] += asked.attempts > 0
            reply = await self._endpoints.post(endpoint, CHAT, body, epoch)
            answer = read_answer(reply, self._rubric, self._sampling.max_tokens)
            endpoint.answered(time.monotonic() - start)
        except Overloaded:
            endpoint.overloaded()
            raise
        except EngineCrashed as error:
            endpoint.set_aside(str(error), epoch)
            raise ServerDied(str(error)) from None
        except RequestTimeout as error:
            raise InvalidResponse(FailureStatus.timeout, str(error)) from None
        except ConnectionBroken as error:
            raise InvalidResponse(
                FailureStatus.server_died, f"the connection broke: {error}"
            ) from None
        except InvalidResponse as failed:
            died = failed.status is FailureStatus.server_died
            # A gateway answers, too, for a server that is gone.
            if died and await self._endpoints.has_died(endpoint, epoch):
                raise ServerDied(str(failed)) from None
            if not died and failed.status not in (FailureStatus.too_long, FailureStatus.refused):
                endpoint.answered(time.monotonic() - start)
            raise
        finally:
            self._endpoints.release(endpoint, alone)
        self._spent.update(answer.tokens)
        if not answer.judgements:
            raise answer.failures[0]
        return answer

    async def _digits(self, prompt: str, answer: JudgeResponse) -> tuple[float, float] | None:
        """Expected score and entropy; a document is not failed for the lack of them."""
        first = answer.judgements[0]
        body = self._requests.digit(prompt, first.answer, first.thinking)
        failures = 0
        while failures < self._attempts:
            endpoint = await self._endpoints.acquire()
            try:
                self._spent["requests"] += 1
                reply = await self._endpoints.post(endpoint, CHAT, body, endpoint.epoch)
            except EndpointUnreachable:
                continue
            except (ConnectionBroken, RequestTimeout, ServerDied):
                failures += 1
                continue
            finally:
                self._endpoints.release(endpoint, alone=False)
            if reply.status not in (429, 503):
                return read_digits(reply)
            endpoint.overloaded()
        return None


class _RequestCounts:
    """How often a document was asked, and how often a server died of it."""

    def __init__(self) -> None:
        self.attempts = 0
        self.deaths = 0
        self._failures = 0

    def failed(self, failed: InvalidResponse, most: int, *, again: bool) -> None:
        """Counts a failure; raises it where it is the last one."""
        self.attempts += 1
        self._failures += 1
        if not again or self._failures >= most:
            _raise(failed)


def _raise(failed: InvalidResponse) -> NoReturn:
    raise failed
