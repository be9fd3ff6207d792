"""A verb: `ixt count` prints the number of documents."""

import typer

from ixt_data.cli import Group, StoreOption, add_verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    add_verb(app, count, Group.ASK, example="ixt count --store S", docs="plugins.md")


def count(store: StoreOption = "./ixt") -> None:
    """Print the number of documents."""
    import ixt_data

    print(ixt_data.open_store(store).sql("SELECT count(*) FROM documents").fetchall()[0][0])
