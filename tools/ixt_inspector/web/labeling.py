"""The form of a label, with `ixt serve --write`."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from ixt_data.errors import ConfigError, StoreError
from ixt_data.log import HUMAN
from ixt_data.records import VERDICTS, Span
from ixt_data.store import Label, label_documents
from ixt_inspector.web.forms import check_form
from ixt_inspector.web.request import PageRequest

PERSON_COOKIE = "ixt_person"


def form_state(
    request: PageRequest, doc_id: str, label: dict[str, Any] | None, error: str = ""
) -> dict[str, Any]:
    """Return what the form of a document shows: the person, and the label.

    The label is the present one, or after an error what the person has typed.
    """
    reviewers = request.inspector.reviewers
    assert reviewers is not None
    person = _person(request)
    values = {
        "by": "",
        "score": "" if label is None or label["score"] is None else f"{label['score']:g}",
        "critique": "" if label is None else label["critique"],
        "spans": "",
    }
    if error:
        values = {name: request.form.get(name, "") for name in values}
    return {
        **values,
        "error": error,
        "person": person,
        "csrf": reviewers.sign(f"form {doc_id} {person}"),
        "action": request.link(f"/documents/{doc_id}/label", **request.query),
    }


def _person(request: PageRequest) -> str:
    reviewers = request.inspector.reviewers
    if reviewers is None:
        return ""
    return reviewers.read(request.http_request.cookies.get(PERSON_COOKIE, ""))


def label_of(critiques: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the present label among the latest critiques of a document."""
    return next((row for row in critiques if row["critic"] == HUMAN), None)


def save(request: PageRequest, doc_id: str, text: str, following: str) -> Response:
    """Save the label of a form, and open the next document.

    Args:
        request: the request, with its form.
        doc_id: the document.
        text: its text.
        following: address to open then.

    Raises:
        ConfigError: the server does not write, the form is not of this page, or the name is taken.
        StoreError: a value is not valid.
    """
    person, named = _person(request), request.form.get("by", "").strip()
    # A form without a name may be older than the cookie: another tab has saved the first label.
    reviewers = check_form(request, f"form {doc_id} {person}", f"form {doc_id} ")
    if person and named not in ("", person):
        raise ConfigError(f"this browser labels as {person!r}, not as {named!r}: save again")
    by = person or named
    critique = request.form.get("critique", "").replace("\r\n", "\n").strip()
    spans = parse_spans(request.form.get("spans", ""), text)
    label = Label(doc_id, by, _score(request.form.get("score", "")), critique, tuple(spans))
    label.check()
    cookie = None if person else reviewers.claim(by)
    try:
        label_documents(request.inspector.views.store, [label])
    except BaseException:
        if cookie is not None:
            # No browser has its cookie.
            reviewers.release(by)
        raise
    request.inspector.views.refresh()
    response = RedirectResponse(following, 303)
    if cookie is not None:
        response.set_cookie(
            PERSON_COOKIE,
            cookie,
            httponly=True,
            samesite="strict",
            secure=request.http_request.url.scheme == "https",
        )
    return response


def parse_spans(lines: str, text: str) -> list[Span]:
    """Return the spans of a form: `wrong: QUOTE`, or `wrong: QUOTE // COMMENT`, one per line.

    Raises:
        StoreError: a line has no verdict, or its quote is not in the text.
    """
    spans = []
    for line in filter(str.strip, lines.replace("\r\n", "\n").split("\n")):
        verdict, colon, rest = line.partition(":")
        quoted, _, comment = rest.partition(" // ")
        verdict, quoted = verdict.strip().lower(), quoted.strip()
        if not colon or verdict not in VERDICTS or not quoted:
            raise StoreError(f"span {line!r}: write `right:` or `wrong:` and the words of the text")
        start = text.find(quoted)
        if start < 0:
            raise StoreError(f"span {line!r}: the text does not contain these words")
        spans.append(Span(start, start + len(quoted), verdict, "", comment.strip()))
    return spans


def _score(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise StoreError(f"score: {text!r} is not a number such as 0.5") from None
