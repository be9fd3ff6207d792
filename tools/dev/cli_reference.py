"""Generate docs/cli.md from the command line.

Run `python tools/dev/cli_reference.py`; a test compares the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ixt_data.cli import build

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HEADER = """# The command line

Generated from the code by `make docs`; do not edit.

Results go to stdout, as text or with `--output json` as one JSON object. Progress and remarks go to
stderr. Exit code 0 means done, 1 failed with one line that states the reason (`ixt --debug VERB`
shows the traceback), 2 wrong usage. The environment variable `IXT_STORE` sets `--store`.
`ixt --version` prints versions; `ixt --install-completion` installs completion for your shell.
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every verb with its full name, in the order of the help."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def verbs() -> list[tuple[str, Any]]:
    """Return every verb of the command line, as a Typer command."""
    return list(commands(typer.main.get_command(build()), "ixt"))


def page() -> str:
    """Return the complete reference as Markdown."""
    parts = [HEADER]
    group = None
    for name, command in verbs():
        if (panel := _group(name)) != group:
            group = panel
            parts.append(f"## {group}\n")
        parts.append(section(name, command))
    return "\n".join(parts)


def _group(name: str) -> str:
    """Return the heading under which help lists a verb."""
    app = typer.main.get_command(build())
    children: Any = getattr(app, "commands", {})
    return str(children[name.split()[1]].rich_help_panel)


def section(name: str, command: Any) -> str:
    """Return the section of one verb: usage, help, example, parameters."""
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    usage = [name, *(_argument(p) for p in parameters if not _is_option(p)), "[OPTIONS]"]
    example = str(command.epilog).split("\n")[0].removeprefix("Example: ")
    lines = [f"### {name}", "", f"    {' '.join(usage)}", "", (command.help or "").strip(), ""]
    lines += [f"Example: `{example}`", ""]
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
    if isinstance(stated := getattr(parameter, "show_default", None), str):
        shown = stated
    meaning = (parameter.help or "").replace("|", "\\|")
    return f"| {name} | {'' if default is False else shown} | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page())
