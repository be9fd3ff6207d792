"""Source ids that several documents of a corpus have, for the summary of an ingest."""

from ixt_data.store import Store


def repeated_source_ids(store: Store, corpus: str, version: int, transaction: str) -> str | None:
    """Return a remark about the documents of a commit whose source ids are not theirs alone.

    Args:
        store: the store.
        corpus: the corpus that the commit belongs to.
        version: the version of the commit.
        transaction: id of the transaction, which the paths of its shards contain.

    Returns:
        The number of source ids, with an example; None if all are unique in the corpus.
    """
    count, example = store.sql(
        "WITH new AS (SELECT source_id FROM documents WHERE corpus = $corpus "
        "AND contains(shard, $transaction)), repeated AS (SELECT source_id FROM documents "
        "WHERE corpus = $corpus AND source_id IN (FROM new) GROUP BY 1 HAVING count(*) > 1) "
        "SELECT count(*), min(source_id) FROM repeated",
        at=version,
        parameters={"corpus": corpus, "transaction": f"/{transaction}/"},
    ).fetchall()[0]
    if not count:
        return None
    ids = f"the source id {example!r} is"
    if count > 1:
        ids = f"{count:,} source ids, such as {example!r}, are"
    return f"{ids} of several documents of {corpus}; `--critic import` finds these by doc_id only"
