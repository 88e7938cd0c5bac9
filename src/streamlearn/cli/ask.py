"""`streamlearn retrain`, `rollback`, `hold`, `resume` and `silence MODEL`: ask control for it, and with --wait see what comes.

Control decides; this only asks, and tells the decisions as they are written down.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import ConfigError, Refused
from ..records import LONGEST_SILENCE_S
from .console import console, say
from .remote import PATIENT, URL, ApiKey, Url, connected

if TYPE_CHECKING:
    from ..client import Client

PAUSE_S: Final = 0.3
PAGE: Final = 1000
UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
AT_ONCE: Final = {  # by action, the decisions with which it is done; the case may go on
    "promote": frozenset({"promoted"}), "rewind": frozenset({"promoted"}), "hold": frozenset({"held"}),
    "resume": frozenset({"resumed"}), "silence": frozenset({"silenced"}),
}  # fmt: skip
GOOD: Final = frozenset({"promoted", "recovered", "rolled_back"})
ENDINGS: Final = {
    "promoted": "the new version serves; the one before can be rolled back to",
    "recovered": "the new version serves, and has proven itself",
    "not_recovered": "the new version serves, but the losses are as high as before the retrain",
    "held": "it learns nothing until it is resumed",
    "resumed": "it learns again",
    "rolled_back": "the version before serves again",
    "silenced": "nobody is notified until then; what is decided is in the audit trail as ever",
    "trial_lost": "the new version was not better; the old one goes on serving",
    "retrain_kept": "a retrain was not worth its price; the model goes on serving",
    "retrain_failed": "no new version came of it; the old one goes on serving",
    "survived": "the world changed, and the model has unlearned it by itself",
    "rejected": "the change was not confirmed",
    "expired": "the case ran out of time",
    "replaced": "the case gave way to a rewind",
}

Model = Annotated[str, typer.Argument(help="The model's name in the configuration.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]
ResumeMode = Annotated[str, typer.Option("--mode", help="What becomes of what was held: skip, learn or repair.")]
For = Annotated[str, typer.Option("--for", help="For how long: 90s, 30m, 2h, 1d; 0 ends a silence.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the case to its end. Ctrl-C stops following, not the case.")]


def retrain(model: Model, reason: Reason = "", wait: Wait = False, url: Url = URL, api_key: ApiKey = None) -> None:
    """Ask for a full retrain of MODEL and a trial of the result. With --wait, exits 1 unless the result serves at the end."""
    ask(model, "retrain", reason, wait, url, api_key)


def rollback(model: Model, reason: Reason = "", wait: Wait = False, url: Url = URL, api_key: ApiKey = None) -> None:
    """Ask for the version before the last promotion of MODEL. With --wait, exits 1 unless it serves at the end."""
    ask(model, "rollback", reason, wait, url, api_key)


def hold(model: Model, reason: Reason = "", wait: Wait = False, url: Url = URL, api_key: ApiKey = None) -> None:
    """Ask that MODEL goes on reading, predicting and scoring, but learns nothing until it is resumed."""
    ask(model, "hold", reason, wait, url, api_key)


def resume(
    model: Model, mode: ResumeMode = "skip", reason: Reason = "", wait: Wait = False, url: Url = URL, api_key: ApiKey = None
) -> None:
    """Ask that MODEL learns again.

    What came while it was held is skipped for good (skip), learned now, in order (learn), or forgotten, so that mended events
    with the same ids can be sent and are learned (repair).
    """
    ask(model, "resume", reason, wait, url, api_key, mode=mode)


def silence(
    model: Model, span: For, reason: Reason = "", wait: Wait = False, url: Url = URL, api_key: ApiKey = None
) -> None:
    """Ask that nobody is notified of MODEL for a while. Decisions go on as ever, and the audit trail has them."""
    ask(model, "silence", reason, wait, url, api_key, for_s=seconds(span))


def seconds(span: str) -> float:
    """The seconds in a text such as 90s, 30m, 2h, 1d, or 0. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", span.strip())
    if found is None or (not found[2] and float(found[1])):
        raise ConfigError("--for", f"{span!r} is no span of time", "Write 90s, 30m, 2h or 1d, or 0 to end a silence")
    wanted = float(found[1]) * UNITS[found[2]]
    if wanted > LONGEST_SILENCE_S:
        raise ConfigError("--for", f"{span} is too long", f"Write at most {LONGEST_SILENCE_S / UNITS['d']:g}d")
    return wanted


def ask(
    model: str, action: str, reason: str, wait: bool, url: str, api_key: str | None, version: int | None = None,
    mode: str = "skip", for_s: float = 0.0,
) -> None:
    """Ask control for `action`; with `wait`, follow it to its end. Raises typer.Exit with the exit code then."""
    with connected(url, api_key) as client:
        match action:
            case "resume":
                asked = client.resume(model, mode, reason)
            case "silence":
                asked = client.silence(model, for_s, reason)
            case _:
                asked = client.request(model, action, reason, version)
    say(f"asked for a {action} of {asked.model}: request {asked.request}")
    if not wait:
        say(f"To see what comes of it: streamlearn status, or GET {url}/v1/cases?model={asked.model}")
        return
    with connected(url, api_key, PATIENT) as client:
        raise typer.Exit(follow(client, asked.model, action, asked.offset, time.sleep))


def follow(client: Client, model: str, action: str, offset: int, sleep: Callable[[float], None]) -> int:
    """Tell the decisions that the request at `offset` of the control log leads to, until they have ended; the exit code."""
    case, live = "", console(stderr=True)
    ends = AT_ONCE.get(action, frozenset())
    with live.status("waiting for control") as spinner:
        for decision in _decisions(client, model, offset, lambda: sleep(PAUSE_S)):
            if decision is None:
                if case:
                    spinner.update(_present(client, case))
                    ended = _ended(client, case, action)
                    if ended is not None:
                        say(f"ended: {ENDINGS.get(ended, ended)}")
                        return 0 if ended in GOOD else 1
                continue
            mine = decision["numbers"].get("request") == offset
            back = action == "rollback" and decision["kind"] == "rolled_back"
            if not mine and not back and (not case or decision["case"] != case):
                continue
            if mine:
                case = decision["case"]
            say(_line(decision))
            if mine and decision["kind"] == "request_refused":
                return 1
            if decision["kind"] in ends:
                say(f"ended: {ENDINGS[decision['kind']]}")
                return 0
            if back:
                say(f"ended: {ENDINGS['rolled_back']}")
                return 0
    raise AssertionError("the audit trail never ends")


def _decisions(client: Client, model: str, offset: int, pause: Callable[[], None]) -> Iterator[dict[str, Any] | None]:
    """The model's decisions after `offset`, and None whenever there are no more for now."""
    after, seen = None, offset
    while True:
        try:
            page = client.audit(PAGE, after)
        except Refused as error:
            if error.status != 422:
                raise
            page = client.audit(PAGE, None)  # the trail was made anew: begin at its start
        for item in page.items:
            after = str(item["id"])
            at = int(after)  # an entry's id is its offset in the control log; its own `offset` is one of the model's stream
            if at > seen:
                seen = at
                if item["type"] == "decision" and item["model"] == model:
                    yield item
        if page.next is None:
            yield None
            pause()


def _ended(client: Client, case: str, action: str) -> str | None:
    """How the case ended, None while it is open (a rollback waits for its own decision)."""
    if action == "rollback":
        return None
    try:
        found = client.case(case)
    except Refused:
        return None
    return None if found["open"] else str(found["outcome"])


def _present(client: Client, case: str) -> str:
    """What goes on in the case right now, in a line."""
    try:
        found = client.case(case)
    except Refused:
        return "waiting for control"
    progress, trial = found.get("progress"), found.get("trial")
    if progress:
        done, total = progress["done"], max(1, progress["total"])
        return f"retraining: {done:,} of {total:,} records ({100 * done // total} %)"
    if trial:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in trial.items() if isinstance(value, int | float))
        return f"on trial: {numbers}"
    steps = found.get("steps") or [{"kind": "case opened"}]
    return str(steps[-1]["kind"]).replace("_", " ")


def _line(decision: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(decision["at"]).strftime("%H:%M:%S")
    version = f" version {decision['version']}" if decision.get("version") is not None else ""
    return f"{at}  {decision['kind'].replace('_', ' ')}{version}: {decision['why'] or 'no reason given'}"
