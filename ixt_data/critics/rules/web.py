"""Rules on prose and web text. Sources: see `rule.py`; the thresholds are meant for English."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from ixt_data.critics.rules.ngrams import MIN_REPEATED_SHARE, NGrams
from ixt_data.critics.rules.rule import Measures, Rule
from ixt_data.records import Span

WEIGHTS = {"language": 0.7, "repetition": 0.7, "structure": 0.7, "boilerplate": 0.6}

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("few_stop_words", "language", "stop_words", 0.16, 0.04, 0.7,
         "Gopher A.1.1, ours: it asks for 2 of 8 words",
         ("the small words of running English are {much} rare ({value:.0%})",
          "it has {much} few of the small words of running English ({value:.0%})"),
         ("it reads as running prose",
          "the wording is that of running prose")),
    Rule("short_words", "language", "word_length", 3.6, 3, 0.5, "Gopher A.1.1",
         ("the words are {much} short ({value:.1f} letters on average)",
          "the average word of {value:.1f} letters is {much} short")),
    Rule("long_words", "language", "word_length", 6.8, 10, 0.7, "Gopher A.1.1",
         ("the words are {much} long ({value:.1f} letters on average)",
          "the average word of {value:.1f} letters is {much} long")),
    Rule("few_alphabetic_words", "language", "alphabetic_words", 0.9, 0.8, 0.8, "Gopher A.1.1",
         ("{value:only} of the words contain a letter",
          "numbers and symbols crowd out the words ({value:only} contain a letter)"),
         ("nearly all words are real words",
          "numbers and symbols are rare")),
    Rule("shouting", "language", "capital_words", 0.1, 0.4, 0.4, "RefinedWeb G.2, ours",
         ("{value:share} of the words are in capitals",
          "{many} words are in capitals ({value:.0%})")),
    Rule("broken_characters", "language", "broken_characters", 0, 0.001, 0.8, "ours",
         ("it has broken or control characters",
          "broken characters interrupt the text")),
    Rule("other_script", "language", "other_script", 0.2, 0.5, 0.5,
         "ours: the rules are for English",
         ("much of it is in a script that these rules cannot judge",
          "these rules cannot judge the script of much of it")),
    Rule("duplicate_lines", "repetition", "duplicate_lines", 0.05, 0.3, 0.6, "Gopher table A1",
         ("{value:share} of the lines repeat an earlier line",
          "{many} lines are repeated ({value:.0%})"),
         ("no line is repeated",
          "it has no repeated lines")),
    Rule("duplicate_line_characters", "repetition", "duplicate_line_characters", 0.01, 0.1, 0.6,
         "FineWeb 3.6 (Gopher table A1: 0.2)",
         ("repeated lines make up {value:share} of the text",
          "{value:share} of the text is repeated lines")),
    Rule("duplicate_paragraphs", "repetition", "duplicate_paragraph_characters", 0.02, 0.2, 0.6,
         "Gopher table A1",
         ("whole paragraphs are repeated ({value:.0%} of the text)",
          "repeated paragraphs make up {value:share} of the text")),
    Rule("top_2_gram", "repetition", "top_2_gram", 0.04, 0.2, 0.6, "Gopher table A1",
         ("a single pair of words makes up {value:share} of the text",
          "one pair of words fills {value:share} of the text")),
    Rule("top_4_gram", "repetition", "top_4_gram", 0.04, 0.16, 0.6, "Gopher table A1",
         ("a single phrase makes up {value:share} of the text",
          "one phrase fills {value:share} of the text")),
    Rule("duplicate_5_grams", "repetition", "duplicate_5_grams", 0.03, 0.15, 0.7, "Gopher table A1",
         ("{value:share} of the text repeats earlier phrases",
          "repeated phrases make up {value:share} of the text"),
         ("the phrasing varies",
          "phrases are hardly repeated")),
    Rule("duplicate_10_grams", "repetition", "duplicate_10_grams", 0.02, 0.10, 0.6,
         "Gopher table A1",
         ("{value:share} of the text copies earlier passages",
          "copies of earlier passages make up {value:share} of the text")),
    Rule("too_few_words", "structure", "words", 150, 50, 0.9, "Gopher A.1.1",
         ("it is {much} short ({value:count word})",
          "the text is {much} short at {value:count word}")),
    Rule("too_many_words", "structure", "words", 60_000, 100_000, 0.3, "Gopher A.1.1",
         ("it is {much} long ({value:count word})",
          "the text is {much} long at {value:count word}")),
    Rule("few_sentences", "structure", "sentences", 8, 5, 0.5, "C4 2.2",
         ("it has {value:few complete sentence}",
          "it contains {value:few complete sentence}"),
         ("it is written in complete sentences",
          "the sentences are complete")),
    Rule("unfinished_lines", "structure", "finished_lines", 0.35, 0.12, 0.5, "FineWeb 3.6",
         ("{value:only} of the lines end with a punctuation mark",
          "lines break off ({value:only} end with a punctuation mark)"),
         ("the lines end with punctuation",
          "lines end where sentences end")),
    Rule("short_lines", "structure", "short_lines", 0.25, 0.67, 0.6, "FineWeb 3.6",
         ("{value:share} of the lines are under 30 characters",
          "{many} lines are under 30 characters ({value:.0%})")),
    Rule("bullet_lines", "structure", "bullet_lines", 0.3, 0.9, 0.6, "Gopher A.1.1",
         ("{value:share} of the lines are bullet points",
          "bullet points make up {value:share} of the lines")),
    Rule("ellipsis_lines", "structure", "ellipsis_lines", 0.03, 0.3, 0.6, "Gopher A.1.1",
         ("{value:share} of the lines trail off in an ellipsis",
          "{value:share} of the lines end in an ellipsis")),
    Rule("endless_word", "structure", "longest_word", 100, 1000, 0.8, "C4 code",
         ("one stretch without a space is {value:count character} long",
          "it runs for {value:count character} without a space")),
    Rule("lorem_ipsum", "boilerplate", "lorem_ipsum", 0, 0.5, 0.9, "C4 2.2",
         ("it contains the filler text lorem ipsum",
          "the filler text lorem ipsum was left in")),
    Rule("curly_braces", "boilerplate", "curly_braces", 0, 0.02, 0.5,
         "C4 2.2, ours: it drops a page with any",
         ("curly braces suggest code or templates in the text",
          "it has the curly braces of code or templates")),
    Rule("javascript_lines", "boilerplate", "javascript_lines", 0, 0.03, 0.5,
         "C4 2.2, ours: it drops each such line",
         ("messages about JavaScript are left over from a web page",
          "it still has a web page's messages about JavaScript")),
    Rule("policy_lines", "boilerplate", "policy_lines", 0, 0.03, 0.6,
         "C4 code, ours: it drops each such line",
         ("cookie and privacy notices are left in",
          "it still has the cookie and privacy notices of a web page")),
    Rule("hash_marks", "boilerplate", "hash_marks", 0.02, 0.1, 0.5, "Gopher A.1.1",
         ("hash marks are {much} frequent ({value:.2f} per word)",
          "it has {much} many hash marks ({value:.2f} per word)")),
    Rule("ellipses", "boilerplate", "ellipses", 0.01, 0.1, 0.5, "Gopher A.1.1",
         ("ellipses are {much} frequent ({value:.2f} per word)",
          "it has {much} many ellipses ({value:.2f} per word)")),
    Rule("markup", "boilerplate", "markup", 0.005, 0.1, 0.7,
         "StarCoder2 2.1, ours: it looks at visible text",
         ("markup tags make up {value:share} of the text",
          "markup was not removed ({value:.0%} of the text)"),
         ("it is free of markup",
          "no markup is left in it")),
)
# fmt: on

# fmt: off
STOP_WORDS = frozenset((
    "the", "be", "to", "of", "and", "that", "have", "with",
    "a", "in", "is", "it", "for", "on", "as", "was", "are", "by", "an", "this",
))
# fmt: on
"""Gopher's eight words and the twelve most frequent others, for a meaningful share."""
POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
SENTENCE_ENDS = (".", "!", "?", '"', "'", "”", "’", ":", "。", "！", "？")
BULLETS = ("•", "*", "-", "‣", "●", "◦", "–")
SHORT_LINE = 30

_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]]*(?=\s|$)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_BROKEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")
_PARAGRAPH = re.compile(r"[^\n]+(?:\n[^\n]+)*")
MIN_PARAGRAPH = 40
"""Characters below which a paragraph (perhaps a heading) may repeat. Ours."""
_LOREM = re.compile(r"lorem ipsum", re.I)


def measure(text: str) -> Measures:
    """Return the statistics of a text that is not blank."""
    words = text.split()
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    counts = Counter(words)
    return {
        **_language(text, words, counts),
        **_repetition(text, words, lines, counts),
        **_structure(text, words, lines, counts),
        **_boilerplate(text, words, lines),
    }


def _language(text: str, words: Sequence[str], counts: Counter[str]) -> Measures:
    total = len(words)
    ascii_share = len(text.encode("ascii", "ignore")) / len(text)
    measures = {
        "broken_characters": len(_BROKEN.findall(text)) / len(text),
        "other_script": 1 - ascii_share,
        "alphabetic_words": sum(n for w, n in counts.items() if _LETTER.search(w)) / total,
        "capital_words": sum(n for w, n in counts.items() if len(w) > 1 and w.isupper()) / total,
    }
    if ascii_share >= 0.5:
        stops = sum(n for word, n in counts.items() if word.lower() in STOP_WORDS)
        measures["stop_words"] = stops / total
        measures["word_length"] = sum(map(len, words)) / total
    return measures


def _repetition(
    text: str, words: Sequence[str], lines: Sequence[str], counts: Counter[str]
) -> Measures:
    distinct = Counter(lines)
    paragraphs = Counter(p for p in _PARAGRAPH.findall(text) if len(p) >= MIN_PARAGRAPH)
    return {
        "duplicate_lines": 1 - len(distinct) / len(lines),
        "duplicate_line_characters": _repeated_characters(distinct) / len(text),
        "duplicate_paragraph_characters": _repeated_characters(paragraphs) / len(text),
        **_phrase_measures(words, counts),
    }


def _repeated_characters(counts: Counter[str]) -> int:
    return sum(len(piece) * (n - 1) for piece, n in counts.items() if n > 1)


def _phrase_measures(words: Sequence[str], counts: Counter[str]) -> Measures:
    grams = NGrams(words, counts)
    top, copied = grams.top_share(2), grams.copied_share(5)
    # A frequent 4-gram contains frequent 2-grams, a repeated 10-gram repeated 5-grams.
    return {
        "top_2_gram": top,
        "top_4_gram": grams.top_share(4) if top > MIN_REPEATED_SHARE else 0.0,
        "duplicate_5_grams": copied,
        "duplicate_10_grams": grams.copied_share(10) if copied > MIN_REPEATED_SHARE else 0.0,
    }


def _structure(
    text: str, words: Sequence[str], lines: Sequence[str], counts: Counter[str]
) -> Measures:
    n_lines = len(lines)
    return {
        "words": float(len(words)),
        "longest_word": float(max(map(len, counts))),
        "sentences": float(sum(1 for _ in islice(_SENTENCE_END.finditer(text), 100))),
        "finished_lines": sum(line.endswith(SENTENCE_ENDS) for line in lines) / n_lines,
        "short_lines": sum(len(line) <= SHORT_LINE for line in lines) / n_lines,
        "bullet_lines": sum(line.startswith(BULLETS) for line in lines) / n_lines,
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / n_lines,
    }


def _boilerplate(text: str, words: Sequence[str], lines: Sequence[str]) -> Measures:
    lower, total, n_lines = text.lower(), len(words), len(lines)
    return {
        "lorem_ipsum": float(lower.count("lorem ipsum")),
        "curly_braces": text.count("{") / n_lines,
        "javascript_lines": lower.count("javascript") / n_lines,
        "policy_lines": sum(map(lower.count, POLICY_PHRASES)) / n_lines,
        "hash_marks": text.count("#") / total,
        "ellipses": (text.count("...") + text.count("…")) / total,
        "markup": sum(len(tag) for tag in _TAG.findall(text)) / len(text),
    }


def spans(text: str) -> Iterator[Span]:
    """Yield repeated paragraphs and filler text."""
    seen: set[str] = set()
    for match in _PARAGRAPH.finditer(text):
        paragraph = match.group()
        if len(paragraph) >= MIN_PARAGRAPH and paragraph in seen:
            yield Span(*match.span(), "wrong", "duplicate_paragraphs", "stands earlier in the text")
        seen.add(paragraph)
    for match in _LOREM.finditer(text):
        yield Span(*match.span(), "wrong", "lorem_ipsum", "filler text")
