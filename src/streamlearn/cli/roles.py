"""`streamlearn learn` and `streamlearn control`, and what every role process shares: logs, a lifetime, an exit code.

A role tells why it ends as a line on stderr, like everything else that it says. EXIT_CONFIG means that starting it again
will not help.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from ..config import Settings
from ..errors import ConfigError, Fenced, ModelError, StreamlearnError, Unexpected
from .console import EXIT_CONFIG
from .lifetime import Lifetime

logger = logging.getLogger("streamlearn.cli")
HOPELESS: Final = (ConfigError, ModelError, Unexpected)

Config = Annotated[Path, typer.Argument(help="The TOML file; see streamlearn.example.toml.", show_default=False)]
Parent = Annotated[int | None, typer.Option("--parent-pid", hidden=True)]
Accepted = Annotated[Path | None, typer.Option("--accepted", hidden=True)]  # read in place of CONFIG


def learn(
    config: Config,
    reset: Annotated[
        list[str] | None,
        typer.Option(
            "--reset",
            metavar="MODEL",
            help="Start this model over from its `start`; stop its other learners first. Repeatable.",
        ),
    ] = None,
    parent_pid: Parent = None,
    accepted: Accepted = None,
) -> None:
    """Run the learn role alone: learn every model of CONFIG, publish, keep checkpoints. Ends on SIGTERM with a checkpoint."""
    from . import wiring

    def work(settings: Settings, life: Lifetime) -> int:
        for name in reset or ():
            if name not in settings.models:
                raise ConfigError("--reset", f"there is no model {name!r}", f"Write one of {sorted(settings.models)}")
        wiring.run_learner(settings, os.environ, life.stop, reset or ())
        return 0

    run_role("learn", config, parent_pid, work, accepted)


def control(config: Config, parent_pid: Parent = None, accepted: Accepted = None) -> None:
    """Run the control role alone: confirm drift, retrain, try, promote, roll back."""
    from . import wiring

    def work(settings: Settings, life: Lifetime) -> int:
        wiring.run_control(settings, os.environ, life.stop)
        return 0

    run_role("control", config, parent_pid, work, accepted)


def run_role(
    name: str, config: Path, parent: int | None, work: Callable[[Settings, Lifetime], int], accepted: Path | None = None
) -> None:
    """Do the role's work until its lifetime ends. Raises typer.Exit with the exit code."""
    from ..logs import FORMATS, setup_logging
    from . import wiring

    life = Lifetime()
    life.catch_signals()
    if parent is not None:
        life.follow(parent)
    level = os.environ.get("STREAMLEARN_LOG_LEVEL", "INFO")
    form = os.environ.get("STREAMLEARN_LOG_FORMAT") or None
    if form not in (None, *FORMATS):
        setup_logging(name)
        logger.error("STREAMLEARN_LOG_FORMAT: %r is no format; write json or pretty", form)
        raise typer.Exit(EXIT_CONFIG)
    try:
        setup_logging(name, level=level, form=form)
    except ValueError:
        setup_logging(name)
        logger.error("STREAMLEARN_LOG_LEVEL: %r is no level; write DEBUG, INFO, WARNING or ERROR", level)
        raise typer.Exit(EXIT_CONFIG) from None
    try:
        code = work(wiring.read_settings(config, os.environ, accepted), life)
    except HOPELESS as error:
        logger.error("%s", error)
        raise typer.Exit(EXIT_CONFIG) from None
    except Fenced as error:
        logger.error("%s (is another learner running on this data_dir?)", error)
        raise typer.Exit(1) from None
    except StreamlearnError as error:
        logger.exception("%s", error)
        raise typer.Exit(1) from None
    except Exception as error:
        logger.exception("unforeseen: %r", error)
        raise typer.Exit(1) from None
    logger.info("ended")
    raise typer.Exit(code)
