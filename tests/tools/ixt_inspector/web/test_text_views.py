"""Ways to read a text: code, conversations, Markdown, and what is marked in them."""

import re

import pytest
from inspector_pages import ids
from starlette.testclient import TestClient

from ixt_data.conversation import canonical_text
from ixt_data.records import Span
from ixt_data.search import SearchWords
from ixt_inspector.web.text_views import TextView, render_markdown, view_text

CODE = 'def add(a, b):\n    """Add."""\n    return a + 1  # one\n'


def view(text: str, *spans: Span, name: str = "", file: str = "", find: str = "") -> TextView:
    words = SearchWords.parse(find) if find else None
    return view_text(text, spans, name=name, file_names=[file], words=words, length=10_000)


def test_code_is_detected_and_colored() -> None:
    shown = view(CODE, Span(4, 7, "wrong"), file="src/add.py", find="return")
    assert shown.name == "code"
    (block,) = shown.blocks
    assert ["".join(part.text for part in line) for line in block.lines] == CODE.splitlines()
    kinds = {part.text: part.kind for line in block.lines for part in line if part.kind}
    assert kinds == {
        "def": "keyword",
        "add": "name",
        '"""Add."""': "comment",
        "return": "keyword",
        "1": "number",
        "# one": "comment",
    }
    assert [part.text for line in block.lines for part in line if part.span] == ["add"]
    assert [part.text for line in block.lines for part in line if part.is_found] == ["return"]


def test_code_without_a_known_language_has_lines() -> None:
    assert view(CODE, file="notes").name == "plain"
    shown = view(CODE, name="code")
    assert len(shown.blocks[0].lines) == 3
    assert not any(part.kind for line in shown.blocks[0].lines for part in line)


def test_span_over_lines_is_marked_in_each() -> None:
    shown = view("one\ntwo\nthree", Span(0, 7, "wrong"), name="code")
    parts = [
        [(part.text, part.span, part.is_first) for part in line] for line in shown.blocks[0].lines
    ]
    assert parts == [[("one", 1, True)], [("two", 1, False)], [("three", 0, False)]]


def test_conversation_is_shown_as_turns() -> None:
    text = canonical_text(
        [
            {"role": "user", "content": 'Say "hi"\nplease'},
            {"role": "assistant", "content": 'Well: "hi"'},
        ]
    )
    start = text.index("Well")
    shown = view(text, Span(0, 5, "chunk"), Span(start, start + 4, "wrong"), find="hi")
    assert shown.name == "turns"
    assert shown.choices == ("turns", "plain")
    assert [block.title for block in shown.blocks] == ["user", "assistant"]
    user, assistant = (block.lines[0] for block in shown.blocks)
    assert "".join(part.text for part in user) == 'Say "hi"\nplease'
    assert [(part.text, part.span) for part in assistant if part.span] == [("Well", 2)]
    assert [part.text for part in (*user, *assistant) if part.is_found] == ["hi", "hi"]
    assert view(text, name="plain").blocks[0].title == ""


def test_markdown_runs_nothing() -> None:
    hostile = (
        "# Title\n\n<script>alert(1)</script> ![x](http://evil.example/a.png) "
        "[bad](javascript:alert(1)) **bold**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    rendered = str(render_markdown(hostile))
    assert "<h1>Title</h1>" in rendered
    assert "<strong>bold</strong>" in rendered
    assert "<td>1</td>" in rendered
    assert not re.search(r'<script|<img|href="javascript', rendered)


@pytest.mark.parametrize("name", ["plain", "code", "markdown", "turns"])
def test_every_view_of_a_page(client: TestClient, name: str) -> None:
    doc_id = ids(client.get("/documents?corpus=code").text)[0]
    page = client.get(f"/documents/{doc_id}?view={name}").text
    assert 'aria-label="View"' in page
    assert ('class="text code"' in page) == (name == "code")
    hostile = ids(client.get("/documents", params={"where": "source_id = 'hostile-7'"}).text)
    shown = client.get(f"/documents/{hostile[0]}?view={name}").text
    assert "<script>document" not in shown
    assert "<img src=x" not in shown
    assert client.get(f"/documents/{doc_id}?view=nosuch").status_code == 400


def test_thinking_is_folded_and_the_critique_precedes_the_text(client: TestClient) -> None:
    doc_id = ids(client.get("/documents?critic=quality").text)[0]
    page = client.get(f"/documents/{doc_id}?critic=quality").text
    assert "<summary>Thinking" in page
    assert (
        page.index('class="judgement"') < page.index('class="words"') < page.index('class="side"')
    )
