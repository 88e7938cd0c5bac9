"""`streamlearn notify test | list | resend | dismiss CONFIG`: try the targets of notifications, and deal with what was not
delivered. It works on the log itself, so the service may be up or down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from ..config import Settings
from ..errors import ConfigError
from ..log import CONTROL, Entry, Log, pages_below
from ..records import Decision, Notified, decode_control
from .console import Commands, console, counted, say, table, warn
from .remote import user
from .roles import Config

if TYPE_CHECKING:
    from ..control.notices import Message
    from ..control.sending import Answer

PAGE = 1000
app = typer.Typer(cls=Commands, no_args_is_help=True, help="Try the targets of notifications; list and resend what was lost.")
Numbers = Annotated[list[int] | None, typer.Argument(metavar="[NUMBER]...", show_default=False)]


class Lost(NamedTuple):
    """A message that was given up; `number` is the offset of its record in the control log."""

    number: int
    record: Notified


@app.command("test")
def try_targets(
    config: Config, target: Annotated[str | None, typer.Option(help="Only this one.", show_default=False)] = None
) -> None:
    """Post a test message to each target of CONFIG, and say what came back. Exits 1 unless all took it."""
    from ..control.sending import trial_message

    settings = _settings(config)
    if target is not None and target not in settings.notify.targets:
        known = ", ".join(settings.notify.targets)
        raise ConfigError("--target", f"there is no target {target!r}", f"Write one of {known}")
    failed = 0
    for name in settings.notify.targets if target is None else [target]:
        answer = _send(settings, name, trial_message(name, time.time()), os.environ)
        if answer.error:
            failed += 1
            warn(f"{name}: not taken: {answer.error}")
        else:
            say(f"{name}: taken, HTTP {answer.status}")
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_lost(config: Config) -> None:
    """List the messages that no receiver took and nobody has dealt with, oldest first."""
    with _log(config) as (_, log):
        found = lost(log)
    if not found:
        say("everything was delivered")
        return
    made = table(">number", "target", "model", "given up", ">tries", "what", "why")
    for number, one in found:
        what = ", ".join(f"{count} × {kind}" for kind, count in one.counts.items())
        at = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        made.add_row(str(number), one.target, one.model, at, str(one.attempts), what, one.error)
    console().print(made)


@app.command()
def resend(config: Config, numbers: Numbers = None) -> None:
    """Send undelivered messages again: those with these numbers, or all. Exits 1 unless all were taken."""
    with _log(config) as (settings, log):
        failed, done = 0, 0
        for one in _chosen(lost(log), numbers):
            if one.record.target not in settings.notify.targets:
                warn(f"{one.number}: there is no target {one.record.target!r} any more; dismiss it")
                failed += 1
                continue
            answer = _send(settings, one.record.target, message_of(log, one.record), os.environ)
            if answer.error:
                warn(f"{one.number}: not taken: {answer.error}")
                failed += 1
                continue
            _settle(log, one, "resent")
            done += 1
    say(f"{counted(done, 'message')} resent")
    if failed:
        raise typer.Exit(1)


@app.command()
def dismiss(config: Config, numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", show_default=False)]) -> None:
    """Say that these undelivered messages need not be delivered any more."""
    with _log(config) as (_, log):
        chosen = _chosen(lost(log), numbers)
        for one in chosen:
            _settle(log, one, "dismissed")
    say(f"{counted(len(chosen), 'message')} dismissed")


def lost(log: Log) -> list[Lost]:
    """The undelivered messages that nobody has dealt with, in the order in which they were given up."""
    found: dict[int, Notified] = {}
    first, end = log.bounds(CONTROL, 0)
    for page in pages_below(log, CONTROL, 0, first, end, PAGE):
        for record in page:
            try:
                entry = decode_control(record.value)
            except msgspec.DecodeError:
                continue  # control has said so
            if isinstance(entry, Notified):
                found.pop(entry.of, None)
                if entry.outcome == "undelivered":
                    found[record.offset] = entry
    return [Lost(number, record) for number, record in found.items()]


def message_of(log: Log, record: Notified) -> Message:
    """The message that was given up, made again from the decisions in the log."""
    from ..control.notices import Message, notice_of, worst

    name, notices = log.identity(CONTROL), []
    for offset in record.notices:
        entry = decode_control(log.read(CONTROL, 0, offset, 1)[0].value)
        notice = notice_of(entry, offset, name) if isinstance(entry, Decision) else None
        if notice is not None:
            notices.append(notice)
    severity = worst(notice.severity for notice in notices)
    return Message(
        notices[-1].id, record.target, record.model, severity, record.counts, notices[0].at, notices[-1].at, record.upto,
        tuple(notices),
    )  # fmt: skip


def _send(settings: Settings, name: str, message: Message, environ: Mapping[str, str]) -> Answer:
    from ..control.sending import Answer, client, parcel, post

    notify = settings.notify

    async def go() -> Answer:
        now = time.time()
        try:
            what = parcel(
                f"notify.targets.{name}", notify.targets[name], message, environ, notify.dashboard_url, now
            )  # fmt: skip
        except ConfigError as error:
            return Answer(None, str(error))
        async with client(notify.timeout_s) as http:
            return await post(http, what, notify.timeout_s, now)

    return asyncio.run(go())


def _settle(log: Log, one: Lost, outcome: str) -> None:
    record = Notified(
        one.record.model, one.record.target, outcome, time.time(), one.record.upto, of=one.number, by=user() or "anonymous"
    )  # fmt: skip
    log.append(CONTROL, [Entry(record.model.encode(), msgspec.json.encode(record), partition=0)]).result()


def _chosen(found: list[Lost], numbers: list[int] | None) -> list[Lost]:
    for number in numbers or ():
        if number not in {one.number for one in found}:
            raise ConfigError("NUMBER", f"there is no undelivered message {number}", "Take one from: streamlearn notify list")
    return [one for one in found if not numbers or one.number in numbers]


def _settings(config: Config) -> Settings:
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    if not settings.notify.targets:
        raise ConfigError("notify.targets", "there is none", "Add one, for instance [notify.targets.ops]")
    return settings


@contextmanager
def _log(config: Config) -> Iterator[tuple[Settings, Log]]:
    from . import wiring

    settings = wiring.read_settings(config, os.environ)
    log = wiring.existing_log(settings)
    try:
        yield settings, log
    finally:
        log.close()
