"""`streamlearn models`: every version of every model, what it is, what served when, how two differ; and to act on them.

Looking and asking go through the API; `export` and `import` work on the store, see `carry`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from . import carry
from .ask import Model, Reason, ask
from .console import Commands, console, say
from .registry import (
    difference_table,
    features_by_version,
    features_table,
    history_table,
    in_full,
    listing,
    overview,
)
from .remote import URL, ApiKey, Url, connected

app = typer.Typer(cls=Commands, no_args_is_help=True, help="The registry: versions, what served when; promote, export, import.")

AsJson = Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")]
Version = Annotated[int, typer.Argument(min=1, show_default=False)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Only ask. Without it, Ctrl-C stops following, not what was asked.")]


@app.command("list")
def list_versions(
    model: Annotated[str | None, typer.Argument(help="Its versions; without one, all models.", show_default=False)] = None,
    url: Url = URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List all models with the version that serves, or the versions of MODEL."""
    with connected(url, api_key) as client:
        if model is not None:
            items = client.versions(model)
            _print(items, listing(items), as_json)
            return
        views = client.models()
        rows = [(view, client.versions(view.name), client.history(view.name)) for view in views]
    documents = [
        {"model": view.name, "version": view.version, "state": view.state, "versions": items, "history": history.items}
        for view, items, history in rows
    ]
    _print(documents, overview(rows), as_json)


@app.command()
def show(model: Model, version: Version, url: Url = URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show VERSION of MODEL in full: what made it, from what, its trial, who decided, what its model holds."""
    with connected(url, api_key) as client:
        found = client.version(model, version)
    _print(found, in_full(found), as_json)


@app.command()
def history(
    model: Model,
    at: Annotated[
        str | None, typer.Option(help="Only what served then: RFC 3339 or Unix seconds.", show_default=False)
    ] = None,
    url: Url = URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Tell which version of MODEL served when, since which positions, and who decided."""
    with connected(url, api_key) as client:
        found = client.history(model, at)
    if not found.items and not as_json:
        say(f"nothing of {model} served{f' at {at}' if at else ' yet'}")
        return
    _print(found, history_table(found), as_json)


@app.command()
def diff(
    model: Model,
    a: Annotated[int, typer.Argument(metavar="A", min=1, show_default=False)],
    b: Annotated[int, typer.Argument(metavar="B", min=1, show_default=False)],
    url: Url = URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Compare versions A and B of MODEL: settings, libraries, data, trials, and what the models hold."""
    with connected(url, api_key) as client:
        found = client.diff(model, a, b).differences
    if as_json:
        _print(found, None, as_json)
    elif not found:
        say(f"nothing that is known of versions {a} and {b} differs")
    else:
        _print(None, difference_table(found, a, b), as_json)


@app.command()
def features(
    model: Model,
    last: Annotated[int, typer.Option(min=1, help="Of so many versions, the newest.")] = 6,
    url: Url = URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Tell which version of MODEL knows which features, as what; those that are not the same to all come first."""
    with connected(url, api_key) as client:
        items = client.versions(model)
    versions, rows = features_by_version(items, last)
    if not versions and not as_json:
        say(f"nothing is known yet of the features of {model}: no version of it serves, or was fitted")
        return
    _print({"versions": versions, "features": rows}, features_table(versions, rows), as_json)


@app.command()
def promote(
    model: Model,
    version: Version,
    reason: Reason = "",
    no_wait: NoWait = False,
    url: Url = URL,
    api_key: ApiKey = None,
) -> None:
    """Have VERSION of MODEL serve, without waiting for a verdict, and follow it there. Exits 1 unless it does in the end."""
    ask(model, "promote", reason, not no_wait, url, api_key, version)


@app.command()
def rollback(model: Model, reason: Reason = "", no_wait: NoWait = False, url: Url = URL, api_key: ApiKey = None) -> None:
    """Have the version before the last promotion of MODEL serve again, and follow it there. Exits 1 unless it does."""
    ask(model, "rollback", reason, not no_wait, url, api_key)


app.command()(carry.export)
app.command("import")(carry.import_version)


def _print(document: Any, table: Any, as_json: bool) -> None:
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        console().print(table)
