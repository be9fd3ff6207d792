"""The columns that every file of rows has, with their DuckDB types."""

DOCUMENTS = {
    "doc_id": "UUID",
    "corpus": "VARCHAR",
    "stage": "VARCHAR",
    "source": "VARCHAR",
    "source_id": "VARCHAR",
    "n_bytes": "BIGINT",
    "n_chars": "BIGINT",
    "shard": "VARCHAR",
    "row": "INTEGER",
}
CRITIQUES = {
    "doc_id": "UUID",
    "critic": "VARCHAR",
    "critic_id": "VARCHAR",
    "status": "VARCHAR",
    "score": "DOUBLE",
    "scores": "MAP(VARCHAR, DOUBLE)",
    "expected": "DOUBLE",
    "entropy": "DOUBLE",
    "critique": "VARCHAR",
    "n_thinking_tokens": "BIGINT",
    "flags": "VARCHAR[]",
    "n_spans": "INTEGER",
    "error": "VARCHAR",
    "attempts": "INTEGER",
    "shard": "VARCHAR",
    "row": "INTEGER",
}
