"""The cost of a judge over all commands that critique the same corpus."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_data.critics import SpendingLimits
    from ixt_data.store import Store


def with_ledger(
    store: "Store",
    corpus: str,
    critic: str,
    options: Mapping[str, Any],
    limits: "SpendingLimits",
) -> "SpendingLimits":
    """Return the limits with the cost of earlier commands, and the file for that of this one.

    Args:
        store: the store of the run.
        corpus: its name.
        critic: `vllm` or `llama`.
        options: of the critic; model, rubric and sampling decide which commands count together.
        limits: of this command.

    Raises:
        CriticError: the file is not readable.
    """
    from ixt_data.critics import read_ledger
    from ixt_data.critique_runs import journal_folder
    from ixt_data.records import content_id

    # Batches have no expected score, and count with single requests.
    sampling = {key: value for key, value in options["sampling"].items() if key != "expected"}
    same = [corpus, critic, options["model"], options["rubric"].id, sampling]
    path = journal_folder(store) / "spending" / f"{content_id(same)}.txt"
    return replace(limits, spent_before=read_ledger(path), ledger=str(path))
