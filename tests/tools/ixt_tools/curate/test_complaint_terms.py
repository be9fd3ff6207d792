"""Complaints of critics, through the command line."""

import pytest
from curated_store import Grumbler, run
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.store.store import Store
from ixt_tools.curate.complaint_terms import group_complaints


def test_complaints_by_flag_with_their_lift(store: Store) -> None:
    annotate(store, "web", Grumbler("flags"))
    annotate(store, "books", Grumbler("flags"))
    found = run("complaints", "--store", store.root)
    groups = {one["name"]: one for one in found["groups"]}
    assert groups["spam"]["documents"] + groups["dull"]["documents"] == found["documents"] == 26
    assert groups["spam"]["lift"] == 1
    part = run("complaints", "--store", store.root, "--source", "books.jsonl")
    assert part["documents"] == 2
    lowest = store.sql(
        "SELECT doc_id::VARCHAR AS d FROM critiques WHERE list_contains(flags, 'spam') "
        "ORDER BY score LIMIT 3"
    ).arrow()
    assert groups["spam"]["examples"] == lowest["d"].to_pylist()
    with pytest.raises(StoreError, match=r"no document of source 'x'.*books\.jsonl, web\.jsonl"):
        group_complaints(store, source="x")


def test_complaints_by_the_tags_of_spans(store: Store) -> None:
    annotate(store, "web", Grumbler("tags"))
    (group,) = group_complaints(store).groups
    spans = (
        store.sql("SELECT count(*) AS n FROM critiques WHERE n_spans > 0").arrow()["n"].to_pylist()
    )
    assert (group.by, group.name, [group.documents]) == ("tags", "wrong sum", spans)


def test_complaints_without_flags_and_tags_are_grouped_by_words(store: Store) -> None:
    annotate(store, "web", Grumbler("words"))
    found = group_complaints(store, groups=2)
    assert found.sampled == found.documents == sum(one.documents for one in found.groups) == 25
    names = sorted(one.name for one in found.groups)
    assert any(term in names[0] + names[1] for term in ("boilerplate", "navigation"))
    assert any(term in names[0] + names[1] for term in ("medical", "unsupported"))
    done = CliRunner().invoke(build(), ["complaints", "--store", str(store.root), "--groups", "2"])
    assert "25 critiques grouped by their words" in " ".join(done.stdout.split())
    few = group_complaints(store, below=0.5, by="words")
    assert few.documents < 25
    assert all(one.mean_score is not None and one.mean_score < 0.5 for one in few.groups)
