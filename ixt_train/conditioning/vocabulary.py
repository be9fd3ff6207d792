"""The tokenizer of a train run: its training texts, and the tokens that feedback needs."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ixt_data.mix import Mix, Scope
from ixt_data.store import Store
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS, tag_token
from ixt_train.conditioning.tokenizer import load_tokenizer, train_tokenizer
from ixt_train.config import TokenizerConfig

_TAG_DOCUMENTS = 100_000


def prepare_tokenizer(
    config: TokenizerConfig | Path, store: Store, mix: Mix, saved: Path | None
) -> Any:
    """Load or train the tokenizer that a config names; reuse a saved one.

    Args:
        config: training settings, or a folder with a tokenizer.
        store: the mix's store.
        mix: the mix of the train run.
        saved: folder with the result of a previous call, if any.

    If the mix conditions on spans, each tag that occurs gets a dedicated token.

    Raises:
        ConfigError: the folder contains no tokenizer, or the vocabulary is too small.
    """
    special = list(SPECIAL_TOKENS)
    if any(mix.condition_in(phase).kind == "spans" for phase in mix.phases()):
        special += [tag_token(tag) for tag in span_tags(store, mix)]
    folder = config if isinstance(config, Path) else config.path
    if folder is not None:
        return load_tokenizer(folder, special)
    if saved is not None and saved.is_dir():
        return load_tokenizer(saved, special)
    assert isinstance(config, TokenizerConfig)
    assert config.train is not None
    return train_tokenizer(corpus_texts(store, mix, config.train.samples), config.train, special)


def corpus_texts(store: Store, mix: Mix, limit: int) -> Iterator[str]:
    """Yield the first documents of a mix's corpora, up to `limit`, and their critiques."""
    with Scope(store, mix) as scope:
        for shard in scope.shards:
            texts = store.shard(shard).column("text")[:limit]
            yield from texts
            for critic in scope.critics:
                critique = scope.critiques_of(shard, critic)
                if critique is not None:
                    yield from store.shard(critique).column("critique")[:limit]
            limit -= len(texts)
            if limit <= 0:
                return


def span_tags(store: Store, mix: Mix, limit: int = _TAG_DOCUMENTS) -> list[str]:
    """Return the tags of spans in the first critiques of a mix's corpora, sorted."""
    tags: set[str] = set()
    with Scope(store, mix) as scope:
        for shard, critic in product(scope.shards, scope.critics):
            critique = scope.critiques_of(shard, critic)
            if critique is not None and limit > 0:
                rows = store.shard(critique).column("spans")[:limit]
                limit -= len(rows)
                tags.update(span[3] for spans in rows for span in spans if span[3])
    return sorted(tags)
