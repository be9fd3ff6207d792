"""A document by its doc_id, the start of it, or the user's own id."""

import re
from itertools import pairwise

import pytest
from small_stores import Length, add_documents

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import IxtError, StoreError, UnknownDocument
from ixt_data.records import document_id, format_id
from ixt_data.store.store import Store


def test_document_is_found_by_the_start_of_its_id(store: Store) -> None:
    add_documents(store, ["some text", "another"])
    annotate(store, "web", Length())
    doc_id = format_id(document_id("some text"))
    for name in (doc_id, doc_id.replace("-", "").upper(), doc_id[:7], doc_id[:12]):
        found = store.document(name)
        assert (found.row["doc_id"], found.text) == (doc_id, "some text")
        (critique,) = found.critiques
        assert (critique.row["score"], critique.thinking) == (0.9, "hm")
        assert critique.spans[0].end == 9
    assert found.to_json()["critiques"][0]["spans"][0]["verdict"] == "right"


def test_ambiguous_start_lists_the_documents(store: Store) -> None:
    texts = [f"text {i}" for i in range(60)]
    add_documents(store, texts)
    ids = sorted(format_id(document_id(text)) for text in texts)
    shared = next(a[0] + "-" for a, b in pairwise(ids) if a[0] == b[0])
    matches = [doc_id for doc_id in ids if doc_id[0] == shared[0]]
    with pytest.raises(StoreError) as raised:
        store.document(shared)
    assert f"names {len(matches)} documents" in str(raised.value)
    assert re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(raised.value)) == matches


def test_own_id_has_precedence_over_the_start_of_an_id(store: Store) -> None:
    add_documents(store, [f"text {i}" for i in range(60)], per_shard=60)
    assert store.document("7").text == "text 7"


def test_unknown_document_is_refused(store: Store) -> None:
    add_documents(store, ["a"])
    for name in ("zz", "", "f" * 32, "%", "x' OR true --"):
        with pytest.raises(UnknownDocument, match="no document"):
            store.document(name)


def test_document_in_a_notebook_has_its_critiques_beside_its_text(store: Store) -> None:
    add_documents(store, ["some <b>text</b>"])
    annotate(store, "web", Length())
    page = store.document("0")._repr_html_()
    assert "<mark" in page
    assert "<b>text" not in page
    assert "&lt;b&gt;text" in page
    assert "<summary>thinking</summary>" in page
    assert "length: score" in page.replace("Length", "length")


def test_documents_have_text_and_critique(store: Store) -> None:
    add_documents(store, ["a", "bb", "ccc", "dddd"], per_shard=2)
    annotate(store, "web", Length())
    found = store.documents("n_chars < 4", order_by="score DESC", limit=2).arrow()
    assert found["text"].to_pylist() == ["ccc", "bb"]
    scores = found["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    assert "shard" not in found.column_names
    assert store.documents(corpora="web").arrow()["text"].to_pylist() == ["a", "bb", "ccc", "dddd"]
    assert len(store.documents(at=1, limit=3)) == 3


def test_documents_that_cannot_be_chosen_are_refused(store: Store) -> None:
    add_documents(store, ["a"])
    for options, said in (
        ({"where": "nosuch > 1"}, "nosuch"),
        ({"order_by": "nosuch"}, "nosuch"),
        ({"where": "true) UNION SELECT (1"}, "refused|where"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"critic": "nosuch"}, "no critiques by 'nosuch'"),
        ({"corpora": ["nosuch"]}, "no corpus 'nosuch'"),
    ):
        with pytest.raises(IxtError, match=said):
            store.documents(**options)


def test_store_in_a_notebook_lists_corpora_and_critics(store: Store) -> None:
    add_documents(store, ["a"])
    annotate(store, "web", Length())
    page = store._repr_html_()
    assert "<td>web</td><td>1</td>" in page
    assert "<th>critic_id</th>" in page
