"""Source ids that several documents of a corpus have, for the summary of an ingest."""

from ixt_data.errors import IxtError
from ixt_data.store import Store

_QUERY = """
WITH new AS (SELECT source_id FROM documents WHERE corpus = $1 AND contains(shard, $2)),
repeated AS (
    SELECT source_id FROM documents WHERE corpus = $1 AND source_id IN (FROM new)
    GROUP BY source_id HAVING count(*) > 1
)
SELECT count(*), min(source_id) FROM repeated
"""


def repeated_source_ids(store: Store, corpus: str, version: int, folder: str) -> str | None:
    """Return a remark about the documents of a commit whose source ids are not theirs alone.

    Args:
        store: the store.
        corpus: the corpus that the commit belongs to.
        version: the version of the commit.
        folder: the part of a path that is common to the shards of the commit, and only to these.

    Returns:
        The number of source ids, with an example; None if all are unique in the corpus.
    """
    try:
        rows = store.sql(_QUERY, at=version, parameters=[corpus, f"{folder}/"])
    except (IxtError, OSError) as error:
        # The commit is done.
        return f"the source ids were not compared with those of {corpus}: {error}"
    count, example = rows.fetchall()[0]
    if not count:
        return None
    ids = f"the source id {example!r} is"
    if count > 1:
        ids = f"{count:,} source ids, such as {example!r}, are"
    return f"{ids} of several documents of {corpus}; `--critic import` finds these by doc_id only"
