"""The machine: memory, cores, shared memory, temporary files, open files."""

import os
import re
import resource
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ixt_data.console import format_count
from ixt_tools.doctor.check import Check, format_size
from ixt_train.runs import too_long_for_sockets

SHARED_MEMORY = Path("/dev/shm")
GB = 1e9
MIN_FREE_BYTES = 0.2 * GB
LOW_FREE_BYTES = 5 * GB
LOW_MEMORY_BYTES = 2 * GB
LOW_SHARED_BYTES = 0.5 * GB
MIN_OPEN_FILES = 4096
MAX_LOCKS = 1000
_STREAMING = re.compile(r"\d{6}_\w+")
_LOCK = re.compile(r"\d{6}_\w*filelock")


def check_machine() -> Iterator[Check]:
    """Yield all checks that need neither a store nor a network."""
    yield from check_memory()
    yield from check_cores()
    yield from check_shared_memory(SHARED_MEMORY)
    # tempfile.gettempdir() would silently skip an unusable folder.
    yield from check_temporary(Path(os.environ.get("TMPDIR") or "/tmp"))
    yield from check_open_files()


def check_memory() -> Iterator[Check]:
    """Check the free memory, within the limit of a container, on Linux."""
    if not Path("/proc/meminfo").exists():
        return
    free, total = _memory()
    what = f"{format_size(free)} free of {format_size(total)}"
    if free < LOW_MEMORY_BYTES:
        remedy = "end other programs; IXT_QUERY_MEMORY=1GB bounds queries"
        yield Check("memory", "warning", what, remedy)
    else:
        yield Check("memory", "ok", what)


def _memory() -> tuple[float, float]:
    figures = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free, total = (1024.0 * int(figures[k].split()[0]) for k in ("MemAvailable", "MemTotal"))
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text())
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free, total
    return min(free, limit - used), min(total, limit)


def check_cores() -> Iterator[Check]:
    """Check the cores, and the threads that torch and DuckDB will use."""
    cores, threads = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    name, what = "cores", f"{cores}, OMP_NUM_THREADS {threads or 'not set'}"
    if threads is None or not threads.isdigit():
        if threads is not None:
            yield Check(name, "broken", what, "set OMP_NUM_THREADS to a number")
        else:
            yield Check(name, "ok", what, "for several processes: OMP_NUM_THREADS=1")
    elif int(threads) > cores:
        remedy = f"set OMP_NUM_THREADS to {cores} at most: more threads than cores compete"
        yield Check(name, "warning", what, remedy)
    else:
        yield Check(name, "ok", what)


def check_shared_memory(folder: Path) -> Iterator[Check]:
    """Check shared memory, which streams and loader workers use, and segments of killed jobs."""
    name = "shared memory"
    if not folder.is_dir():
        yield Check(name, "broken", f"{folder} does not exist", f"mount a tmpfs at {folder}")
        return
    usage = shutil.disk_usage(folder)
    what = f"{format_size(usage.free)} free of {format_size(usage.total)} at {folder}"
    if usage.free < LOW_SHARED_BYTES:
        remedy = "docker run --shm-size=8g, or in Kubernetes an emptyDir of medium Memory there"
        yield Check(name, "warning", what, remedy)
    else:
        yield Check(name, "ok", what)
    if stale := list(_stale(folder)):
        amount = format_size(sum(path.stat().st_size for path in stale))
        yield Check(
            "stale segments",
            "warning",
            f"{format_count(len(stale), 'segment')} of streaming that no process has open, "
            f"{amount}",
            f"rm {' '.join(map(str, stale[:3]))}{' ...' if len(stale) > 3 else ''}, or "
            'python -c "from streaming.base.util import clean_stale_shared_memory as c; c()"',
        )
    else:
        yield Check("stale segments", "ok", "none")


def _stale(folder: Path) -> Iterator[Path]:
    """Yield segments of this user that no process has mapped."""
    own = [
        path
        for path in sorted(folder.iterdir())
        if _STREAMING.fullmatch(path.name) and path.stat().st_uid == os.getuid()
    ]
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if own else ():
        try:
            text = maps.read_text()
        except OSError:
            # The process belongs to another user, or has exited.
            continue
        mapped |= {path for path in own if str(path) in text}
    yield from (path for path in own if path not in mapped)


def check_temporary(folder: Path) -> Iterator[Check]:
    """Check the folder for temporary files: writable, free space, short path, no foreign locks."""
    probe = folder / f"ixt-doctor-{uuid.uuid4().hex}"
    name = "TMPDIR"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        what = f"{folder} is not writable: {error.strerror}"
        yield Check(name, "broken", what, "set TMPDIR to a folder on a local disk with free space")
        return
    finally:
        with suppress(OSError):
            probe.unlink()
    yield check_free_space(
        name, folder, "set TMPDIR to a folder on a larger disk: queries spill there"
    )
    if (problem := too_long_for_sockets(folder)) is None:
        yield Check("worker sockets", "ok", f"their paths in {folder} are short enough")
    else:
        remedy = "set TMPDIR to a shorter folder, or train with num_workers: 0"
        yield Check("worker sockets", "warning", problem, remedy)
    locks = [path for path in folder.iterdir() if _LOCK.fullmatch(path.name)]
    foreign = [path for path in locks if not os.access(path, os.W_OK)]
    if foreign:
        yield Check(
            "lock files",
            "broken",
            f"{format_count(len(foreign), 'lock')} of streaming in {folder} of another user",
            "set TMPDIR to a folder of this user",
        )
    elif len(locks) > MAX_LOCKS:
        what = f"{format_count(len(locks), 'lock')} of streaming in {folder}"
        yield Check("lock files", "warning", what, f"while no job runs: rm {folder}/*_*filelock")
    else:
        yield Check(
            "lock files", "ok", f"{format_count(len(locks), 'lock')} of streaming in {folder}"
        )


def check_free_space(name: str, folder: Path, remedy: str) -> Check:
    """Check the free space on the disk of a folder."""
    usage = shutil.disk_usage(folder)
    what = f"{folder}: {format_size(usage.free)} free of {format_size(usage.total)}"
    if usage.free < MIN_FREE_BYTES:
        return Check(name, "broken", what, remedy)
    return Check(
        name, *(("warning", what, remedy) if usage.free < LOW_FREE_BYTES else ("ok", what))
    )


def check_open_files() -> Iterator[Check]:
    """Check the limit of open files: shards, connections, leases."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard_limit = "none" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    if soft == resource.RLIM_INFINITY or soft >= MIN_OPEN_FILES:
        yield Check("open files", "ok", f"limit {soft:,}")
    else:
        yield Check(
            "open files", "warning", f"limit {soft:,}, hard limit {hard_limit}", "ulimit -n 65536"
        )
