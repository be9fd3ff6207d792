"""Documents of web pages: the main text of HTML files, and of the responses in WARC files."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.ingestion.fields import TOO_LONG, Fields, RejectedRecord, excerpt
from ixt_data.ingestion.source_files import SourceFile, SourceInput
from ixt_data.records import Document
from ixt_data.storage import MAX_TEXT, ByteStream, TruncatedStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

NO_TEXT = "the page has no main text"
HTML_TYPES = ("text/html", "application/xhtml+xml")


class HtmlInput(SourceInput):
    """One HTML file: one document with the main text of the page.

    Columns: `url` if the page states it, `title`, `date`, `author`, and `language` of the page's
    `lang` attribute. trafilatura extracts the text.
    """

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Check that the extractor is installed.

        Raises:
            MissingExtra: it is not; `--format text` reads the file as it is.
            ConfigError: `fields` names the text or the id, which a page has not.
        """
        if fields != Fields():
            raise ConfigError(
                f"{source.file} is a web page; options of fields are for files of records"
            )
        MissingExtra.require("web", "trafilatura")
        super().__init__(source)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the document, or the rejected record."""
        source = self._source
        try:
            raw = _Stream(source.stream).read(MAX_TEXT + 1)
        except TruncatedStream as error:
            yield RejectedRecord(source.file, 0, str(error))
            return
        record = _page(raw, None)
        if record is None:
            yield RejectedRecord(source.file, 0, NO_TEXT, excerpt(raw))
            return
        found = Fields().document(record | {"id": source.name}, source.name, 1)
        yield RejectedRecord(source.file, 0, found) if isinstance(found, str) else found


class WarcInput(SourceInput):
    """One WARC file: one document per HTML response, and per record of extracted text (WET).

    The columns are those of `HtmlInput`, with `url` and `warc_date`. The URL is the user's own id.
    A response that is not HTML or whose status is not 200 is rejected with the reason.
    """

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Check that the libraries are installed.

        Raises:
            MissingExtra: they are not.
            ConfigError: `fields` names the text or the id, which a WARC file has not.
        """
        MissingExtra.require("web", "warcio", "trafilatura")
        if fields != Fields():
            raise ConfigError(
                f"{source.file} is a WARC file; options of fields are for files of records"
            )
        super().__init__(source)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per response, in order."""
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed

        number = 0
        records = ArchiveIterator(io.BufferedReader(_Stream(self._source.stream), 1 << 20))
        try:
            for record in records:
                if record.rec_type in ("response", "conversion"):
                    number += 1
                    yield self._document(record, number)
        except (ArchiveLoadFailed, TruncatedStream, EOFError) as error:
            yield RejectedRecord(self._source.file, number + 1, f"corrupt WARC data: {error}")

    def _document(self, warc: Any, number: int) -> Document | RejectedRecord:
        url = warc.rec_headers.get_header("WARC-Target-URI") or ""
        record = self._record(warc, url)
        if isinstance(record, str):
            return RejectedRecord(self._source.file, number, record, excerpt(url))
        date = warc.rec_headers.get_header("WARC-Date")
        record |= {"url": url, "id": url or None, "warc_date": date}
        found = Fields().document(record, self._source.name, number)
        if isinstance(found, str):
            return RejectedRecord(self._source.file, number, found, excerpt(url))
        return found

    def _record(self, warc: Any, url: str) -> dict[str, Any] | str:
        """Return the fields of a response, or the reason why it is not a document."""
        raw = warc.content_stream().read(MAX_TEXT + 1)
        if len(raw) > MAX_TEXT:
            return TOO_LONG
        if warc.rec_type == "conversion":
            return {"text": raw.decode(errors="replace")}
        status = warc.http_headers.get_statuscode() if warc.http_headers else "200"
        if status != "200":
            return f"HTTP status {status}"
        header = (warc.http_headers and warc.http_headers.get_header("Content-Type")) or ""
        kind = header.partition(";")[0].strip().lower()
        if kind and kind not in HTML_TYPES:
            return f"not HTML but {kind}"
        _, _, charset = header.lower().partition("charset=")
        return _page(_decoded(raw, charset.strip(" \"'")), url) or NO_TEXT


def _decoded(raw: bytes, charset: str) -> bytes | str:
    """Decode by the stated charset; without a known one, the extractor finds it in the page."""
    try:
        return raw.decode(charset) if charset else raw
    except (LookupError, UnicodeDecodeError):
        return raw


def _page(html: bytes | str, url: str | None) -> dict[str, Any] | None:
    """Return the main text of a page and what it states of itself; None without text."""
    from trafilatura import bare_extraction, load_html

    tree = load_html(html)
    if tree is None:
        return None
    language = tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang")
    page = bare_extraction(tree, url=url, with_metadata=True, include_comments=False)
    if page is None or not page.text:
        return None
    stated = {"url": page.url, "title": page.title, "date": page.date, "author": page.author}
    return {"text": page.text, **stated, "language": language}


class _Stream(io.RawIOBase):
    """The decoded bytes of a file as a file object."""

    def __init__(self, stream: ByteStream) -> None:
        self._chunks = iter(stream)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        n_bytes = min(len(target), len(self._rest))
        target[:n_bytes] = self._rest[:n_bytes]
        self._rest = self._rest[n_bytes:]
        return n_bytes
