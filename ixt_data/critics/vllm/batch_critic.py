"""The judge behind a vendor's batch API: the same critiques for about half the price, in a day.

Its critic id is that of the same judge without batches.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ixt_data.critics.vllm.batch_api import MAX_BATCH_REQUESTS, BatchApi
from ixt_data.critics.vllm.batch_journal import BatchJournal
from ixt_data.critics.vllm.batch_judge import BatchJudge
from ixt_data.critics.vllm.batch_run import BatchRun
from ixt_data.critics.vllm.capabilities import EVERYTHING
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document, content_id

BATCH_CRITIC = f"{__name__}:BatchCritic"
"""Name of the critic for `load_critic`."""


class BatchCritic(VllmCritic):
    """A judge that gets its documents in batches; options as those of `vllm`, with one endpoint.

    Args:
        folder: for the journals of batches.
        batch_requests: documents per batch.
        poll_seconds: time between two looks at the batches.
        options: see `VllmCritic`.

    Raises:
        CriticError: there is not one endpoint, or a number is out of its range.
    """

    def __init__(
        self,
        folder: str,
        batch_requests: int | str = 10_000,
        poll_seconds: float | str = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._folder = Path(folder)
        self._batch_requests, self._poll_seconds = int(batch_requests), float(poll_seconds)
        if len(self._urls) != 1 or self._server is not None:
            raise CriticError("batches need exactly one --endpoint")
        if not 1 <= self._batch_requests <= MAX_BATCH_REQUESTS:
            raise CriticError(
                f"{self._batch_requests:,} requests per batch: give 1 to {MAX_BATCH_REQUESTS:,}"
            )
        if self.sampling.expected:
            raise CriticError("batches give no expected score: set expected to false")

    def _judge_whole(self, documents: Iterable[Document]) -> Iterator[Critique]:
        """Yield one critique per document, batch by batch.

        It takes the documents of several batches before it yields the first critique.
        """
        assert self._loop is not None
        judge = BatchJudge(
            self._requester,
            self._prompts,
            self._endpoints.all[0].capabilities or EVERYTHING,
            self._spending,
            self.usage,
            self._attempts,
        )
        api = BatchApi(
            self._client,
            self._urls[0],
            self._timeouts.request_seconds,
            self._timeouts.no_server_seconds,
            min(1.0, self._poll_seconds),
        )
        # A batch belongs to its judge and its server.
        folder = self._folder / content_id([self.config(), self._urls[0]])
        size, pause = self._batch_requests, self._poll_seconds
        with BatchJournal(folder) as journal:
            run = BatchRun(iter(documents), judge, api, journal, size, pause)
            try:
                while not run.is_done:
                    # Outside of the event loop: a document's division may count its tokens.
                    run.take_documents()
                    for critique in self._loop.run_until_complete(run.advance()):
                        yield critique
                        self._check_failures(critique)
                    # The caller has taken, and journaled, all critiques of the ended batches.
                    run.forget_ended()
            finally:
                if not self._loop.is_closed():
                    self._loop.run_until_complete(run.close())
