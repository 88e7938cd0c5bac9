"""`streamlearn dead-letters list | show | replay`: what could not be learned, why, and another chance for it once the cause
is mended. It works on the log itself, so the service may be up or down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from ..errors import ConfigError
from ..events import REASONS
from ..log import Log
from .console import Commands, console, counted, say, table
from .letters import Letter, letters, replay

SHORT: Final = 60
app = typer.Typer(cls=Commands, no_args_is_help=True, help="List, show and replay what could not be learned.")

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="STREAMLEARN_CONFIG", help="The configuration whose log is read.", show_default=False
    ),
]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Only those of this model.", show_default=False)]


@app.command("list")
def list_letters(
    config: ConfigOption,
    reason: Reason = None,
    model: Model = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """List dead letters, newest last."""
    with _log(config) as (log, models):
        found = _select(letters(log), reason, model, models)
    if not found:
        say("no dead letters")
        return
    made = table(">id", "reason", "model", "stream", ">partition", ">offset", "when", "replayed", "detail")
    for letter in found[-limit:]:
        dead = letter.dead
        made.add_row(
            str(letter.number), dead.reason, dead.model, dead.stream, str(dead.shard), str(dead.offset), _when(dead.ts),
            "yes" if letter.replayed else "", _short(dead.detail),
        )  # fmt: skip
    console().print(made)
    if len(found) > limit:
        say(f"the newest {limit} of {len(found)}; --limit shows more")


@app.command()
def show(number: Annotated[int, typer.Argument(metavar="ID")], config: ConfigOption) -> None:
    """Show one dead letter with its raw bytes."""
    with _log(config) as (log, _):
        letter = _find(letters(log), number)
    dead = letter.dead
    say(f"reason     {dead.reason}: {REASONS.get(dead.reason, 'unknown to this version')}")
    say(f"detail     {dead.detail}")
    say(f"model      {dead.model}")
    say(f"position   {dead.stream}/{dead.shard} at offset {dead.offset}, appended {_when(dead.ts)}")
    say(f"key        {dead.key}")
    say(f"replayed   {'yes' if letter.replayed else 'no'}")
    say(f"raw        {len(dead.raw)} bytes")
    say(_decoded(dead.raw))


@app.command("replay")
def replay_letters(
    config: ConfigOption,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", show_default=False)] = None,
    reason: Reason = None,
    model: Model = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed before.")] = False,
) -> None:
    """Append the records of dead letters to their streams again: those named, or all with a reason.

    The bytes are the original ones. What has no time of its own takes that of the replay. A model that has learned an id
    passes over it, so nothing is learned twice.
    """
    if not numbers and reason is None:
        raise ConfigError("dead-letters replay", "nothing was chosen", "Name ids from the list, or give --reason")
    with _log(config) as (log, models):
        found = letters(log)
        chosen = [_find(found, number) for number in numbers] if numbers else found
        done = replay(log, _select(chosen, reason, model, models), again, time.time)
    say(f"{counted(done.appended, 'record')} replayed")
    if done.before:
        say(f"{counted(done.before, 'letter')} passed over, replayed before; --again replays them too")
    if done.never:
        say(f"{counted(done.never, 'letter')} passed over: commands that nobody signed are never replayed")


@contextmanager
def _log(config: Path) -> Iterator[tuple[Log, set[str]]]:
    """The log of a configuration, and its models."""
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    log = wiring.existing_log(settings)
    try:
        yield log, set(settings.models)
    finally:
        log.close()


def _select(found: list[Letter], reason: str | None, model: str | None, models: set[str]) -> list[Letter]:
    for option, value, known in (
        ("--reason", reason, {letter.dead.reason for letter in found} | set(REASONS)),
        ("--model", model, {letter.dead.model for letter in found} | models),
    ):
        if value is not None and value not in known:
            some = ", ".join(sorted(known)) or "none"
            raise ConfigError(option, f"there is no {option[2:]} {value!r}", f"Known are: {some}")
    return [
        letter
        for letter in found
        if (reason is None or letter.dead.reason == reason) and (model is None or letter.dead.model == model)
    ]


def _find(found: list[Letter], number: int) -> Letter:
    for letter in found:
        if letter.number == number:
            return letter
    raise ConfigError("ID", f"there is no dead letter {number}", "Take one from: streamlearn dead-letters list")


def _when(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _decoded(raw: bytes) -> str:
    """JSON with indents, other text as it is, anything else with its odd bytes written out."""
    try:
        return msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw.decode("utf-8", errors="backslashreplace")
