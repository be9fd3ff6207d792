"""Predicates that would match other documents in each run are refused by name."""

import pytest
from small_stores import add_documents

from ixt_data.errors import MixError, QueryError
from ixt_data.mix import Mix, plan_mix
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

VOLATILE = {
    "random() < 0.5": "random()",
    "RANDOM() < 0.5": "random()",
    "now() > '2020-01-01'::TIMESTAMPTZ": "now()",
    "Current_Date > DATE '2020-01-01'": "current_date",
    "current_timestamp IS NOT NULL": "current_timestamp",
    "localtime > TIME '01:00'": "localtime",
    "get_current_timestamp() IS NOT NULL": "get_current_timestamp()",
    "today() > DATE '2020-01-01'": "today()",
    "uuid() < doc_id": "uuid()",
    "uuidv7() > doc_id": "uuidv7()",
    "ago(INTERVAL 1 DAY) > TIMESTAMP '2020-01-01'": "ago()",
    "age(TIMESTAMP '2020-01-01') > INTERVAL 1 YEAR": "age()",
    "doc_id IN (SELECT doc_id FROM documents ORDER BY random() LIMIT 3)": "random()",
    "n_chars IN (SELECT n_chars FROM documents USING SAMPLE 2)": "sample",
    "list_transform([1], lambda x: x + random())[1] > 1": "random()",
    "current_setting('TimeZone') = 'UTC'": "current_setting()",
    "(WITH a AS (SELECT txid_current() AS t) SELECT t FROM a) > 0": "txid_current()",
}


@pytest.mark.parametrize(("where", "name"), VOLATILE.items())
def test_a_volatile_predicate_is_refused_by_name(store: Store, where: str, name: str) -> None:
    add_documents(store, ["a", "bb", "ccc"])
    with pytest.raises(QueryError) as refused:
        save_selection(store, "some", where)
    assert name in str(refused.value)
    mix = Mix(
        store=store.root, selections=[{"name": "some", "where": where}], condition={"kind": "none"}
    )
    with pytest.raises(MixError) as planned:
        plan_mix(mix)
    assert name in str(planned.value)
    assert "hash(doc_id)" in str(planned.value)


REPEATABLE = [
    "age(TIMESTAMP '2024-01-01', TIMESTAMP '2020-01-01') > INTERVAL 1 YEAR",
    "hash(doc_id) % 100 < 101",
    "day < DATE '2030-01-01' AND current_date > 0",
    "source = 'random()' OR true",
    "cardinality(list_histogram([1])) > 0 OR true",
]


@pytest.mark.parametrize("where", REPEATABLE)
def test_a_repeatable_predicate_is_accepted(store: Store, where: str) -> None:
    # A user's column may have the name of a function.
    add_documents(store, ["a", "bb"], current_date=[1, 2], day=["2020-01-01", "2021-01-01"])
    where = where.replace("day", "day::DATE")
    assert save_selection(store, "some", where).documents == 2


def test_the_query_language_keeps_them(store: Store) -> None:
    assert 0 <= store.sql("SELECT random()").fetchall()[0][0] < 1
