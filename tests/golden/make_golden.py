"""Write the golden artifacts of the present format: a store, and an interrupted train run.

Run `python tests/golden/make_golden.py` only when a format gets a new number. The artifacts of the
former formats remain, with tests of what today's code says about them.
"""

import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from golden import RUN, TEXTS, Paid, pack
from small_stores import Length, add_documents

from ixt_data.config import validate
from ixt_data.critique_runs import annotate
from ixt_data.errors import CriticError
from ixt_data.log import FORMAT, SelectionInfo, checkpoint
from ixt_data.store import Store
from ixt_train.config import TrainConfig
from ixt_train.trainer import HookCallback, train


def make_store(folder: Path) -> Store:
    """Write a store with critiques, a tag, a checkpoint, a selection, and a unit in progress."""
    store = Store.init(folder)
    add_documents(store, TEXTS, per_shard=4, lang=["en", "de"] * 6)
    annotate(store, "web", Length())
    store.tag("golden")
    with suppress(CriticError):
        annotate(store, "web", Paid(limit=6))
    while store.snapshot().version < checkpoint.EVERY + 2:
        with store.begin("select") as txn:
            txn.save_selection(SelectionInfo("long", "n_chars > 20", None, "golden", 9))
            txn.commit()
    return store


def make_run(store: Store, folder: Path) -> None:
    """Write a train run that was killed after its first checkpoint."""
    steps: list[None] = []

    def stop() -> None:
        steps.append(None)
        if len(steps) == 3:
            raise KeyboardInterrupt

    mix = {**RUN["mix"], "store": store.root}
    config = validate(TrainConfig, RUN | {"mix": mix, "run_folder": str(folder)}, "golden")
    with suppress(KeyboardInterrupt):
        train(config, callbacks=[HookCallback(lambda: None, stop)])
    shutil.rmtree(folder / "cache")
    shutil.rmtree(folder / "tensorboard")


def main() -> None:
    """Write both."""
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name, f"store-{FORMAT}"))
        pack(Path(store.root), f"store-{FORMAT}")
        make_run(store, Path(name, f"run-{FORMAT}"))
        pack(Path(name, f"run-{FORMAT}"), f"run-{FORMAT}")


if __name__ == "__main__":
    main()
