"""How commands speak to people: results on stdout, trouble on stderr, an exit code that scripts can trust.

Every error that streamlearn raises on purpose is told in its own words, without a traceback; anything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ..config_errors import ConfigErrors
from ..errors import ConfigError, StreamlearnError

EXIT_CONFIG: Final = 78  # EX_CONFIG of sysexits.h: only a person can mend it
PIPE_WIDTH: Final = 160  # columns of a table that goes into a file or a pipe


def say(text: str = "") -> None:
    """A line on stdout."""
    typer.echo(text)


def warn(text: str) -> None:
    """A line on stderr."""
    typer.echo(text, err=True)


def counted(count: int, noun: str) -> str:
    """The number with its noun, in the plural unless it is one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def console(stderr: bool = False) -> Console:
    """A console for tables and progress on the stream as it is now."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns that begin with ">" are numbers, aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return made


def explain(error: StreamlearnError) -> int:
    """Tell what is wrong, and the exit code for it."""
    if isinstance(error, ConfigErrors):
        for one in error.errors:
            warn(f"error: {one}")
    else:
        warn(f"error: {error}")
    return EXIT_CONFIG if isinstance(error, ConfigError) else 1


class Commands(TyperGroup):
    """A group of commands that explains our own errors instead of showing a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StreamlearnError as error:
            raise typer.Exit(explain(error)) from None
