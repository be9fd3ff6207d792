"""Generates `docs/cli.md` from the command line: `python tools/dev/cli_reference.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ixt_data.cli import build

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HEADER = """# The command line

Generated from the code by `make docs`; do not edit.

Results go to stdout, as text or with `--output json` as one JSON object; progress and remarks go to
stderr. Exit code 0: done; 1: failed, with one line that says why (`ixt --debug VERB` shows the
traceback); 2: wrong usage. `--store` is read from the environment variable `IXT_STORE` too.
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every verb with its full name, in the order of the help."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def verbs() -> list[tuple[str, Any]]:
    """Every verb of the command line, as a Typer command."""
    return list(commands(typer.main.get_command(build()), "ixt"))


def page() -> str:
    """The whole reference as Markdown."""
    return "\n".join([HEADER, *(section(name, command) for name, command in verbs())])


def section(name: str, command: Any) -> str:
    """One verb: usage, help, and its parameters."""
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    usage = [name, *(_argument(p) for p in parameters if not _is_option(p)), "[OPTIONS]"]
    lines = [f"## {name}", "", f"    {' '.join(usage)}", "", (command.help or "").strip(), ""]
    if parameters:
        rows = map(_row, parameters)
        lines += ["| parameter | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name += "..." if parameter.nargs != 1 else ""
    return name if parameter.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if _is_option(parameter):
        flags = (*parameter.opts, *parameter.secondary_opts)
        name = ", ".join(f"`{flag}`" for flag in flags)
    else:
        name = f"`{_argument(parameter)}`"
    default = parameter.default
    shown = f"`{default}`" if isinstance(default, str | int | float) and default != "" else ""
    meaning = (parameter.help or "").replace("|", "\\|")
    return f"| {name} | {'' if default is False else shown} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page())
