"""Every block of docs/cookbook.md runs on a real store and says what is true of it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import ixt
from small_stores import Length

from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.records import Document
from ixt_data.sql.catalog import Catalog
from ixt_data.sql.recipes import read_recipes
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cookbook.md"
BLOCKS = dict(re.findall(r"```sql\n-- (\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
VALUES = {
    "critic": "length",
    "other": "rules",
    "min_score": 0.5,
    "tokens": 40,
    "words": "12 Characters",
}


def test_every_block_is_a_recipe() -> None:
    recipes = read_recipes()
    assert list(recipes) == list(BLOCKS)
    for name, sql in BLOCKS.items():
        assert recipes[name].sql == sql.strip()
        assert recipes[name].question.endswith("?")


def test_recipe_runs_by_its_name_and_names_what_is_missing(tmp_path: Path) -> None:
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", lines(tmp_path / "a.jsonl", ["a page"]), folder=tmp_path)
    ixt("critique", "--corpus", "web", "--critic", "rules", folder=tmp_path)
    words = ("query", "--recipe", "histogram")
    assert ixt(*words, "-p", "critic=rules", folder=tmp_path).stdout.count("█") >= 1
    for arguments, said in (
        (words, "needs --param critic=..."),
        ((*words, "-p", "critic=rules", "-p", "x=1"), "has the parameters critic"),
        (("query", "--recipe", "nosuch"), "What changed between two tags?"),
        (("query", "--recipe", "changed"), "add --before"),
        ((*words, "-p", "critic=rulez"), "no critiques by 'rulez'"),
    ):
        assert said in ixt(*arguments, folder=tmp_path, code=1).stderr
    assert "give one of" in ixt(*words, "-f", "x", folder=tmp_path, code=2).stderr


Rows = list[dict[str, Any]]


class Picky(Length):
    """Reads most documents."""

    def judge(self, document: Document) -> Any:
        if "unreadable" in document.text:
            raise ValueError("cannot read this")
        return super().judge(document)


def lines(path: Path, texts: list[str]) -> Path:
    records = [{"text": t, "source": "news" if i % 3 else "blog"} for i, t in enumerate(texts)]
    path.write_bytes(b"\n".join(map(orjson.dumps, records)))
    return path


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cookbook")
    store = Store.init(folder / "S")
    texts = ["a" * n for n in range(1, 19)] + ["unreadable"]
    ingest(store, "web", [lines(folder / "a.jsonl", texts)])
    annotate(store, "web", Picky())
    annotate(store, "web", load_critic("rules"))
    save_selection(store, "good", "score >= 0.5", critic="length")
    store.tag("v1")
    ingest(store, "books", [lines(folder / "b.jsonl", ["a", "aaa", "A new book. " * 9])])
    annotate(store, "books", Picky())
    # The same critic grown stricter: its scores change.
    annotate(store, "web", Picky(2))
    store.tag("v2")
    catalog = store.catalog("v2", before="v1")
    yield catalog
    catalog.close()


def ask(catalog: Catalog, name: str) -> Rows:
    sql = BLOCKS[name]
    ((_, names),) = catalog.statements(sql)
    return catalog.arrow(sql, {key: VALUES[key] for key in names}).to_pylist()


def column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def ascending(values: list[Any]) -> bool:
    return values == sorted(values)


TRUE_OF: dict[str, Callable[[Rows], bool]] = {
    "distribution": lambda r: column(r, "source") == ["news", "blog"] and 0 < r[0]["mean"] <= 1,
    "histogram": lambda r: ascending(column(r, "bin")) and sum(column(r, "documents")) == 19,
    "best": lambda r: len(r) == 6 and {row["score"] for row in r} == {1.0},
    "worst": lambda r: r[0]["source"] == "blog" and r[0]["score"] == 0.2 and r[0]["critique"],
    "threshold": lambda r: 0 < len(r) < 19 and all(abs(a) < 0.1 for a in column(r, "above")),
    "disagreement": lambda r: ascending([-a for a in column(r, "difference")])
    and r[0]["difference"] > 0,
    "length": lambda r: len(r) == 10 and ascending(column(r, "mean")),
    "correlation": lambda r: len(r) == 2 and all(c > 0.5 for c in column(r, "correlation")),
    "complaints": lambda r: [(row["flag"], row["documents"]) for row in r] == [("short", 2)],
    "lift": lambda r: {row["flag"] for row in r} == {"short"} and max(column(r, "lift")) > 1,
    "duplicates": lambda r: column(r, "corpora") == [["books", "web"]] * 2,
    "overlap": lambda r: [(row["one"], row["documents"]) for row in r] == [("books", 2)],
    "coverage": lambda r: [(x["corpus"], x["critic"], x["critiqued"], x["failed"]) for x in r]
    == [("books", "length", 3, 0), ("books", "rules", 2, 0), ("web", "length", 19, 1),
        ("web", "rules", 19, 0)],
    "failures": lambda r: len(r) == 1 and "cannot read this" in r[0]["example"],
    "budget": lambda r: ascending(column(r, "tokens_from_here_up")) and len(r) > 3,
    "cut": lambda r: 0 < r[0]["tokens"] <= 40 and r[0]["threshold"] == 1.0,
    "changed": lambda r: len(r) > 5 and all(change > 0 for change in column(r, "change")),
    "added": lambda r: {row["corpus"] for row in r} == {"books"},
    "search": lambda r: len(r) == 2 and r[0]["critique"] == "12 characters",
    "selections": lambda r: [(row["name"], row["when_saved"]) for row in r] == [("good", 14)],
    "selected": lambda r: sum(column(r, "documents")) > 14 and min(column(r, "mean")) >= 0.5,
    "costs": lambda r: len(r) == 4 and all(n > 0 for n in column(r, "documents_per_second")),
}  # fmt: skip


def test_the_page_has_fifteen_questions_and_each_block_its_check() -> None:
    text = PAGE.read_text()
    assert len(re.findall(r"^## \d+\. ", text, re.MULTILINE)) == 15
    assert text.count("```sql") == len(BLOCKS)
    assert BLOCKS.keys() == TRUE_OF.keys()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_runs_and_is_right(catalog: Catalog, name: str) -> None:
    rows = ask(catalog, name)
    assert TRUE_OF[name](rows), rows
