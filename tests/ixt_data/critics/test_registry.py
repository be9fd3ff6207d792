"""Critics by name and by `module:Class`."""

import doctest
import subprocess
import sys

import pytest

from ixt_data.critics import registry
from ixt_data.critics.base import Critic
from ixt_data.critics.registry import load_critic
from ixt_data.errors import CriticError
from ixt_data.records import Document

OWN = """
from ixt_data.records import Critique

class Length:
    name = "length"
    def __init__(self, unit="1"):
        self.unit = int(unit)
    def config(self):
        return {"unit": self.unit}
    def run(self, documents):
        for d in documents:
            yield Critique(d.doc_id, critique="some length", score=min(1, len(d.text) / self.unit))

class NotYet:
    name = "not yet"

class Broken(Length):
    def config(self):
        return {"bad": object()}

class Exits(Length):
    def __init__(self):
        raise SystemExit(0)

class Fails(Length):
    def __init__(self):
        raise RuntimeError("no power")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_critics.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_critics", None)


@pytest.mark.parametrize("name", ["rules", "arithmetic"])
def test_load_critic_by_name(name):
    critic = load_critic(name)
    assert isinstance(critic, Critic)
    assert critic.name == name


def test_load_critic_passes_options_to_the_class(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"source_id": "a", "score": 3}')
    options = {"path": str(tmp_path / "c.jsonl"), "score_max": "6"}
    critic = load_critic("import", options=options)
    (critique,) = critic.run([Document(bytes(16), "x", "", "a")])
    assert critique.score == 0.5


def test_load_critic_finds_a_class_in_the_working_folder(own):
    critic = load_critic("own_critics:Length", options={"unit": "4"})
    (critique,) = critic.run([Document(bytes(16), "ab")])
    assert critique.score == 0.5


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("vllm", {}, "needs --endpoint URL"),
        ("rulez", {}, "unknown critic 'rulez'; valid are arithmetic, import, llama, rules, vllm"),
        ("rules", {"x": "1"}, "'rules' does not accept these options: .*'x'; valid are none"),
        ("import", {}, "missing a required argument: 'path'"),
        ("no_such_module:X", {}, "cannot import 'no_such_module'"),
        (":X", {}, "cannot import"),
        ("own_critics:Lenght", {}, "does not define the class 'Lenght'; it defines .*Length"),
        (
            "own_critics:NotYet",
            {},
            r"not a critic: it does not define name .*'not yet'\), config\(\), run\(\)",
        ),
        ("own_critics:Broken", {}, r"config\(\) is not plain JSON"),
        ("own_critics:Exits", {}, "could not be created: SystemExit: 0"),
        ("own_critics:Fails", {}, "RuntimeError: no power"),
    ],
)
def test_load_critic_errors_name_valid_values(own, spec, options, message):
    with pytest.raises(CriticError, match=message):
        load_critic(spec, options=options)


def test_load_critic_imports_no_other_critic():
    code = (
        "import sys; from ixt_data.critics.registry import load_critic; load_critic('arithmetic');"
        "print([m for m in ('pyarrow', 'numpy', 'torch', 'ixt_data.critics.rules')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_examples_of_load_critic_run() -> None:
    results = doctest.testmod(registry)
    assert (results.failed, results.attempted > 5) == (0, True)
