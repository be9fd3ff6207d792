"""Check that words of our former dialect do not return, in prose and in identifiers.

Run `python tools/dev/words.py`. docs/style.md has the words to use. A line that needs one of these
words, such as a key that enters a hash, ends with the comment `words: keep`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".pyi", ".md", ".html", ".yaml", ".yml", ".toml", ".sh", ".css", ".js"}
SKIPPED = ("docs/results/", "tools/ixt_inspector/web/static/", "tools/dev/words.py")
SKIPPED_FILES = ("tests/tools/dev/test_words.py", "docs/style.md", "CHANGELOG.md", "LICENSE")
KEEP = "words: keep"

# Letters around end a word; underscores do not, so that identifiers count.
WORDS = {
    r"(un)?told": "conditioned, reported, printed",
    r"begun": "started; a prefix",
    r"mend(s|ed|ing)?": "fix, repair",
    r"lets? (\w+ ){0,3}go": "expire, delete, release",
    r"go(es|ing)? on|went on|goes_on": "continue, resume, generate",
    r"aloud": "with a reasoning trace",
    r"lanes?": "partition; node",
    r"bak(e|es|ed|ing|ers?)": "materialize",
    r"tame": "safe",
    r"patience": "timeout",
    r"nobody|somebody|anybody|whoever": "name the actor",
    r"anew": "again",
    r"cannot be had|can be had|could be had": "is (not) available",
    r"in (its|their) stead|in place of": "instead of, replacing",
    r"bad night": "failure scenario",
    r"(is|are) no (?!longer\b|more\b|less\b)[a-z]+": "is not a, does not exist",
    r"at work": "active, running",
    r"under way": "in flight, in progress",
    r"set aside": "marked unhealthy",
    r"by hand": "manually",
    r"turn (them|it) round": "swap",
    r"leads? out of": "escapes",
    r"unasked": "implicitly",
    r"overtaken": "superseded",
    r"thinned": "downsampled",
}
PATTERN = re.compile(
    "|".join(f"(?P<w{i}>(?<![A-Za-z])(?:{word})(?![A-Za-z]))" for i, word in enumerate(WORDS)),
    re.IGNORECASE,
)


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word and replacement of each word that must not return."""
    for number, line in enumerate(text.splitlines(), 1):
        if KEEP in line:
            continue
        for match in PATTERN.finditer(line):
            index = next(i for i in range(len(WORDS)) if match.group(f"w{i}") is not None)
            yield number, match.group(), list(WORDS.values())[index]


def checked_files(root: Path) -> list[Path]:
    """Return the tracked files whose words count."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [
        root / name
        for name in sorted(set(listed))
        if Path(name).suffix in SUFFIXES
        and not name.startswith(SKIPPED)
        and name not in SKIPPED_FILES
        and (root / name).is_file()
    ]


def main() -> None:
    """Print each finding; exit 1 if there is one."""
    count = 0
    for path in checked_files(ROOT):
        for number, word, replacement in findings(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{number}: {word!r}: write {replacement}")
            count += 1
    if count:
        print(f"{count} words; see docs/style.md")
        sys.exit(1)


if __name__ == "__main__":
    main()
