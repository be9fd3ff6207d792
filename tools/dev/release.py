"""Make a release: version, changelog, commit, tag, packages, and their check.

Run `make release VERSION=0.2.0` on a clean checkout of main. Nothing is uploaded.
"""

import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")


def set_version(project: str, version: str) -> str:
    """Return the text of pyproject.toml with another version."""
    text, count = re.subn(r'(?m)^version = ".*"$', f'version = "{version}"', project, count=1)
    if not count:
        raise ValueError("pyproject.toml has no line: version = ...")
    return text


def close_changelog(changelog: str, version: str, day: datetime.date) -> str:
    """Return the changelog with the unreleased changes under a version.

    Raises:
        ValueError: nothing is unreleased, or the version is in the changelog already.
    """
    if f"## [{version}]" in changelog:
        raise ValueError(f"CHANGELOG.md already has version {version}")
    head, mark, rest = changelog.partition("## [Unreleased]\n")
    if not mark or not rest.split("\n## [")[0].strip():
        raise ValueError("CHANGELOG.md has nothing under [Unreleased]")
    return f"{head}{mark}\n## [{version}] - {day.isoformat()}\n{rest}"


def run(*command: str) -> str:
    """Run a command in the checkout; return its stdout."""
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def main(version: str) -> None:
    """Make the release of a version."""
    if not VERSION.fullmatch(version):
        sys.exit(f"VERSION={version!r} is not a version such as 0.2.0 or 0.2.0rc1")
    if run("git", "status", "--porcelain"):
        sys.exit("the working tree has changes; commit them first")
    if version in run("git", "tag").split():
        sys.exit(f"the tag {version} exists already")
    project, changelog = ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"
    try:
        today = datetime.datetime.now(datetime.UTC).date()
        closed = close_changelog(changelog.read_text(), version, today)
        project.write_text(set_version(project.read_text(), version))
    except ValueError as error:
        sys.exit(str(error))
    changelog.write_text(closed)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "build", "twine"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt")], check=True)
    run("git", "commit", "--quiet", "--all", "--message", f"Release {version}")
    run("git", "tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    print(run(sys.executable, "-m", "build", "--outdir", "dist"))
    built = [str(path) for path in sorted((ROOT / "dist").glob(f"ixt-{version}*"))]
    print(run(sys.executable, "-m", "twine", "check", "--strict", *built))
    print(f"built {', '.join(built)}\npush: git push origin main v{version}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
