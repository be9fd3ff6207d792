"""Speed of the inspector: pages of `ixt serve` over HTTP, on a store of a million documents.

    python tools/benchmarks/serve.py --output json

The first request of a page is reported separately, because it computes results that later requests
share. Each later request has another filter, position or document.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import orjson
from judged_store import make_store
from measurements import Measurement, check_limit, log, make_parser, report

from ixt_data.store import Store

PACKAGES = ("ixt", "duckdb", "starlette", "uvicorn", "jinja2")
GOAL_MS = 150
DOCUMENTS, QUICK_DOCUMENTS = 1_000_000, 50_000
AVERAGE = "SELECT critic, avg(score) FROM critiques WHERE score > 0.{} GROUP BY 1"
MIX = """
critic: quality
selections:
  - {name: high, where: "score >= 0.8", weight: 0.6, max_repeats: 16}
  - {name: rest, where: "score < 0.8", weight: 0.4}
"""


def parse_options() -> argparse.Namespace:
    """Parse the arguments."""
    options = make_parser(__doc__)
    options.add_argument("--store", type=Path, help="store of an earlier run")
    options.add_argument("--keep", type=Path, help="leave the store in this folder")
    return options.parse_args()


@contextmanager
def server(root: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Run `ixt serve`; yield host and port."""
    command = [sys.executable, "-m", "ixt_data", "serve", "--store", root, "--port", "0"]
    command += ["--mixes", str(folder), "--runs", str(folder), "--output", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            address = orjson.loads(process.stdout.readline())["url"]
            host, port = address.removeprefix("http://").rstrip("/").split(":")
            yield host, int(port)
        finally:
            process.terminate()


def request_page(connection: http.client.HTTPConnection, address: str) -> tuple[float, str]:
    """Return the milliseconds until the page is complete, and the page."""
    start = time.perf_counter()
    connection.request("GET", address)
    response = connection.getresponse()
    page = response.read().decode()
    milliseconds = 1000 * (time.perf_counter() - start)
    if response.status != 200 or 'role="alert"' in page:
        raise RuntimeError(f"{address}: {response.status}: {page[-2000:]}")
    return milliseconds, page


def write_extras(folder: Path) -> None:
    """Write a mix, and three train runs of 10,000 steps."""
    (folder / "best.yaml").write_text(MIX)
    for name in ("first", "second", "third"):
        (folder / name).mkdir()
        rows = (
            {"step": n, "tokens": 4096 * n, "samples": 16 * n, "seconds": n / 9, "loss": 2 + 9 / n}
            for n in range(1, 10_001)
        )
        (folder / name / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def addresses(store: Store, rounds: int) -> dict[str, list[str]]:
    """Return distinct addresses by kind of page."""
    chooser = random.Random(0)
    version = store.snapshot().version
    sql = (
        "SELECT doc_id, corpus, score FROM documents JOIN critiques USING (doc_id) "
        f"WHERE critic = 'quality' USING SAMPLE {rounds + 1} ROWS"
    )
    rows = store.sql(sql).arrow().to_pylist()

    def web(_: int) -> dict[str, str]:
        low = chooser.randrange(8) / 10
        number = chooser.randrange(40)
        return {"corpus": "web", "source": f"web-{number:02}.example", "low": f"{low:g}"}

    def documents(**query: str) -> str:
        return f"/documents?{urlencode(query)}"

    def position(row: int) -> str:
        values = rows[row]
        return f"{values['score'] or ''},{values['doc_id']},{values['corpus']}"

    orders = [f"sort={s}&order={o}" for s in ("score", "length", "entropy") for o in ("up", "down")]
    axes, corpora = ("length", "source", "entropy", "critic.style"), ("", "web", "code")
    complaints = ("no source", "the end is cut", "boilerplate", "a step is missing", "vague")
    factories: dict[str, Callable[[int], str]] = {
        "overview": lambda _: "/",
        "snapshots": lambda n: f"/snapshots?before={version - n % version + 2}",
        "diff of two snapshots": lambda _: f"/snapshots/diff?from=2&to={version}",
        "scores": lambda n: f"/scores?critic={('quality', 'style')[n % 2]}",
        "documents": lambda n: f"/documents?{orders[n % len(orders)]}",
        "documents, a random page": lambda n: f"/documents?after={position(n)}",
        "documents, back": lambda n: f"/documents?before={position(n)}",
        "documents, filtered": lambda n: documents(**web(n)),
        "documents, words in critiques": lambda n: documents(text=complaints[n % 5], **web(n)),
        "documents, a predicate": lambda n: documents(where=f"n_bytes > {400 + n} AND score < 0.5"),
        "documents, an isolated predicate": lambda n: documents(
            where=f"scores['facts'] >= 4 AND n_bytes > {400 + n}"
        ),
        "a document": lambda n: f"/documents/{rows[n]['doc_id']}",
        "a chart of scores": lambda n: f"/charts?x={axes[n % 4]}&corpus={corpora[n % 3]}",
        "two critics": lambda n: f"/critics?{urlencode(web(n))}",
        "mixes": lambda _: "/mixes",
        "a mix with other weights": lambda n: f"/mixes/best?weight.high={0.3 + n / 1000:g}",
        "critique runs": lambda _: "/critique-runs",
        "train runs": lambda _: "/train-runs",
        "SQL": lambda n: "/sql?" + urlencode({"sql": AVERAGE.format(n)}),
    }
    return {kind: [make(n) for n in range(rounds + 1)] for kind, make in factories.items()}


def measure(store: Store, rounds: int) -> list[Measurement]:
    """Measure the first response of each kind of page, and the median of the next ones."""
    measurements, medians = [], []
    with tempfile.TemporaryDirectory(prefix="ixt-bench-") as extras:
        write_extras(Path(extras))
        pages = addresses(store, rounds)
        start = time.perf_counter()
        with server(store.root, Path(extras)) as (host, port):
            connection = http.client.HTTPConnection(host, port, timeout=120)
            opened = time.perf_counter() - start
            for kind, page_addresses in pages.items():
                log(kind)
                times = [request_page(connection, address)[0] for address in page_addresses]
                median = statistics.median(times[1:])
                medians.append(median)
                measurements.append(check_limit(kind, median, "ms", GOAL_MS, is_maximum=True))
                measurements.append(Measurement(f"{kind}: first request", times[0], "ms"))
            connection.close()
    over_all = statistics.median(medians)
    return [
        Measurement("start of the server", opened, "s"),
        check_limit("median over kinds of pages", over_all, "ms", GOAL_MS, is_maximum=True),
        *measurements,
    ]


def main() -> None:
    """Create the store and measure every kind of page."""
    options = parse_options()
    documents = QUICK_DOCUMENTS if options.quick else DOCUMENTS
    with tempfile.TemporaryDirectory(prefix="ixt-bench-") as folder:
        if options.store is not None:
            store = Store.open(options.store)
        else:
            log(f"creating a store of {documents:,} documents with two critics")
            store = make_store((options.keep or Path(folder)) / "store", documents)
        measurements = measure(store, rounds=5 if options.quick else 15)
    report(measurements, PACKAGES, options.output)


if __name__ == "__main__":
    main()
