"""The `rules` critic on real documents, on made-up bad ones, and on hostile ones."""

import sysconfig
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_data.critics.base import critic_id
from ixt_data.critics.rules import code, web
from ixt_data.critics.rules.critic import RulesCritic, judge_text
from ixt_data.critics.rules.critique_text import word_critique
from ixt_data.critics.rules.language import language_of
from ixt_data.critics.rules.ngrams import NGrams
from ixt_data.records import Critique, Document, document_id

critic = RulesCritic()
STDLIB = Path(sysconfig.get_path("stdlib"))


def judge(text: str, source_id: str = "") -> Critique:
    doc_id = document_id(text.encode(errors="replace").decode())
    return critic.judge(Document(doc_id, text, "", source_id))


PROSE = """The harbour was built in the third year of the war, when the old quay had fallen into \
the sea and no ship of any size could lie there with safety. It was made of stone from the hills \
behind the town, and the carts that brought it down went to and fro without rest for two summers.
When the work was done, the master of the port asked that a lamp be kept on the outer wall, and \
it was for this that the widow Hanne was given the small house which stands there still. She kept \
the lamp for forty years. In all that time it went out only once, on the night of the great storm, \
and nobody blamed her for it.
What is told of her now is mostly invented. She did not speak to the gulls, nor did she keep a \
list of every boat that passed. She was a woman with a hard task who did it well. Her letters, \
which are in the archive of the town, are about oil, and wicks, and the price of glass.
"""

MODULE = '''"""Distances between points, for the map view."""

import math


def distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    """The straight line between two points, in the unit of the map."""
    # hypot does not overflow where the squares would
    return math.hypot(first[0] - second[0], first[1] - second[1])


class Route:
    """A way through some points."""

    def __init__(self, points: list[tuple[float, float]]) -> None:
        self.points = points

    def length(self) -> float:
        """The length of the whole way, zero for fewer than two points."""
        total = 0.0
        for start, end in zip(self.points, self.points[1:]):
            total += distance(start, end)
        return total

    def nearest(self, place: tuple[float, float]) -> tuple[float, float]:
        """The point of the way that is nearest to a place."""
        return min(self.points, key=lambda point: distance(point, place))

    def reversed(self) -> "Route":
        """The same way from its end."""
        return Route(list(reversed(self.points)))

    def closed(self) -> bool:
        """Whether the way ends where it began."""
        return bool(self.points) and self.points[0] == self.points[-1]
'''


@pytest.fixture(scope="module")
def stdlib() -> list[tuple[str, Critique]]:
    names = sorted(path for path in STDLIB.rglob("*.py") if "site-packages" not in path.parts)
    critiques = []
    for path in names[::5]:
        text = path.read_bytes().decode(errors="replace")
        name = path.relative_to(STDLIB).as_posix()
        critiques.append((name, judge(text, name)))
    return critiques


def test_standard_library_scores_are_spread(stdlib):
    tenths = Counter(min(9, int(10 * critique.score)) for _, critique in stdlib)
    assert sum(tenths[i] >= 0.01 * len(stdlib) for i in range(10)) >= 8
    assert max(tenths.values()) < 0.4 * len(stdlib)


def test_standard_library_critiques_are_sentences(stdlib):
    for _, critique in stdlib:
        assert critique.status == "ok"
        assert critique.critique[0].isupper() or not critique.critique[0].isalpha()
        assert critique.critique.endswith(".")
        assert 1 <= critique.critique.count(". ") + 1 <= 3
        assert "{" not in critique.critique
        assert 0 <= critique.score <= 1
    assert len({critique.critique for _, critique in stdlib}) > 0.9 * len(stdlib)


def test_good_documents_score_high():
    prose, module = judge(PROSE), judge(MODULE, "route.py")
    assert prose.score > 0.85
    assert set(prose.scores) == {"language", "repetition", "structure", "boilerplate"}
    assert module.score > 0.7
    assert set(module.scores) == {"clarity", "documentation", "structure", "substance"}
    assert prose.flags == module.flags == ()


@pytest.mark.parametrize(
    ("text", "source_id", "flag", "words"),
    [
        ((PROSE + "\n") * 4, "", "duplicate_paragraphs", "repeated"),
        (PROSE + "Lorem ipsum dolor sit amet.", "", "lorem_ipsum", "lorem ipsum"),
        (PROSE.replace(" the ", " {the} "), "a.txt", "curly_braces", "curly braces"),
        (PROSE.replace(".", "...\n"), "", "ellipsis_lines", "ellipsis"),
        (PROSE.replace(" ", " ## "), "", "hash_marks", "hash marks"),
        (PROSE.upper(), "", "shouting", "capitals"),
        (PROSE.replace(" ", "\n"), "", "short_lines", "under 30 characters"),
        ("• " + PROSE.replace(". ", ".\n• ").replace("\n", "\n• "), "", "bullet_lines", "bullet"),
        ("Buy now.", "", "too_few_words", "short"),
        ("12 34 56 78 " * 50, "", "few_alphabetic_words", "contain a letter"),
        ("click here now " * 90, "", "top_2_gram", "takes"),
        (PROSE + "x" * 2000, "", "endless_word", "without a space"),
        (PROSE.replace("?", "\x00").replace("w", "\ufffd"), "a.txt", "broken_characters", "broken"),
        (PROSE.replace(" the ", " <b>the</b> "), "", "markup", "markup"),
        (PROSE + "This site uses cookies. See our privacy policy.", "", "policy_lines", "cookie"),
        (
            "Гавань построили на третий год войны, когда старый причал ушёл в море.\n",
            "",
            "other_script",
            "script",
        ),
        (MODULE.replace("return Route(", "return Route(("), "r.py", "syntax_error", "parse"),
        ("# Generated by protoc. DO NOT EDIT.\n" + MODULE, "r.py", "autogenerated", "generated"),
        ("TABLE = [" + ", ".join(map(str, range(3000))) + "]\n", "t.py", "data_heavy", "literal"),
        (MODULE + "KEY = '" + "aB3dE6gH9jK2" * 200 + "'\n", "r.py", "encoded_data", "encoded"),
        (MODULE.replace("# hypot", "# TODO hypot"), "r.py", "todos", "TODO"),
        (MODULE[MODULE.index("import") :], "f.py", "no_module_docstring", "what the module is for"),
        ("import os\n" * 40, "i.py", "mostly_imports", "imports"),
        ("int value = 1;\n" * 200, "a.c", "duplicate_lines", "repeated"),
        ("x = 1" + "+ 1" * 500, "x.sh", "overlong_line", "long"),
        ("def test_a():\n    assert f() == 1\n\n\n" * 30, "t.py", "tests", "test file"),
    ],
)
def test_each_defect_is_flagged_and_named(text, source_id, flag, words):
    critique = judge(text, source_id)
    assert flag in critique.flags
    assert words in critique.critique
    whole = judge(MODULE, "route.py") if source_id.endswith((".py", ".c", ".sh")) else judge(PROSE)
    assert critique.score < whole.score


def test_the_worst_is_named_first():
    verdict = judge_text("Click here now " * 300 + PROSE)
    ranked = sorted(verdict.findings, key=lambda finding: -finding.loss)
    starts = [finding.rule.complaint.split("{")[0] for finding in ranked]
    for seed in range(50):
        critique = word_critique(verdict, seed).lower()
        places = [critique.find(start) for start in starts[:3] if start]
        assert -1 not in places
        assert places == sorted(places)
    assert len({word_critique(verdict, seed) for seed in range(50)}) > 10


def test_spans_show_the_defects():
    repeated = "This paragraph of the page is there twice, word for word.\n\n"
    text = repeated + PROSE + "\n" + repeated
    (span,) = judge(text).spans
    assert text[span.start : span.end] == repeated.strip()
    assert span.start > len(repeated)

    text = MODULE + "\n\ndef long():\n" + "    print(1)\n" * 80 + "VALUE = " + "1 + " * 400 + "1\n"
    critique = judge(text, "route.py")
    by_tag = {span.tag: text[span.start : span.end] for span in critique.spans}
    assert by_tag["long_functions"].startswith("def long():\n")
    assert by_tag["long_functions"].endswith("print(1)\n")
    assert by_tag["overlong_line"].startswith("VALUE = 1 + 1")

    text = "x = 1\ny = = 2\nz = 3\n"
    (span,) = judge(text, "x.py").spans
    assert (text[span.start : span.end], span.tag) == ("y = = 2\n", "syntax_error")


def test_same_document_same_critique():
    assert judge(MODULE, "a.py") == RulesCritic().judge(
        Document(document_id(MODULE), MODULE, "", "a.py")
    )


def test_empty_documents_have_a_score():
    for text in ("", " \n\t", "\u2028"):
        assert (judge(text).score, judge(text).flags) == (0.0, ("empty",))


@pytest.mark.parametrize(
    ("text", "source_id", "language"),
    [
        (PROSE, "", "text"),
        (PROSE, "story.py", "python"),
        (MODULE, "", "python"),
        (MODULE, "module.txt", "text"),
        ("int main(void) {\n  return 0;\n}\n", "", "slash"),
        ("SELECT a\nFROM b;\n-- all of them\nCREATE TABLE c (d int);\n-- e", "", "dash"),
        ("<a/>", "x.XML", "data"),
    ],
)
def test_language(text, source_id, language):
    assert language_of(text, source_id) == language


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=40), st.integers(2, 5))
def test_n_grams_against_brute_force(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    total = sum(map(len, words)) + len(words)
    covered = {k for i, g in enumerate(grams) if g in grams[:i] for k in range(i, i + n)}
    counted = NGrams(words, set(words))
    assert counted.copied_share(n) == pytest.approx(sum(len(words[k]) + 1 for k in covered) / total)
    times = Counter(grams).most_common()
    shares = {
        min(1, count * (len("".join(gram)) + n) / total)
        for gram, count in times
        if count == times[0][1] and count > 2
    }
    assert any(counted.top_share(n) == pytest.approx(share) for share in shares or {0.0})


hostile = st.text(st.characters()) | st.text(
    alphabet="\n\r\t \x00\ud800\u2028'\"\\#{}()[]:;=.<>/*-+0x9aé中def class", max_size=400
)


@given(hostile, st.sampled_from(["", "a.py", "a.txt", "a.c", "a.sh", "a.sql", "a.json"]))
@settings(max_examples=400, deadline=None)
def test_any_text_has_a_critique(text, source_id):
    critique = judge(text, source_id)
    assert critique.status == "ok"
    assert critique.critique
    assert critique.score is not None
    assert 0 <= critique.score <= 1
    assert all(0 <= score <= 1 for score in critique.scores.values())
    for span in critique.spans:
        assert 0 <= span.start < span.end <= len(text)


MANY = 250_000
HOSTILE = {
    "no spaces": "a" * 4 * MANY,
    "newlines": "\n" * 4 * MANY,
    "open parentheses": "(" * 4 * MANY,
    "parentheses": "(" * MANY + ")" * MANY,
    "nested lists": "[" * MANY,
    "minus": "-" * MANY + "1",
    "attributes": "a" + ".b" * MANY,
    "sum": "x = " + "1 + " * MANY + "1",
    "quotes": "'" * 4 * MANY,
    "escaped triples": "\\'''" * MANY,
    "open comments": "/*" * 2 * MANY,
    "open tags": "<a" * 2 * MANY,
    "base64": "Ab9+" * MANY,
    "short base64": ("Ab9+" * 14 + " ") * (MANY // 14),
    "hex": "0x41," * MANY,
    "escapes": "\\u0041" * MANY,
    "dots": "." * 4 * MANY,
    "blanks": " \n\t" * MANY + "x",
    "carriage returns": "\r" * 4 * MANY,
    "elif": "if a:\n pass\n" + "elif a:\n pass\n" * (MANY // 4),
    "one word": "ab " * MANY,
    "other words": " ".join(map(str, range(MANY // 2))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_judged_in_time(name):
    """Well above what they take, well below what anything quadratic would."""
    for source_id in ("a.py", "a.txt", "a.c", ""):
        start = time.process_time()
        judge(HOSTILE[name], source_id)
        assert time.process_time() - start < 12


def test_thresholds_are_part_of_the_id(monkeypatch):
    before = critic_id(critic)
    assert critic_id(RulesCritic()) == before
    changed = (*code.RULES[:-1], web.RULES[0])
    monkeypatch.setattr(code, "RULES", changed)
    assert critic_id(RulesCritic()) != before


def test_every_rule_can_speak_and_names_its_source():
    for table, weights in ((web.RULES, web.WEIGHTS), (code.RULES, code.WEIGHTS)):
        assert len({rule.flag for rule in table}) == len(table)
        for rule in table:
            assert rule.source
            assert rule.dimension in weights
            assert rule.free != rule.limit
            assert rule.severity(rule.free) == 0
            assert rule.severity(rule.limit) == 0.5
            assert not rule.violated(rule.limit)
            assert rule.complaint.format(value=0.5, much="too", many="many")
