"""HTML and WARC: main text, and what a page states of itself."""

import gzip
import io
import sys

import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.records import Document

PAGE = """<!DOCTYPE html><html lang="en-GB"><head><title>Water</title>
<meta property="article:published_time" content="2024-03-05"></head>
<body><nav><a href="/">Home</a> <a href="/shop">Shop</a></nav><article><h1>Boiling water</h1>
<p>Water boils at 100 degrees at sea level, and earlier on a mountain, for the air is thinner.</p>
<p>In a pressure cooker it boils later, at about 120 degrees, so that food is done sooner.</p>
<p>Café owners know this well.</p></article><footer>Cookies. All rights reserved.</footer>
</body></html>"""


NUMBERS = gzip.compress(b"<html>" + b" ".join(b"%d" % (i * i) for i in range(50_000)))


def read(*paths, **options):
    records = [record for source in open_inputs(paths, **options) for record in source]
    documents = [record for record in records if isinstance(record, Document)]
    return documents, [record for record in records if isinstance(record, RejectedRecord)]


def warc(*responses, gzipped=True, encoding=None):
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=gzipped)
    writer.write_record(writer.create_warcinfo_record("x", {"software": "test"}))
    for number, (status, kind, body) in enumerate(responses):
        stated = [("Content-Type", kind), *([("Content-Encoding", encoding)] if encoding else [])]
        headers = StatusAndHeaders(status, stated, protocol="HTTP/1.1")
        record = writer.create_warc_record(
            f"https://example.org/{number}",
            "response",
            payload=io.BytesIO(body),
            http_headers=headers,
            warc_headers_dict={"WARC-Date": "2024-05-06T07:08:09Z"},
        )
        writer.write_record(record)
    return file.getvalue()


def check(document):
    assert "Water boils at 100 degrees" in document.text
    assert "Café owners" in document.text
    assert "Cookies" not in document.text
    assert "Shop" not in document.text
    assert document.metadata["title"] == "Boiling water"
    assert document.metadata["date"] == "2024-03-05"
    assert document.metadata["language"] == "en-GB"


def test_html_file_is_one_document(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    ((document,), rejected) = read(path)
    check(document)
    assert document.source_id == "page.html"
    assert rejected == []
    assert read(path, format="text")[0][0].text == PAGE
    path.write_text("<html><body></body></html>")
    assert [r.reason for r in read(path)[1]] == ["the page has no main text"]


def test_folder_of_pages_alone_gives_their_main_texts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.html").write_text(PAGE)
    ((document,), _) = read(tmp_path)
    check(document)
    assert document.source_id == "a/page.html"
    (tmp_path / "main.py").write_text("print(1)")
    assert [d.text for d in read(tmp_path)[0]] == [PAGE, "print(1)"]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.warc.zst"])
def test_warc_gives_a_document_per_page(tmp_path, name):
    path = tmp_path / name
    content = warc(
        ("200 OK", "text/html; charset=utf-8", PAGE.encode()),
        ("404 Not Found", "text/html", b"<p>gone</p>"),
        ("200 OK", "image/png", b"\x89PNG"),
        ("200 OK", "text/html; charset=iso-8859-1", PAGE.encode("latin-1")),
        gzipped=name.endswith("gz"),
    )
    path.write_bytes(zstandard.compress(content) if name.endswith("zst") else content)
    documents, rejected = read(path)
    for document, number in zip(documents, (0, 3), strict=True):
        check(document)
        assert document.source_id == f"https://example.org/{number}"
        assert document.metadata["url"] == f"https://example.org/{number}"
        assert document.metadata["warc_date"] == "2024-05-06T07:08:09Z"
    assert [(r.line, r.reason) for r in rejected] == [
        (2, "HTTP status 404"),
        (3, "not HTML but image/png"),
    ]
    with pytest.raises(ConfigError, match="options of fields are for files of records"):
        open_inputs([path], text_field="body")


def test_truncated_warc_ends_with_a_rejection(tmp_path):
    page = ("200 OK", "text/html; charset=utf-8", PAGE.encode())
    whole = warc(page, page, gzipped=False)
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(whole)[:-100])
    documents, rejected = read(tmp_path / "a.warc.gz")
    assert len(documents) <= 1
    assert rejected[-1].reason.startswith("corrupt WARC data")


def test_truncated_response_is_rejected(tmp_path):
    page = ("200 OK", "text/html; charset=utf-8", PAGE.encode())
    (tmp_path / "a.warc").write_bytes(warc(page, page, gzipped=False)[:-300])
    (document,), (rejected,) = read(tmp_path / "a.warc")
    check(document)
    assert (rejected.line, rejected.reason) == (2, "truncated WARC data")


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("gzip", gzip.compress(PAGE.encode()), None),
        ("br", PAGE.encode(), None),
        ("br", b"\x1b\x10\x00", "content encoding 'br' is not supported"),
        ("zstd", zstandard.compress(PAGE.encode()), "content encoding 'zstd' is not supported"),
        ("gzip", NUMBERS[:60_000] + b"\xff" * 9999, "corrupt or truncated gzip data"),
    ],
)
def test_content_encoding_is_decoded_or_named(tmp_path, encoding, body, reason):
    page = ("200 OK", "text/html; charset=utf-8", body)
    (tmp_path / "a.warc").write_bytes(warc(page, encoding=encoding))
    documents, rejected = read(tmp_path / "a.warc")
    assert len(documents) == (reason is None)
    assert all(r.reason.startswith(reason) for r in rejected)


def test_missing_extractor_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text(PAGE)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    monkeypatch.delitem(sys.modules, "trafilatura", raising=False)
    with pytest.raises(MissingExtra, match=r"trafilatura is not installed.*ixt\[web\]"):
        open_inputs([tmp_path / "page.html"])
