"""A filter of documents as a selection: its predicate, commands that save it, and the form."""

import shlex
from typing import Any

from starlette.responses import RedirectResponse, Response

from ixt_data.sql import parenthesize, quote_name, sql_literal
from ixt_data.store import save_selection
from ixt_inspector.web.forms import check_form
from ixt_inspector.web.listing import NO_CRITIQUE, DocumentFilter
from ixt_inspector.web.request import PageRequest


def predicate(filtered: DocumentFilter) -> str | None:
    """Return a filter as SQL for a selection; None without a filter, or with a search for words.

    A search depends on the indexes of a moment, so a selection cannot contain it.
    """
    if filtered.find:
        return None
    parts = [
        "status IS NULL"
        if (name, value) == ("status", NO_CRITIQUE)
        else f"{name} = {sql_literal(value)}"
        for name, value in filtered.equal
    ]
    for sign, bound in ((">=", filtered.low), ("<=", filtered.high)):
        if bound is not None:
            parts.append(f"score {sign} {bound!r}")
    if filtered.flag:
        parts.append(f"list_contains(flags, {sql_literal(filtered.flag)})")
    if filtered.text and filtered.columns.critic is not None:
        parts.append(f"contains(lower(critique), {sql_literal(filtered.text.lower())})")
    for name, own_value in filtered.own_equal:
        column = quote_name(name)
        parts.append(
            f"{column} IS NULL"
            if own_value is None
            else f"CAST({column} AS VARCHAR) = {sql_literal(own_value)}"
        )
    if filtered.where:
        parts.append(parenthesize(filtered.where))
    return " AND ".join(parts) or None


def selection_state(request: PageRequest, filtered: DocumentFilter) -> dict[str, Any] | None:
    """Return what the page of documents shows about saving its filter; None without a filter."""
    where = predicate(filtered)
    if where is None:
        return None
    critic, root = filtered.columns.critic, request.inspector.settings.store
    words = ["ixt", "select", "save", "--store", root, "NAME", where]
    words += ["--critic", critic] if critic else []
    named = f", critic={critic!r}" if critic else ""
    reviewers = request.inspector.reviewers
    return {
        "action": request.link("/selections", **request.query),
        "name": request.form.get("name", ""),
        "where": where,
        "critic": critic or "",
        "command": shlex.join(words),
        "python": f'ixt_data.store.save_selection(store, "NAME", {where!r}{named})',
        "csrf": reviewers.sign(_signed(where, critic or ""))
        if reviewers is not None and not request.at
        else None,
    }


def save_filter(request: PageRequest) -> Response:
    """Save the filter of the form as a selection, and open the page that lists selections.

    Raises:
        ConfigError: the server does not write, or the form is not of this page.
        StoreError: the name is not valid.
        QueryError: DuckDB refuses the predicate.
    """
    where, critic = request.form.get("where", ""), request.form.get("critic", "")
    check_form(request, _signed(where, critic))
    store = request.inspector.views.store
    save_selection(store, request.form.get("name", "").strip(), where, critic=critic or None)
    request.inspector.views.refresh()
    return RedirectResponse("/mixes", 303)


def _signed(where: str, critic: str) -> str:
    return f"selection {critic} {where}"
