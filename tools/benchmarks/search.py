"""Full-text search: building indexes against ingest of the same documents, and searches.

Run `python tools/benchmarks/search.py [--documents N]`. The documents have 320 words of a skewed
vocabulary, about 2 KB. Searches are measured with open indexes, and once in a new process.
"""

import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measurements import (
    Measurement,
    check_limit,
    compare,
    log,
    make_parser,
    measure_seconds,
    report,
)

from ixt_data.analysis import build_indexes
from ixt_data.ingestion import ingest
from ixt_data.search import SearchWords
from ixt_data.store import Store

WORDS = 50_000


def texts(n: int) -> Iterator[str]:
    """Yield documents whose words have the frequencies of a natural language."""
    chooser = random.Random(0)
    words = [f"w{i}" if i < 1000 else f"{chooser.getrandbits(44):x}" for i in range(WORDS)]
    weights = list(itertools.accumulate(1 / (i + 1) for i in range(WORDS)))
    for _ in range(n):
        yield " ".join(chooser.choices(words, cum_weights=weights, k=320))


SEARCHES = {
    "a frequent word": "w3",
    "a rare word": "w900",
    "two words": "w40 w500",
    "a phrase": '"w1 w2"',
    "a prefix": "w90*",
    "words without another": "w20 w30 -w2",
}


def measure(folder: Path, n: int) -> list[Measurement]:
    """Measure building and searching."""
    source = folder / "documents.jsonl"
    log(f"writing {n:,} documents ...")
    with source.open("w") as file:
        for number, text in enumerate(texts(n)):
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    store = Store.init(folder / "S")
    ingesting = measure_seconds(lambda: ingest(store, "web", [source]))
    log(f"ingest {ingesting:.1f} s")
    building = measure_seconds(lambda: build_indexes(store))
    log(f"index {building:.1f} s")
    measurements = [
        compare("build an index", building, "s", "ingest", ingesting, 2, is_maximum=True)
    ]
    sizes = {
        family: sum(shard.stored.bytes for shard in store.snapshot().family(family))
        for family in ("text", "search/text")
    }
    measurements.append(
        compare(
            "bytes of the index",
            sizes["search/text"],
            "bytes",
            "bytes of the texts, zstd",
            sizes["text"],
            3,
            is_maximum=True,
        )
    )
    first = measure_seconds(lambda: store.search("w3"))
    measurements.append(Measurement("the first search, unpacking", 1000 * first, "ms"))
    command = [sys.executable, "-m", "ixt_data", "search", "w900", "--store", store.root]
    again = measure_seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    measurements.append(Measurement("ixt search in a new process", 1000 * again, "ms"))
    for name, words in SEARCHES.items():
        SearchWords.parse(words)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            found = store.search(words)
            times.append(time.perf_counter() - start)
        log(f"{name}: {found.total:,} matches")
        median = 1000 * statistics.median(times)
        measurements.append(check_limit(f"search {name}", median, "ms", 50, is_maximum=True))
    return measurements


def main() -> None:
    """Measure and print."""
    options = make_parser(__doc__)
    options.add_argument("--documents", type=int, default=1_000_000)
    arguments = options.parse_args()
    n = 20_000 if arguments.quick else arguments.documents
    with tempfile.TemporaryDirectory(prefix="ixt-search-") as folder:
        report(measure(Path(folder), n), ["tantivy", "duckdb"], arguments.output)


if __name__ == "__main__":
    main()
