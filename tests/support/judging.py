"""Helpers of tests with a judge: short timeouts, plain sampling, critiques of some texts."""

from typing import Any

from fake_vllm import Running
from hypothesis import strategies as st

from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.endpoint_pool import Timeouts
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.records import Critique, Document, document_id

QUICK = Timeouts(request_seconds=2.0, hung_seconds=0.6, no_server_seconds=3.0, watch_seconds=0.1)


PLAIN = JudgeSampling(expected=False)


def document(text: str) -> Document:
    return Document(document_id(text), text)


def judged(fake: Running, *texts: str, **options: Any) -> list[Critique]:
    """Return one critique per text, in the order of the texts."""
    options = {"model": "judge", "sampling": PLAIN, "timeouts": QUICK} | options
    with VllmCritic(options.pop("urls", fake.url), **options) as critic:
        found = list(critic.run(map(document, texts)))
    assert len(found) == len(texts)
    by_id = {critique.doc_id: critique for critique in found}
    return [by_id[document_id(text)] for text in texts]


SHARES = st.floats(0, 0.12)
