"""The form of a label: who may write, what is saved, and what is refused."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE, ids
from shown_store import make_store
from starlette.testclient import TestClient

from ixt_data.errors import ConfigError, StoreError, UnitAlreadyPublished
from ixt_data.records import Span
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.labeling import parse_spans
from ixt_inspector.web.request import Inspector, Settings
from ixt_inspector.web.reviewers import Reviewers

TOKEN = "correct horse battery"


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    folder: Path = tmp_path_factory.mktemp("label")
    make_store(folder)
    opened = Inspector(Settings(str(folder / "store"), write_token=TOKEN))
    yield opened
    opened.close()


def browser(inspector: Inspector) -> TestClient:
    opened = TestClient(build_app(inspector, AccessPolicy((), TOKEN)), base_url=HERE)
    opened.get("/", params={"token": TOKEN})
    return opened


def form(page: str) -> tuple[str, dict[str, str]]:
    action = re.search(r'<form class="label" action="([^"]+)"', page)
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert action
    assert csrf
    return html.unescape(action[1]), {"csrf": csrf[1]}


def post(client: TestClient, address: str, **values: str) -> tuple[int, str, str]:
    answer = client.post(address, data=values, headers={"Origin": HERE}, follow_redirects=False)
    return answer.status_code, answer.headers.get("location", ""), html.unescape(answer.text)


def test_label_is_saved_and_the_next_document_opens(writable: Inspector) -> None:
    client = browser(writable)
    listed = ids(client.get("/documents", params={"find": "words"}).text)
    page = client.get(f"/documents/{listed[0]}?in=web&find=words").text
    assert "Your name" in page
    action, values = form(page)
    spans = "wrong: some words // which?\r\nright: It has"
    status, location, _ = post(
        client, action, **values, by="Ana", score="0.25", critique="Vague.", spans=spans
    )
    assert status == 303
    assert listed[1] in location
    assert "find=words" in location
    row = writable.views.store.document(listed[0]).critiques
    (label,) = [one for one in row if one.row["critic"] == "human"]
    assert (label.row["reviewer"], label.row["score"]) == ("Ana", 0.25)
    assert [(span.verdict, span.comment) for span in label.spans] == [
        ("right", ""),
        ("wrong", "which?"),
    ]
    page = client.get(location).text
    assert "Your name" not in page
    assert "as Ana" in page
    shown = client.get(f"/documents/{listed[0]}?critic=human").text
    assert "Vague." in shown
    assert 'value="0.25"' in shown


def test_name_belongs_to_one_browser(writable: Inspector) -> None:
    client, other = browser(writable), browser(writable)
    doc_id = ids(client.get("/documents?corpus=code").text)[0]
    action, values = form(client.get(f"/documents/{doc_id}").text)
    assert post(client, action, **values, by="Ben", score="0.5")[0] == 303
    status, _, text = post(other, action, **values, by="Ben", score="0.9")
    assert status == 400
    assert "choose another one" in text
    assert writable.views.store.document(doc_id).critiques[0].row["score"] == 0.5
    forged = client.cookies["ixt_person"].replace(b"Ben".hex(), b"Ana".hex())
    other.cookies.set("ixt_person", forged)
    assert "Your name" in other.get(f"/documents/{doc_id}").text


def test_forms_of_others_are_refused(writable: Inspector) -> None:
    client = browser(writable)
    first, second = ids(client.get("/documents?corpus=code").text)[:2]
    action, values = form(client.get(f"/documents/{first}").text)
    before = writable.views.store.log.newest()
    answer = client.post(action, data=values, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert client.post(action, data=values).status_code == 403
    status, _, text = post(client, f"/documents/{second}/label", **values, by="Eve", score="1")
    assert status == 400
    assert "not of this page" in text
    assert post(client, action, by="Eve", score="1")[0] == 400
    for wrong, message in (
        ({"score": "2"}, "score: 2"),
        ({"score": "high"}, "not a number"),
        ({"score": ""}, "needs a score"),
        ({"score": "1", "by": ""}, "by: ''"),
        ({"spans": "wrong: nosuch words"}, "does not contain"),
    ):
        status, _, text = post(client, action, **{**values, "by": "Eve", **wrong})
        assert status == 400
        assert message in text
    assert writable.views.store.log.newest() == before


def test_form_that_is_not_valid_keeps_what_was_typed(writable: Inspector) -> None:
    client = browser(writable)
    doc_id = ids(client.get("/documents?corpus=code").text)[3]
    action, values = form(client.get(f"/documents/{doc_id}?in=code&corpus=code").text)
    typed = {
        "by": "Fay",
        "score": "high",
        "critique": "Long & <careful>.",
        "spans": "wrong: nosuch",
    }
    answer = client.post(action, data={**values, **typed}, headers={"Origin": HERE})
    assert answer.status_code == 400
    assert "Not saved: span" in answer.text
    assert 'name="by" value="Fay"' in answer.text
    assert 'value="high"' in answer.text
    assert "Long &amp; &lt;careful&gt;.</textarea>" in answer.text
    assert ">wrong: nosuch</textarea>" in answer.text
    assert "/label?" not in answer.text.replace(action.replace("&", "&amp;"), "")
    # The form that is shown again works.
    again, values = form(answer.text)
    assert again == action
    assert post(client, again, **values, **typed | {"score": "0.5", "spans": ""})[0] == 303
    assert "as Fay" in client.get(f"/documents/{doc_id}").text


def test_name_of_a_label_that_was_not_saved_is_free(
    writable: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(writable)
    doc_id = ids(client.get("/documents?corpus=code").text)[4]
    action, values = form(client.get(f"/documents/{doc_id}").text)
    with monkeypatch.context() as context:
        context.setattr(writable.views.store, "begin", refuse)
        assert post(client, action, **values, by="Gus", score="0.5")[0] == 400
    assert post(client, action, **values, by="Gus", score="0.5")[0] == 303


def refuse(*_: object, **__: object) -> None:
    raise UnitAlreadyPublished("another person was first")


def test_form_from_before_the_first_label_is_saved(writable: Inspector) -> None:
    client = browser(writable)
    first, second = ids(client.get("/documents?corpus=code").text)[5:7]
    forms = [form(client.get(f"/documents/{doc_id}").text) for doc_id in (first, second)]
    (action, values), (other, others) = forms
    assert post(client, action, **values, by="Hal", score="0.5")[0] == 303
    status, _, text = post(client, other, **others, by="Ida", score="0.4")
    assert (status, "this browser labels as 'Hal', not as 'Ida'" in text) == (400, True)
    assert post(client, other, **others, by="Hal", score="0.4")[0] == 303
    labels = writable.views.store.document(second).critiques
    assert {one.row["reviewer"] for one in labels if one.row["critic"] == "human"} == {"Hal"}


def test_reading_server_has_no_form(client: TestClient, inspector: Inspector) -> None:
    doc_id = ids(client.get("/documents").text)[0]
    assert "Your label" not in client.get(f"/documents/{doc_id}").text
    status, _, text = post(client, f"/documents/{doc_id}/label", score="1", by="Eve")
    assert status == 400
    assert "ixt serve --write" in text


def test_old_snapshot_has_no_form(writable: Inspector) -> None:
    client = browser(writable)
    doc_id = ids(client.get("/documents").text)[0]
    assert "Your label" not in client.get(f"/documents/{doc_id}?at=first-judge").text


def test_spans_are_found_by_their_words() -> None:
    text = "one two one"
    assert parse_spans("wrong: two\n\nRight: one // first", text) == [
        Span(4, 7, "wrong"),
        Span(0, 3, "right", "", "first"),
    ]
    for line in ("two", "bad: two", "wrong:", "wrong: three"):
        with pytest.raises(StoreError, match="span"):
            parse_spans(line, text)


def test_cookie_of_a_name_survives_a_restart() -> None:
    cookie = Reviewers(TOKEN).claim("Ana Müller.")
    again = Reviewers(TOKEN)
    assert again.read(cookie) == "Ana Müller."
    with pytest.raises(ConfigError, match="choose another one"):
        again.claim("Ana Müller.")
    assert Reviewers("another token").read(cookie) == ""
    assert again.read("") == again.read("a.b") == again.read("a.b.c") == ""
