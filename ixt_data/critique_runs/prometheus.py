"""Prometheus metrics of a critique run, served over HTTP while it runs.

The only module that imports prometheus_client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from ixt_data.critics import LATENCY_BUCKETS_SECONDS, StatsByEndpoint
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
    """Prometheus collector with the last status that the workers reported.

    Args:
        spec: the critique run.
        documents: number of documents in the corpus.
    """

    def __init__(self, spec: CritiqueRunSpec, documents: int) -> None:
        self._spec, self._documents = spec, documents
        self._status = WorkerStatus()

    def update(self, status: WorkerStatus) -> None:
        """Store the workers' latest status."""
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as of this moment."""
        status, spec = self._status, self._spec
        labels = {"run": spec.run, "corpus": spec.corpus, "critic": spec.name or spec.critic}
        yield InfoMetricFamily("ixt_critique_run", "The critique run.", labels)
        yield GaugeMetricFamily("ixt_corpus_documents", "Documents in the corpus.", self._documents)
        statuses = dict(status.statuses)
        yield _counter("ixt_documents", "Documents critiqued in this run.", "status", statuses)
        usage = dict(status.usage)
        tokens = {kind: usage.get(key, 0) for kind, key in TOKENS.items()}
        yield _counter("ixt_tokens", "Prompt, completion, and thinking tokens.", "kind", tokens)
        yield CounterMetricFamily("ixt_requests", "Requests sent.", usage.get("requests", 0))
        yield CounterMetricFamily(
            "ixt_retries", "Requests after a failed attempt.", usage.get("retries", 0)
        )
        yield from self._endpoints(dict(status.endpoint_stats))

    def _endpoints(self, endpoint_stats: StatsByEndpoint) -> Iterator[Metric]:
        gauges = {
            "requests_in_flight": ("Requests in flight.", "in_flight"),
            "requests_limit": ("Maximum of requests in flight.", "limit"),
            "up": ("1 if the endpoint gets requests, else 0.", "is_up"),
        }
        for name, (text, attribute) in gauges.items():
            gauge = GaugeMetricFamily(f"ixt_endpoint_{name}", text, labels=["endpoint"])
            for url, stats in endpoint_stats.items():
                gauge.add_metric([url], float(getattr(stats, attribute)))
            yield gauge
        crashes = {url: stats.crashes for url, stats in endpoint_stats.items()}
        yield _counter("ixt_endpoint_crashes", "Crashes and hangs.", "endpoint", crashes)
        refusals = {url: stats.refusals for url, stats in endpoint_stats.items()}
        yield _counter(
            "ixt_endpoint_refusals", "Requests refused for overload.", "endpoint", refusals
        )
        latencies = HistogramMetricFamily(
            "ixt_response_seconds", "Latency of responses.", labels=["endpoint"]
        )
        for url, stats in endpoint_stats.items():
            counts = list(accumulate(stats.latencies.buckets))
            bounds = [*map(str, LATENCY_BUCKETS_SECONDS), "+Inf"]
            buckets = list(zip(bounds, counts, strict=True))
            latencies.add_metric([url], buckets, stats.latencies.total_seconds)
        yield latencies


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, n in values.items():
        family.add_metric([value], n)
    return family


@contextmanager
def serve_metrics(metrics: WorkerMetrics, host: str, port: int) -> Iterator[str]:
    """Serve the metrics while the block runs; yield their address.

    Args:
        metrics: the collector.
        host: address to listen on.
        port: 0 chooses a free one.

    Raises:
        ConfigError: the port is in use, or the address is not this machine's.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"--metrics-port: cannot listen on {host}:{port} ({error.strerror or error})"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
