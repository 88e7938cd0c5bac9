"""`streamlearn rewind MODEL --to PLACE --skip FROM:TO`: take back what was learned before anyone noticed that it was wrong.

It tells first what would be done, and asks; then control does it, while the champion serves, and this follows it to the
promotion. The ranges that were told are those that are asked for, also when places were given as times.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .ask import Model, Reason, follow
from .console import console, counted, say, table
from .remote import PATIENT, URL, ApiKey, Url, connected

if TYPE_CHECKING:
    from ..wire import RewindPlan


def rewind(
    model: Model,
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="PLACE", help="Go back to: OFFSET, PARTITION/OFFSET, or a time.", show_default=False),
    ],
    skip: Annotated[
        list[str],
        typer.Option("--skip", metavar="FROM:TO", help="Records to pass over; may be repeated.", show_default=False),
    ],
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until the new version serves.")] = True,
    url: Url = URL,
    api_key: ApiKey = None,
) -> None:
    """Learn MODEL anew from its newest checkpoint before PLACE, without the records in FROM:TO, and let the result serve.

    The champion serves meanwhile. Exits 1 when no new version serves in the end; the old one can be rolled back to for a while.
    """
    with connected(url, api_key) as client:
        plan = client.rewind_plan(model, to, skip)
    tell(plan)
    if not yes:
        typer.confirm("Rewind?", abort=True)
    places = [f"{one.shard}/{one.to}" for one in plan.shards]
    ranges = [f"{one.shard}/{start}:{one.shard}/{end}" for one in plan.shards for start, end in one.skip]
    with connected(url, api_key) as client:
        asked = client.rewind(model, places, ranges, reason)
    say(f"asked for a rewind of {asked.model}: request {asked.request}")
    if not wait:
        say(f"To see what comes of it: streamlearn status, or GET {url}/v1/cases?model={asked.model}")
        return
    with connected(url, api_key, PATIENT) as client:
        raise typer.Exit(follow(client, asked.model, "rewind", asked.offset, time.sleep))


def tell(plan: RewindPlan) -> None:
    """What would be done, shard by shard."""
    shown = table(">shard", "goes on from", ">reads to", ">learns again", "passes over")
    for one in plan.shards:
        if one.checkpoint is None or one.at is None:
            start = f"nothing, at offset {one.start}: no checkpoint is as old"
        else:
            at = datetime.fromtimestamp(one.at).strftime("%Y-%m-%d %H:%M:%S")
            start = f"checkpoint {one.checkpoint} of {at} (version {one.version}), at offset {one.start}"
        ranges = ", ".join(f"{first} to {end}" for first, end in one.skip) or "nothing"
        shown.add_row(str(one.shard), start, f"{one.end:,}", counted(one.records, "record"), ranges)
    console().print(shown)
    say(f"A new version of {plan.model} will be fitted from there, and serve without a trial; the old one serves until then.")
