"""`streamlearn healthy ROLE CONFIG`: whether a role does its work, for the health check of a container or a unit.

`serve` is asked over HTTP, on this machine. `learn` and `control` are judged by what they leave in the store every second or
so: with several learners it says whether all that they learn together is cared for. It only looks.
"""

from __future__ import annotations

import os
import time
import urllib.request
from enum import StrEnum
from typing import Annotated, Final

import msgspec
import typer

from ..config import Settings
from ..errors import StreamlearnError
from ..records import Status
from .console import say
from .roles import Config
from .serve import address_for_clients

ANSWER_S: Final = 5.0


class Role(StrEnum):
    learn = "learn"
    control = "control"
    serve = "serve"


def healthy(
    role: Annotated[Role, typer.Argument(help="learn, control or serve.", show_default=False)],
    config: Config,
    within: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How old its last report may be.")] = 30.0,
) -> None:
    """Exit 0 when the role works, 1 with the reason when it does not. For health checks."""
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    reason = ask_api(settings) if role is Role.serve else ask_store(settings, role, time.time(), within)
    say(f"{role} is well" if reason is None else f"{role} is not well: {reason}")
    raise typer.Exit(0 if reason is None else 1)


def ask_api(settings: Settings) -> str | None:
    """Why the API on this machine is not alive, or None."""
    url = f"http://{address_for_clients(settings.serve.host)}:{settings.serve.port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S):
            return None
    except OSError as error:  # urllib's own errors among them
        return f"{url} does not answer ({error})"


def ask_store(settings: Settings, role: Role, now: float, within: float) -> str | None:
    """Why the role seems not to work by what the store holds of it, or None. `within` are seconds."""
    from . import wiring

    if not wiring.has_store(settings):
        return "there is no store yet"
    try:
        store = wiring.open_store(settings)
        try:
            if role is Role.control:
                alive = store.views("role").get("control")
                reports: dict[str, float | None] = {"control": msgspec.json.decode(alive)["at"] if alive else None}
            else:
                statuses = store.statuses()
                reports = {
                    f"model {name!r}, shard {shard}": _reported(statuses.get((name, shard)))
                    for name, model in settings.models.items()
                    for shard in range(settings.streams[model.stream].partitions)
                }
        finally:
            store.close()
    except StreamlearnError as error:
        return str(error)
    silent = [_silence(name, at, now) for name, at in reports.items() if at is None or now - at > within]
    return "; ".join(silent) or None


def _reported(status: bytes | None) -> float | None:
    return None if status is None else msgspec.json.decode(status, type=Status).at


def _silence(name: str, at: float | None, now: float) -> str:
    return f"{name} has not reported yet" if at is None else f"{name} has not reported for {now - at:.0f} s"
