"""The command line: one module a command family, put together here. It starts at once, since each command imports its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from . import (
    ask,
    backup,
    check,
    columns,
    dead_letters,
    dev_servers,
    drift_bench,
    evaluate,
    healthy,
    keys,
    models,
    notify,
    off_policy,
    policy_bench,
    recommend,
    reload,
    rewind,
    roles,
    serve,
    status,
    verify,
)
from .console import Commands, say
from .remote import PATIENT, URL, ApiKey, Url, connected


class Root(Commands):
    """All commands; the demo is imported when it is asked for, or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["demo", *super().list_commands(ctx)]

    def get_command(self, ctx: Any, name: str) -> Any:
        if name != "demo":
            return super().get_command(ctx, name)
        from .demo import demo

        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command("demo")(demo)
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Online learning as a service: models that learn from every event, notice drift, and prove their successors.",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"streamlearn {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Nothing but the version: the commands do the rest."""
    logging.getLogger("streamlearn").addHandler(logging.NullHandler())  # only roles log; commands speak for themselves


def send(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON (both also .gz) or Parquet.", show_default=False)],
    stream: Annotated[str | None, typer.Option(help="The stream of rows that do not name one.", show_default=False)] = None,
    id: columns.Id = None,
    ts: columns.Ts = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the key.", show_default=False)] = None,
    label: columns.Label = None,
    text: columns.Text = None,
    drop: columns.Drop = None,
    delimiter: Annotated[str, typer.Option(help="What separates the cells of a CSV.")] = ",",
    rate: Annotated[float | None, typer.Option(min=0.001, help="Rows a second, at most.", show_default=False)] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows in one request.")] = 500,
    skip: Annotated[int, typer.Option(min=0, help="Rows to pass over, to go on after a stop.")] = 0,
    rejects: Annotated[Path | None, typer.Option(help="Write rejected rows there, as NDJSON.", show_default=False)] = None,
    url: Url = URL,
    api_key: ApiKey = None,
) -> None:
    """Post the rows of FILE in order. Exits 1 when one was rejected.

    Columns that no option names are features. NDJSON lines are events as the API takes them, unless an option names a column.
    In a CSV an empty cell is null, true and false are booleans, 42 and -1e5 are numbers, anything else is text; so are codes
    such as 007. A row without an id is named after the file's content and its number, so the same file sent twice is learned
    once.
    """
    from . import rows
    from .send import send as send_source

    if len(delimiter) != 1:
        raise typer.BadParameter("write one character", param_hint="--delimiter")
    mapped = rows.Mapped(id, ts, key, label, frozenset(text or ()), frozenset(drop or ()))
    source = rows.Source(file, mapped, stream, delimiter)
    with connected(url, api_key) as client:
        client.ready()  # says at once that nobody is there; whether models can answer does not matter here
    with connected(url, api_key, PATIENT) as client:
        code = send_source(source, client.send, size=batch, rate=rate, skip=skip, rejects=rejects)
    raise typer.Exit(code)


app.command()(serve.serve)
app.command()(reload.reload)
app.command()(roles.learn)
app.command()(roles.control)
app.command()(send)
app.command()(status.status)
app.command()(recommend.recommend)
app.command()(healthy.healthy)
app.command()(check.check)
app.command()(verify.verify)
app.command()(drift_bench.drift_bench)
app.command()(policy_bench.policy_bench)
app.command()(off_policy.off_policy)
app.command()(evaluate.evaluate)
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.command()(ask.retrain)
app.command()(ask.rollback)
app.add_typer(models.app, name="models")
app.command()(ask.hold)
app.command()(ask.resume)
app.command()(ask.silence)
app.add_typer(notify.app, name="notify")
app.command()(rewind.rewind)
app.command()(dev_servers.dev_servers)
