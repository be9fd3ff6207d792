"""Where a demo lives, and how it speaks."""

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
        folder: everything lies below it.
        seed: of the corpus, the mixes and the models.
        size: how much work it does.
        out: what it speaks through: everything goes to stderr.
    """

    folder: Path
    seed: int
    size: DemoSize
    out: Output

    @property
    def console(self) -> Console:
        """The console on stderr."""
        return self.out.log

    @property
    def store_path(self) -> Path:
        """The store's root."""
        return self.folder / "store"

    @property
    def corpus_folder(self) -> Path:
        """The worked sums and their held-out task."""
        return self.folder / "corpus"

    @property
    def configs(self) -> Path:
        """Mix and train files."""
        return self.folder / "configs"

    @property
    def store(self) -> Store:
        """The store, opened."""
        return Store.open(self.store_path)

    def prepare(self) -> None:
        """Make the folder anew.

        Raises:
            IxtError: something that is no demo is there.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / MARKER).exists():
                raise IxtError(
                    f"{self.folder} holds something that is no demo; choose another --folder"
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).write_bytes(orjson.dumps({"seed": self.seed}) + b"\n")

    def chapter(self, title: str) -> None:
        """Begin a chapter of the story."""
        self.console.print()
        self.console.print(Rule(Text(title, "bold"), align="left", style="dim"))

    def say(self, text: str) -> None:
        """A sentence of the story; what it names may hold any character."""
        self.console.print(Text(text), soft_wrap=True)

    def show(self, table: ReportTable) -> None:
        """A small table of the story."""
        drawn = RichTable(box=None, pad_edge=False, header_style="dim")
        for i, column in enumerate(table.columns):
            drawn.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(Text, row))
        self.console.print(Padding(drawn, (0, 0, 0, 2)))


def cell(value: Any) -> str:
    """A value of a query as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
