"""Documents of web pages: the main text of HTML files, and of the responses in WARC files."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt, too_long
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.source_files import SourceFile, SourceInput
from ixt_data.records import Document
from ixt_data.storage import CHUNK, ByteStream, TruncatedStream

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
        self._limit = fields.max_bytes

    def portions(self) -> Iterator["PagePortion"]:
        """Yield the page, which another process can read if it is a file."""
        yield PagePortion(self, isinstance(self._source.path, Path))

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the document, or the rejected record."""
        source = self._source
        try:
            raw = _read_to(_Stream(source.stream), self._limit)
        except TruncatedStream as error:
            yield RejectedRecord(source.file, 0, str(error))
            return
        if raw is None:
            yield RejectedRecord(source.file, 0, too_long(self._limit))
            return
        record = _page(raw, None)
        if record is None:
            yield RejectedRecord(source.file, 0, NO_TEXT, excerpt(raw))
            return
        found = Fields().document(record | {"id": source.name}, source.name, 1)
        yield RejectedRecord(source.file, 0, found) if isinstance(found, str) else found


@dataclass
class PagePortion:
    """One HTML file, a `Portion`."""

    page: HtmlInput
    movable: bool
    consumed: int = field(init=False)
    size: int = field(init=False)
    slow: bool = field(default=True, init=False)
    remarks: Remarks = field(default_factory=Remarks, init=False)

    def __post_init__(self) -> None:
        self.consumed = self.size = self.page.size

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the document, or the rejected record."""
        return iter(self.page)


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
        self._limit = fields.max_bytes

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per response, in order."""
        for portion in self.portions():
            yield from portion

    def portions(self) -> Iterator["PagesPortion"]:
        """Yield the responses in portions, of which several processes can extract the text."""
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed

        source = self._source
        number = size = 0
        items: list[_Response | RejectedRecord] = []
        records = ArchiveIterator(io.BufferedReader(_Stream(source.stream), 1 << 20))
        try:
            for record in records:
                if record.rec_type not in ("response", "conversion"):
                    continue
                if len(items) >= PAGES or size >= PAGES_BYTES:
                    yield PagesPortion(source.file, source.name, items, size, source.consumed)
                    items, size = [], 0
                number += 1
                item = _response(record, number, source.file, self._limit)
                items.append(item)
                size += len(item.content) if isinstance(item, _Response) else 0
        except (ArchiveLoadFailed, TruncatedStream, EOFError) as error:
            items.append(RejectedRecord(source.file, number + 1, f"corrupt WARC data: {error}"))
        yield PagesPortion(source.file, source.name, items, size, source.size)


# A portion of a WARC file ends at the first limit: responses, or bytes of them.
PAGES = 64
PAGES_BYTES = 4 << 20


class _Response(NamedTuple):
    """One response or extracted text of a WARC file; `charset` is None for an extracted text."""

    number: int
    url: str
    date: str | None
    charset: str | None
    content: bytes


def _response(warc: Any, number: int, file: str, limit: int) -> "_Response | RejectedRecord":
    """Return a response, or why it is not a document."""
    url = warc.rec_headers.get_header("WARC-Target-URI") or ""
    date = warc.rec_headers.get_header("WARC-Date")
    content = _content(warc, limit)
    if isinstance(content, str):
        return RejectedRecord(file, number, content, excerpt(url))
    if warc.rec_type == "conversion":
        return _Response(number, url, date, None, content)
    status = warc.http_headers.get_statuscode() if warc.http_headers else "200"
    if status != "200":
        return RejectedRecord(file, number, f"HTTP status {status}", excerpt(url))
    header = (warc.http_headers and warc.http_headers.get_header("Content-Type")) or ""
    kind = header.partition(";")[0].strip().lower()
    if kind and kind not in HTML_TYPES:
        return RejectedRecord(file, number, f"not HTML but {kind}", excerpt(url))
    _, _, charset = header.lower().partition("charset=")
    return _Response(number, url, date, charset.strip(" \"'"), content)


def _content(warc: Any, limit: int) -> bytes | str:
    """Return the decoded content of a WARC record, or why there is none."""
    encoding = (warc.http_headers and warc.http_headers.get_header("Content-Encoding")) or ""
    is_known = encoding.strip().lower() in ("", "identity", "gzip", "deflate")
    stream = warc.content_stream() if is_known else warc.raw_stream
    content = _read_to(stream, limit)
    if content is None:
        return too_long(limit)
    # Padding may follow the content.
    while warc.raw_stream.read(CHUNK):
        pass
    if getattr(warc.raw_stream, "limit", 0):
        return "truncated WARC data"
    # warcio ends a response where it cannot decode it.
    decoder = getattr(stream, "decompressor", None)
    if decoder is not None and content and not decoder.eof:
        return f"corrupt or truncated {encoding} data"
    # Some crawlers store the decoded page with the headers of the encoded one.
    if not is_known and not content.lstrip().startswith(b"<"):
        return f"content encoding {encoding!r} is not supported"
    return content


@dataclass
class PagesPortion:
    """Consecutive responses of one WARC file, a `Portion` of it.

    Attributes:
        file: the file, as messages show it.
        name: name of the file, the source of its documents.
        items: the responses, and what is rejected.
        size: bytes of the responses.
        consumed: see `Portion`.
    """

    file: str
    name: str
    items: "list[_Response | RejectedRecord]"
    size: int
    consumed: int
    movable: bool = field(default=True, init=False)
    slow: bool = field(default=True, init=False)
    remarks: Remarks = field(default_factory=Remarks, init=False)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per response."""
        for item in self.items:
            yield item if isinstance(item, RejectedRecord) else self._document(item)

    def _document(self, item: _Response) -> Document | RejectedRecord:
        record: dict[str, Any] | None = {"text": item.content.decode(errors="replace")}
        if item.charset is not None:
            record = _page(_decoded(item.content, item.charset), item.url)
        reason = NO_TEXT
        if record is not None:
            record |= {"url": item.url, "id": item.url or None, "warc_date": item.date}
            found = Fields().document(record, self.name, item.number)
            if isinstance(found, Document):
                return found
            reason = found
        return RejectedRecord(self.file, item.number, reason, excerpt(item.url))


def _read_to(stream: Any, limit: int) -> bytes | None:
    """Read a stream to its end; return None if it has more than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    # One read of a compressed response returns less than it is asked for.
    while part := stream.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


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
