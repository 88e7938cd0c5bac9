"""`streamlearn reload CONFIG`: show what a changed file would change on the running service, then have it taken in.

The file is checked here before anything is asked of the service, which checks it again; a refused one leaves everything as it
was.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from ..config import Settings
from ..errors import ConfigError
from .console import console, say, warn
from .fleet import ACCEPTED, OUTCOME, UNCHANGED, Outcome, digest, examine
from .roles import Config

LOOK_S: Final = 0.1
LIMIT_S: Final = 300.0


def reload(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Take a changed CONFIG, and changed files of secrets, into the running service without a request refused.

    All is checked first. Exits 1 when it is refused.
    """
    from . import wiring

    accepted = wiring.read_settings(config, os.environ).data_dir / ACCEPTED
    pid = supervisor_of(accepted.parent)
    text = config.read_bytes()
    with console(stderr=True).status(f"checking {config}: each pipeline is tried"):
        _, found, problems = examine(config, os.environ, _running(config, accepted))
    for line in problems or found.lines():
        (warn if problems else say)(line)
    if problems:
        warn("refused: the service goes on as it is")
        raise typer.Exit(1)
    if dry_run:
        if found.none:
            say("nothing has changed, except perhaps for files of secrets")
        return
    outcome = accepted.with_name(OUTCOME)
    outcome.unlink(missing_ok=True)
    os.kill(pid, signal.SIGHUP)
    with console(stderr=True).status("the service takes it in: learn and control, then the API"):
        done = _awaited(outcome, pid, digest(text))
    if not done.ok:
        for line in done.told:
            warn(f"refused by the service: {line}")
        raise typer.Exit(1)
    for line in [line for line in done.told if found.none]:
        say(line)
    if done.told != UNCHANGED:
        say("done: every role runs with it")


def supervisor_of(folder: Path) -> int:
    """The process id of the service over this data_dir. Raises ConfigError when none runs."""
    from .serve import LOCK_FILE

    none = ConfigError("data_dir", f"no streamlearn serve runs over {folder}", "Start it, or name its configuration")
    try:
        with (folder / LOCK_FILE).open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(file.read())
    except (FileNotFoundError, ValueError):
        raise none from None
    raise none


def _running(config: Path, accepted: Path) -> Settings:
    from . import wiring

    if not accepted.exists():
        problem = f"the service over {accepted.parent} has not said what it runs with"
        raise ConfigError("data_dir", problem, "Wait until it has started")
    return wiring.read_settings(config, os.environ, accepted)


def _awaited(path: Path, pid: int, sha: str) -> Outcome:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if path.exists():
            found = msgspec.json.decode(path.read_bytes(), type=Outcome)
            if found.sha != sha:
                return Outcome(found.sha, False, ["the file was changed meanwhile: reload it again"])
            return found
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return Outcome(sha, False, ["the service has ended; its messages say why"])
        time.sleep(LOOK_S)
    return Outcome(sha, False, [f"no answer within {LIMIT_S:g} s; its messages say how far it is"])
