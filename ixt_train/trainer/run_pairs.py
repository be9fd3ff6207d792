"""The pairs of a train run of stage preference."""

from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from ixt_data.console import Output, format_count
from ixt_data.errors import ConfigError
from ixt_data.export import MatchedDocuments, PairTable, write_pairs
from ixt_data.mix import Mix, critics_in
from ixt_data.store import Store
from ixt_train.config import TrainConfig
from ixt_train.runs import run_folder


def find_pairs(
    folder: Path,
    config: TrainConfig,
    mix: Mix,
    store: Store,
    overwrite: bool,
    stack: ExitStack,
    out: Output | None,
) -> PairTable | None:
    """Return the pairs of stage preference, None in other stages.

    They are those in the run folder; without them, new ones in a folder until `stack` closes.

    Raises:
        ConfigError: the mix has no critic or several, or the store has no pair.
    """
    if config.stage != "preference":
        return None
    path = folder / run_folder.PAIRS
    if overwrite or not path.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(dir=folder.parent, prefix=".pairs-")
        path = Path(stack.enter_context(temporary), run_folder.PAIRS)
        selected = MatchedDocuments(
            store, corpora=mix.corpus or (), critic=_critic(mix), at=mix.snapshot
        )
        pairs, answers = write_pairs(selected, path, config.preference.min_difference)
        if out is not None:
            chosen = f"{format_count(pairs, 'pair')} of {format_count(answers, 'answer')}"
            out.note(f"{chosen}, one of each prompt that has one")
    return PairTable(path)


def _critic(mix: Mix) -> str:
    critic, *others = chain.from_iterable(map(critics_in, mix.critics))
    if critic is None or others:
        problem = f"the mix has several ({', '.join(map(str, mix.critics))})"
        raise ConfigError(
            "mix.critic: both scores of a pair are by one critic, and "
            f"{problem if others else 'the mix names none'}; name it in mix.critic"
        )
    return critic
