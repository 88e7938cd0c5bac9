"""`streamlearn recommend MODEL`: what the service would show to whom, in which order, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ..errors import ConfigError
from ..wire_recommend import RecommendAnswer, RecommendedItem, scalar_of
from .ask import Model
from .console import console, say, table, warn
from .remote import URL, ApiKey, Url, connected

if TYPE_CHECKING:
    from rich.table import Table

REASONS: Final = 4  # told of an item

Pairs = list[str] | None


def recommend(
    model: Model,
    user: Annotated[str | None, typer.Option(help="For whom; else for nobody in particular.", show_default=False)] = None,
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="How many items.", show_default="the model's k")] = None,
    context: Annotated[
        Pairs, typer.Option(metavar="NAME=VALUE", help="What is known of the moment. Repeatable.", show_default=False)
    ] = None,
    where: Annotated[
        Pairs,
        typer.Option(
            metavar="FIELD=VALUE", help="Only items whose field has this value. Repeatable; of one field, any of them.",
            show_default=False,
        ),
    ] = None,
    item: Annotated[Pairs, typer.Option(help="Choose among these items. Repeatable.", show_default=False)] = None,
    deny: Annotated[Pairs, typer.Option(help="None of these items. Repeatable.", show_default=False)] = None,
    seen: Annotated[
        bool | None,
        typer.Option("--unseen/--seen", help="Leave out what the user has acted on.", show_default="as the model is set"),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell what moved each score.")] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Tell what is known of each item.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Log it as shown. Without it, nothing is learned from looking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer, as JSON.")] = False,
    url: Url = URL,
    api_key: ApiKey = None,
) -> None:  # fmt: skip
    """Show what MODEL recommends to a user, with the probability of each item at its place. Exits 1 when there is nothing."""
    moment = {name: values[-1] for name, values in pairs("--context", context).items()}
    filters: dict[str, Any] = pairs("--where", where)
    with connected(url, api_key) as client:
        answer = client.recommend(
            model, user, k=k, context=moment, items=item, where=filters, deny=deny or (), seen=seen, explain=explain,
            fields=fields, log=log,
        )  # fmt: skip
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        say(heading(answer))
        for reason in answer.degraded or ():
            warn(f"degraded: {reason}")
        if answer.unknown:
            warn(f"unknown to the model: {', '.join(answer.unknown)}")
        if answer.items:
            console().print(slate_table(answer))
    if not answer.items:
        warn("nothing to show: no item is known that is available and that the rules let by")
        raise typer.Exit(1)


def pairs(option: str, given: Pairs) -> dict[str, list[Any]]:
    """The values by name of texts such as category=shoes. Raises ConfigError."""
    found: dict[str, list[Any]] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(option, f"{text!r} is no NAME=VALUE", f"Write {option} category=shoes, for instance")
        found.setdefault(name, []).append(scalar_of(value))
    return found


def heading(answer: RecommendAnswer) -> str:
    """Who answered, in a line."""
    place = answer.position
    helped = f"; short of candidates: {answer.fallback} items helped out" if answer.fallback else ""
    behind = f"learned to {place.stream} {place.partition}/{place.offset}, {answer.age_s:.1f} s ago"
    shown = f"impression {answer.id}, {'not logged' if answer.logged == 'off' else answer.logged}"
    return f"{answer.model}, version {answer.version}, {behind}; {shown}{helped}"


def slate_table(answer: RecommendAnswer) -> Table:
    """The items in their order; with reasons and fields where these were asked for."""
    explained = any(item.why is not None for item in answer.items)
    told = any(item.fields is not None for item in answer.items)
    more = [name for name, wanted in (("why", explained), ("fields", told)) if wanted]
    made = table(">#", "item", ">score", "source", ">propensity", *more)
    for item in answer.items:
        row = [str(item.position), item.item, f"{item.score:.4f}", item.source, f"{item.propensity:.4f}"]
        made.add_row(*row, *([_why(item)] if explained else []), *([_fields(item)] if told else []))
    return made


def _why(item: RecommendedItem) -> str:
    return ", ".join(f"{reason.feature} {reason.contribution:+.2f}" for reason in (item.why or ())[:REASONS])


def _fields(item: RecommendedItem) -> str:
    return ", ".join(f"{name}={value}" for name, value in (item.fields or {}).items())
