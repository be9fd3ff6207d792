"""A process that runs what a user has typed, and nothing else; see `workers`.

DuckDB cannot always be interrupted (a list of 200 million numbers took 320 s and 15 GB, and did
not listen), so that such statements run here, under limits that the system enforces, and are ended
by a signal. One request a line on stdin, one answer a line on stdout.
"""

import csv
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from ixt_data.errors import IxtError
from ixt_data.sql import Catalog
from ixt_data.store import Store

CELL = 2000
"""Characters of a cell that are shown."""
MOST_CELLS = 200_000
SPILLED = 8 << 30
"""Bytes of a file that a statement may write while it sorts."""


def main(root: str, memory: str) -> None:
    """Answers until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    most = int(memory)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPILLED, SPILLED))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    store, catalogs = Store.open(root), dict[int, Catalog]()
    answer({"ready": True})
    for line in sys.stdin.buffer:
        request = orjson.loads(line)
        # Ends this process although native code does not listen, and although nobody is left.
        signal.alarm(request["seconds"] + 2)
        try:
            catalog = _catalog(store, catalogs, request["at"])
            answer(_run(catalog, request))
        except IxtError as error:
            answer({"error": str(error)})
        except MemoryError:
            answer({"error": "more memory than a statement may take"})
        signal.alarm(0)


def answer(record: dict[str, Any]) -> None:
    """Writes one line."""
    sys.stdout.buffer.write(orjson.dumps(record, default=str, option=_JSON) + b"\n")
    sys.stdout.buffer.flush()


_JSON = orjson.OPT_NON_STR_KEYS


def _catalog(store: Store, catalogs: dict[int, Catalog], version: int) -> Catalog:
    if version not in catalogs:
        for old in list(catalogs):
            catalogs.pop(old).close()
        catalogs[version] = store.catalog(version)
    return catalogs[version]


def _run(catalog: Catalog, request: dict[str, Any]) -> dict[str, Any]:
    began, most = time.perf_counter(), request["rows"]
    found = catalog.run(request["sql"], request["values"] or None)
    columns = [column[0] for column in found.description or []]
    if most * len(columns) > MOST_CELLS and request["file"] is None:
        most = max(1, MOST_CELLS // len(columns))
    rows = found.fetchmany(most + 1)
    record = {
        "columns": columns,
        "types": [str(column[1]) for column in found.description or []],
        "more": len(rows) > most,
        "rows": rows[:most],
    }
    if request["file"] is not None:
        _write(Path(request["file"]), request["format"], columns, rows[:most])
        record["rows"] = []
    elif request["cut"]:
        record["rows"] = [[_cell(value) for value in row] for row in rows[:most]]
    return {**record, "seconds": time.perf_counter() - began}


def _cell(value: Any) -> str | None:
    """A value as a page shows it."""
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value[: CELL // 2].hex()
    if isinstance(value, list | dict | tuple):
        text = orjson.dumps(value, default=_plain, option=_JSON).decode()
    else:
        text = str(value)
    return text if len(text) <= CELL else f"{text[:CELL]}… ({len(text):,} characters)"


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def _write(path: Path, kind: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        return
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    path.write_bytes(orjson.dumps(records, default=_plain, option=_JSON) + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
