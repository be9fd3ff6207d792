"""The full-text index of one shard: built by tantivy, packed as an archive into an aligned shard.

An index has one entry per sample with a text. Its files are packed without compression into one
zip archive. The archive is split into as many parts as the shard has samples, so that the family of
the index is aligned with the shard like every other family, and is verified like it.
"""

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ixt_data.errors import MissingExtra
from ixt_data.search.tokens import tokenize

if TYPE_CHECKING:
    import tantivy

SEARCH_COLUMNS = {"part": "bytes"}
"""MDS encoding by column of a family of indexes: `search/FAMILY` of the indexed family."""
FIELD, STORED, HIGH, LOW = "text", "stored", "high", "low"
"""Fields of an entry: indexed words, the text, and the two halves of the doc_id."""
TOKENIZER = "ixt"
META, MANIFEST = "meta.json", "manifest.json"
"""The list of segments of an index, and that of the files in an archive."""
VERSION = 1
"""Version of the fields and of the words of an index."""
HEAP_BYTES = 192 << 20
"""Memory of the writer, enough for the words of one shard of the default size."""


def schema() -> "tantivy.Schema":
    """Return the fields of an index."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field(FIELD, tokenizer_name=TOKENIZER, index_option="position")
    builder.add_bytes_field(STORED, stored=True, indexed=False)
    builder.add_unsigned_field(HIGH, fast=True)
    builder.add_unsigned_field(LOW, fast=True, indexed=True)
    return builder.build()


def analyzer() -> "tantivy.TextAnalyzer":
    """Return the analyzer of texts that are already tokens, joined by spaces."""
    import tantivy

    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()


def build_archive(entries: Iterable[tuple[bytes, str]]) -> bytes:
    """Index texts by their doc_id, and return the index as an archive.

    Args:
        entries: doc_id, 16 bytes, and text.

    Raises:
        MissingExtra: tantivy is not installed.
    """
    MissingExtra.require("search", "tantivy")
    import tantivy

    with tempfile.TemporaryDirectory(prefix="ixt-search-") as folder:
        index = tantivy.Index(schema(), path=folder)
        index.register_tokenizer(TOKENIZER, analyzer())
        writer = index.writer(heap_size=HEAP_BYTES, num_threads=1)
        for doc_id, text in entries:
            writer.add_document(_entry(doc_id, text))
        writer.commit()
        writer.wait_merging_threads()
        return _pack(Path(folder))


def _entry(doc_id: bytes, text: str) -> "tantivy.Document":
    import tantivy

    entry = tantivy.Document()
    entry.add_bytes(STORED, text.encode())
    entry.add_text(FIELD, " ".join(tokenize(text)))
    entry.add_unsigned(HIGH, int.from_bytes(doc_id[:8], "big"))
    entry.add_unsigned(LOW, int.from_bytes(doc_id[8:], "big"))
    return entry


def _pack(folder: Path) -> bytes:
    """Return the files of an index as an archive; those of its writer are not needed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            if not path.name.startswith("."):
                archive.write(path, path.name)
        meta = orjson.loads((folder / META).read_bytes())
        files = {one.filename: one.file_size for one in archive.infolist() if one.filename != META}
        manifest = {
            "version": VERSION,
            "files": files,
            "segments": meta["segments"],
            "schema": meta["schema"],
        }
        archive.writestr(MANIFEST, orjson.dumps(manifest))
    return packed.getvalue()


def split_archive(archive: bytes, samples: int) -> Iterator[dict[str, Any]]:
    """Yield the samples of an aligned shard that together contain an archive."""
    size = -(-len(archive) // samples)
    for number in range(samples):
        yield {"part": archive[number * size : (number + 1) * size]}
