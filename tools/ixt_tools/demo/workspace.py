"""The folder of a demo, and its output."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from ixt_data.console import Output
from ixt_data.errors import IxtError
from ixt_data.store import Store
from ixt_tools.demo.configs import DemoSize
from ixt_tools.report import ReportTable

MARKER = "ixt-demo.json"


@dataclass
class DemoWorkspace:
    """One demo.

    Attributes:
        folder: folder of all files.
        seed: seed of the corpus, the mixes and the models.
        size: amount of work.
        out: output; the text of the demo goes to stderr.
    """

    folder: Path
    seed: int
    size: DemoSize
    out: Output

    @property
    def console(self) -> Console:
        """Return the console on stderr."""
        return self.out.log

    @property
    def store_path(self) -> Path:
        """Return the root of the store."""
        return self.folder / "store"

    @property
    def corpus_folder(self) -> Path:
        """Return the folder of the worked sums and their held-out task."""
        return self.folder / "corpus"

    @property
    def configs(self) -> Path:
        """Return the folder of mix and train files."""
        return self.folder / "configs"

    @property
    def store(self) -> Store:
        """Open the store."""
        return Store.open(self.store_path)

    def prepare(self) -> None:
        """Create an empty folder, replacing that of an earlier demo.

        Raises:
            IxtError: the folder contains files that no demo wrote.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / MARKER).exists():
                raise IxtError(
                    f"{self.folder} contains files that no demo wrote; choose another --folder"
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).write_bytes(orjson.dumps({"seed": self.seed}) + b"\n")

    def print_heading(self, title: str) -> None:
        """Print the heading of a section."""
        self.console.print()
        self.console.print(Rule(Text(title, "bold"), align="left", style="dim"))

    def print_text(self, text: str) -> None:
        """Print a text, without interpreting markup in it."""
        self.console.print(Text(text), soft_wrap=True)

    def print_table(self, table: ReportTable) -> None:
        """Print a table."""
        rich_table = RichTable(box=None, pad_edge=False, header_style="dim")
        for i, column in enumerate(table.columns):
            rich_table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in table.rows:
            rich_table.add_row(*map(Text, row))
        self.console.print(Padding(rich_table, (0, 0, 0, 2)))


def format_cell(value: Any) -> str:
    """Return a value of a query as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
