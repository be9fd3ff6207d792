"""The page of a draft: its plan, its file, its scores and samples."""

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE, link
from shown_store import SCRIPT, make_store
from starlette.testclient import TestClient

import ixt_data
from ixt_data.store import Store, save_selection
from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector, Settings

DRAFT = {"weight.good": "0.7", "weight.rest": "0.3", "repeats.good": "4", "samples": "120"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = make_store(tmp_path_factory.mktemp("drafts"))
    save_selection(made, "good", "score >= 0.7", critic="quality")
    save_selection(made, "rest", "score < 0.7", critic="quality")
    return made


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[TestClient]:
    opened = Inspector(Settings(store.root))
    yield TestClient(build_app(opened, AccessPolicy()), base_url=HERE)
    opened.close()


def digest(page: str) -> str:
    found = re.search(r"<dt>Digest</dt><dd>(\w+)</dd>", page)
    assert found
    return found[1]


@pytest.mark.parametrize(
    "draft",
    [
        DRAFT,
        {"weight.good": "1", "condition": "score", "seed": "3", "temperature": "0.5"},
        {"weight.all": "2", "weight.rest": "1", "critic": "style"},
    ],
)
def test_file_command_and_python_line_give_the_plan_of_the_page(
    client: TestClient, store: Store, tmp_path: Path, draft: dict[str, str]
) -> None:
    page = client.get("/draft", params=draft).text
    address = link(page, "Download draft.yaml")
    assert address
    answer = client.get(address)
    assert "attachment" in answer.headers["content-disposition"]
    (tmp_path / "draft.yaml").write_text(answer.text)
    text = html.unescape(page)
    command = re.search(r'aria-label="Command">([^<]+)<', text)
    assert command
    words = [sys.executable, "-m", "ixt_data", *command[1].split()[1:], "--output", "json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
    planned = json.loads(done.stdout)
    assert planned["digest"] == digest(page)
    python = re.search(r'aria-label="Python">([^<]+)<', text)
    assert python
    plan = eval(python[1], {"ixt_data": ixt_data})
    assert plan.digest == digest(page)
    assert plan.version == store.log.newest()


def test_scores_and_samples_are_those_of_the_plan(client: TestClient, store: Store) -> None:
    page = client.get("/draft", params=DRAFT | {"condition": "both"}).text
    table = page.partition("Scores as a table")[2].partition("</table>")[0]
    rows = re.findall(r'<td class="num">([\d.,]+)</td>' * 3, table)
    sql = (
        "SELECT (10 * score)::INT AS step, count(*) FROM critiques "
        "WHERE critic = 'quality' AND status = 'ok' GROUP BY 1"
    )
    counted = dict(store.sql(sql).fetchall())
    assert {round(10 * float(score)): int(n) for score, n, _ in rows} == counted
    draws = {round(10 * float(score)): int(n) for score, _, n in rows}
    assert sum(draws.values()) == 120
    assert sum(n for step, n in draws.items() if step >= 7) == 84
    samples = re.findall(r'<article class="sample">.*?</article>', page, re.DOTALL)
    assert len(samples) == 20
    assert any("&lt;|feedback|&gt;" in sample for sample in samples)
    assert all("&lt;|bos|&gt;" in sample and "&lt;|eos|&gt;" in sample for sample in samples)
    assert SCRIPT not in page
    doc_id = re.findall(r"/documents/([0-9a-f-]{36})", samples[0])[0]
    first_words = store.document(doc_id).text[:20]
    assert html.escape(first_words) in samples[0]


def test_warnings_and_errors_of_the_planner_are_shown(client: TestClient) -> None:
    few = DRAFT | {"repeats.good": "1", "samples": "200"}
    assert "max_repeats 1 x" in client.get("/draft", params=few).text
    for wrong, said in (
        ({"weight.good": "-1"}, "greater than or equal to 0"),
        ({"samples": "90000000"}, "1 to 50,000,000"),
        (
            {"critic": "stranger", "condition": "both", "weight.all": "1"},
            "no critiques by 'stranger'",
        ),
        ({"weight.all": "1", "condition": "both"}, "critic: missing"),
        ({"weight.good": "much"}, "is not a number"),
        ({"samples": "1.7"}, "samples: '1.7' is not a whole number"),
        ({"samples": "0"}, "samples: 0; a draft plans 1 to"),
        ({"seed": "1.5"}, "seed: '1.5' is not a whole number"),
        ({"repeats.all": "1.9"}, "repeats.all: '1.9' is not a whole number"),
        ({"weight.nope": "1"}, "weight.nope: snapshot 7 has no such selection; selections: good"),
        ({"weight.rest": "-1"}, "selection rest: weight: Input should be greater"),
    ):
        page = html.unescape(client.get("/draft", params=DRAFT | wrong).text)
        assert said in page
        assert "at least 1 item" not in page
    assert "Set the weight of a selection" in client.get("/draft").text
    refused = client.get("/draft/download")
    assert (refused.status_code, "no selection" in refused.text) == (400, True)


def test_seed_of_more_than_53_bits_is_exact(client: TestClient) -> None:
    seed = (1 << 62) + 1
    answer = client.get("/draft/download", params=DRAFT | {"seed": str(seed)})
    assert f"seed: {seed}" in answer.text


def test_link_of_another_site_is_not_planned(client: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    page = client.get("/draft", params=DRAFT, headers=headers).text
    assert "was not planned" in page
    assert "Digest" not in page
    assert 'value="0.7"' in page
