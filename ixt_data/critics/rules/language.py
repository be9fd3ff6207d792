"""Detection of text or code, and of the language family of code."""

import re
from pathlib import PurePosixPath
from typing import Literal

Language = Literal["text", "python", "slash", "hash", "dash", "data"]
"""`python`; code with `//`, `#` or `--` comments; `data` for markup and data files; or `text`."""

EXTENSIONS: dict[str, Language] = {
    **dict.fromkeys(("py", "pyi", "pyw"), "python"),
    **dict.fromkeys(
        "c cc cpp cs css cu cxx dart go h hpp java js jsx kt m mjs php proto rs scala scss swift ts"
        " tsx zig".split(),
        "slash",
    ),
    **dict.fromkeys("bash cmake jl mk nim pl pm ps1 r rb sh tcl toml yaml yml zsh".split(), "hash"),
    **dict.fromkeys("ada adb ads elm hs lua sql vhd vhdl".split(), "dash"),
    **dict.fromkeys("csv geojson ipynb json svg tsv xml".split(), "data"),
    **dict.fromkeys("adoc htm html md org rst tex txt".split(), "text"),
}
SAMPLE_CHARS = 16_384
"""Characters that the detection reads."""
MIN_CODE_LINES = 0.3
"""Share of code-like lines from which a document counts as code. Ours."""
MIN_MARKERS = 0.5
"""Share of the code-like lines that must be specific to a language to select it. Ours."""

_LINE = re.compile(r"^.*\S.*$", re.M)
_CODE = re.compile(
    r"^[ \t]*(?:def \w+\(|class \w+|import [\w.{*\"']+|from [\w.]+ import |return\b|else\b|try\b"
    r"|elif .*:$|if \(|for \(|while \(|@\w+|#include\b|#!/|//|/\*|--\s|\w+ = |\w+\(.*\)[;:]?$"
    r"|(?:public|private|static|export|const|let|var|func|fn|function|package|using|local)\b"
    r"|SELECT\b|INSERT\b|CREATE\b)|[;{}][ \t]*$",
    re.M,
)
_PYTHON = re.compile(
    r"^[ \t]*(?:(?:async )?def \w+\(.*|class \w+.*:|from [\w.]+ import .*|import [\w.]+)[^;{}]*$",
    re.M,
)
_SLASH = re.compile(r"^[ \t]*(?://|/\*|#include\b)|[;{}][ \t]*$", re.M)
_DASH = re.compile(r"^[ \t]*(?:--\s|SELECT\b|INSERT\b|CREATE\b|local\b)", re.M)


def language_of(text: str, source_id: str = "") -> Language:
    """Return the language by the extension of `source_id` if it is known, else by the content."""
    named = EXTENSIONS.get(PurePosixPath(source_id).suffix[1:].lower())
    return named or _detect(text[:SAMPLE_CHARS])


def _detect(sample: str) -> Language:
    lines = sum(1 for _ in _LINE.finditer(sample))
    code = sum(1 for _ in _CODE.finditer(sample))
    if not lines or code < MIN_CODE_LINES * lines:
        return "text"
    slash, dash = len(_SLASH.findall(sample)), len(_DASH.findall(sample))
    if slash > MIN_MARKERS * code:
        return "slash"
    if _PYTHON.search(sample):
        return "python"
    return "dash" if dash > MIN_MARKERS * code else "hash"
