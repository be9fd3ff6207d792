"""The app: versions, help of every verb, and an unexpected error as one line."""

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ixt_data.cli import Group, build

DOCS = Path(__file__).resolve().parents[3] / "docs"


def verbs(command: Any, path: str = "ixt") -> dict[str, Any]:
    """Return every verb by its full name."""
    if not hasattr(command, "commands"):
        return {path: command}
    found: dict[str, Any] = {}
    for name, child in command.commands.items():
        found |= verbs(child, f"{path} {name}")
    return found


VERBS = verbs(get_command(build()))


def test_version_prints_libraries() -> None:
    done = CliRunner().invoke(build(), ["--version"])
    assert done.exit_code == 0
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["ixt", "python", "duckdb", "streaming", "torch", "composer"]
    assert lines["duckdb"] == version("duckdb")


@pytest.mark.parametrize("name", VERBS)
def test_help_has_an_example_that_parses_and_a_page(name: str) -> None:
    command = VERBS[name]
    assert command.help
    example = re.search(r"^Example: (.*)$", command.epilog, re.MULTILINE)
    page = re.search(r"^Docs: docs/(.*)$", command.epilog, re.MULTILINE)
    assert example is not None
    assert page is not None
    assert (DOCS / page[1]).is_file(), page[1]
    assert example[1].startswith(f"{name} ") or example[1] == name
    known = {o for one in command.params for o in (*one.opts, *one.secondary_opts)}
    used = re.findall(r"(?<=\s)--?[a-z][a-z-]*", example[1].split(">")[0])
    assert set(used) <= known


@pytest.mark.parametrize("name", VERBS)
def test_help_shows_every_default(name: str) -> None:
    done = CliRunner().invoke(build(), [*name.split()[1:], "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    for parameter in VERBS[name].params:
        if isinstance(getattr(parameter, "show_default", None), str):
            assert parameter.show_default.split()[0] in shown, parameter.name


def test_every_verb_is_in_a_group() -> None:
    groups = {c.rich_help_panel for c in build().registered_commands}
    assert groups <= set(Group)


@pytest.mark.parametrize("arguments", [[], ["--debug"]])
def test_unexpected_error_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from ixt_data.cli import main; import ixt_data.store.store as store\n"
        "def init(root): raise TypeError('[bold]no\\n lines')\n"
        "store.Store.init = init\n"
        f"sys.argv = ['ixt', *{arguments!r}, 'init', '--store', 'S']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    if arguments:
        assert "Traceback" in done.stderr
    else:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: unexpected TypeError: [bold]no lines. This is a bug of ixt")
        assert "--debug" in line


def test_error_escapes_control_characters(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ixt_data", "log", "--store", "\x1b[2J\x07no\u202estore"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert r"\x1b[2J\x07no\u202estore is not a store" in done.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_wrong_usage_exits_with_2() -> None:
    assert CliRunner().invoke(build(), ["query", "--nope"]).exit_code == 2
    assert CliRunner().invoke(build(), ["nope"]).exit_code == 2


def test_shell_completes_verbs() -> None:
    ixt = Path(sys.executable).with_name("ixt")
    environment = os.environ | {"_IXT_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": "ixt in", "COMP_CWORD": "1"}
    done = subprocess.run([ixt], env=environment, capture_output=True, text=True, check=False)
    assert {"init", "ingest", "inspect"} <= set(done.stdout.split())


def test_interruption_while_modules_load_ends_without_a_traceback() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ixt_data", "--help"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        lines: list[bytes] = []
        while b"ixt_data.errors" not in (line := process.stderr.readline()):
            lines.append(line)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert b"Traceback" not in rest
    assert rest.endswith(b"interrupted\n")
