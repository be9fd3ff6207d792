"""A critique run's figures for Prometheus, over HTTP while it goes on.

The only module that imports prometheus_client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from ixt_data.critics import SECONDS, Meter
from ixt_data.critique_runs.workers import CritiqueRunSpec, WorkerStatus
from ixt_data.errors import ConfigError, MissingExtra

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtra("prometheus_client", "metrics") from None

TOKENS = {"in": "tokens_in", "out": "tokens_out", "thinking": "thinking_tokens"}


class WorkerMetrics(Collector):
    """What is scraped: what the workers said last.

    Args:
        job: the critique run.
        documents: of the corpus.
    """

    def __init__(self, job: CritiqueRunSpec, documents: int) -> None:
        self._job, self._documents = job, documents
        self._told = WorkerStatus()

    def tell(self, told: WorkerStatus) -> None:
        """Takes what the workers say."""
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """All metrics at this moment."""
        told, job = self._told, self._job
        run = {"run": job.run, "corpus": job.corpus, "critic": job.name or job.critic}
        yield InfoMetricFamily("ixt_critique_run", "The critique run.", run)
        yield GaugeMetricFamily("ixt_corpus_documents", "Documents of the corpus.", self._documents)
        yield _counter("ixt_documents", "Documents asked about.", "status", dict(told.statuses))
        spent = dict(told.spent)
        tokens = {kind: spent.get(key, 0) for kind, key in TOKENS.items()}
        yield _counter("ixt_tokens", "Tokens of prompts, answers, and thinking.", "kind", tokens)
        yield CounterMetricFamily("ixt_requests", "Requests sent.", spent.get("requests", 0))
        yield CounterMetricFamily(
            "ixt_retries", "Requests for documents asked before.", spent.get("retries", 0)
        )
        yield from self._endpoints(dict(told.meters))

    def _endpoints(self, meters: dict[str, Meter]) -> Iterator[Metric]:
        figures = {
            "in_flight": "Requests under way.",
            "limit": "Requests that the endpoint gets at a time.",
            "up": "Whether the endpoint gets any.",
        }
        for name, text in figures.items():
            gauge = GaugeMetricFamily(f"ixt_endpoint_{name}", text, labels=["endpoint"])
            for url, meter in meters.items():
                gauge.add_metric([url], float(getattr(meter, name)))
            yield gauge
        deaths = {url: meter.deaths for url, meter in meters.items()}
        yield _counter("ixt_endpoint_deaths", "Deaths of the endpoint.", "endpoint", deaths)
        refusals = {url: meter.refusals for url, meter in meters.items()}
        yield _counter("ixt_endpoint_refusals", "Refused for overload.", "endpoint", refusals)
        times = HistogramMetricFamily(
            "ixt_answer_seconds", "From a request to its answer.", labels=["endpoint"]
        )
        for url, meter in meters.items():
            counts = list(accumulate(meter.times.buckets))
            ends = [*map(str, SECONDS), "+Inf"]
            times.add_metric([url], list(zip(ends, counts, strict=True)), meter.times.total)
        yield times


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, n in values.items():
        family.add_metric([value], n)
    return family


@contextmanager
def serving(metrics: WorkerMetrics, host: str, port: int) -> Iterator[str]:
    """Answers scrapes while the block runs; gives the address.

    Args:
        metrics: what is scraped.
        host: the address to listen at.
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"--metrics-port: cannot listen at {host}:{port} ({error.strerror or error})"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
