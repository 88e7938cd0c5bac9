"""The options that say which columns of a file are not features, for every command that reads one (see `rows.Mapped`)."""

from __future__ import annotations

from typing import Annotated

import typer

Id = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the id.", show_default=False)]
Ts = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the event time.", show_default=False)]
Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the label.", show_default=False)]
Text = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="A column that is text, whatever it looks like. Repeatable.")
]
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out. Repeatable.")]
