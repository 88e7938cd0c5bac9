"""`streamlearn serve CONFIG`: the whole service on one machine, three supervised processes over one data folder.

It starts nothing before it is sure that no other service uses the folder and that the port is free, says in a few lines what
it started and where to look, and leaves the logs to the roles.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from .. import __version__
from ..config import Settings
from ..errors import ConfigError, StreamlearnError
from .console import say
from .fleet import Fleet
from .lifetime import Lifetime
from .ports import free_port as free_port
from .ports import listen as listen
from .roles import Accepted, Config, Parent, run_role
from .supervisor import Child, Supervisor

LOCK_FILE: Final = "serve.lock"
METRICS: Final = "serve.metrics"
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported
SLOW_START_S: Final = 20.0
LOOK_S: Final = 0.2


def serve(
    config: Config,
    api_only: Annotated[bool, typer.Option("--api-only", help="Run the HTTP API alone, in this process.")] = False,
    logs: Annotated[Path | None, typer.Option(help="Append the roles' logs to this file instead of stderr.")] = None,
    parent_pid: Parent = None,
    accepted: Accepted = None,
    listen_fd: Annotated[int | None, typer.Option("--listen-fd", hidden=True)] = None,
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    may_lack: Annotated[str | None, typer.Option("--may-lack", hidden=True)] = None,
) -> None:
    """Run the service: learner, control and HTTP API, supervised. Ctrl-C or SIGTERM drains; a second Ctrl-C kills.

    SIGHUP, or streamlearn reload CONFIG, takes in a changed CONFIG without a request refused or broken off.
    """
    if api_only:

        def run(settings: Settings, life: Lifetime) -> int:
            lacks = None if may_lack is None else frozenset(may_lack.split(","))
            return _run_api(settings, life, listen_fd, ready_fd, lacks)

        run_role("serve", config, parent_pid, run, accepted)
    else:
        raise typer.Exit(supervise(config, logs, os.environ))


def supervise(config: Path, logs: Path | None, environ: Mapping[str, str]) -> int:
    """Run the three roles until asked to end; the exit code. Raises ConfigErrors before anything was started."""
    from ..serving.access import check_bind
    from . import wiring
    from .keys import known_keys

    settings = wiring.read_settings(config, environ)
    keys = known_keys(settings, environ)
    check_bind(settings.serve.host, keys)
    life = Lifetime()
    life.catch_signals()
    life.reload_on_hangup()
    with ExitStack() as stack:
        wiring.ring(settings, environ)
        stack.enter_context(only_one(settings.data_dir))
        listening = stack.enter_context(listen(settings.serve.host, settings.serve.port))
        port = int(listening.getsockname()[1])
        stderr = stack.enter_context(_append_to(logs)).fileno() if logs is not None else None
        inherited = dict(environ) | {"STREAMLEARN_SERVE__PORT": str(port)}
        if settings.serve.workers > 1:
            inherited[SHARED] = str(metrics_folder(settings.data_dir))
        fleet = Fleet(config, environ, settings, lambda accepted: roles(config, inherited, accepted), listening.fileno())
        stack.callback(fleet.close)
        supervisor = fleet.supervisor = Supervisor(fleet.children(), say=say, stderr=stderr)
        supervisor.start()
        url = f"http://{address_for_clients(settings.serve.host)}:{port}"
        _tell_start(settings, config, supervisor, url, logs, bool(keys))
        threading.Thread(target=_tell_ready, args=(url, life), daemon=True).start()
        code = supervisor.run(life.stop, life.kill, lambda: fleet.reload_if(life))
    say("ended: every role was drained" if code == 0 else f"ended with exit code {code}")
    return code


def metrics_folder(data: Path) -> Path:
    """An empty folder in which the API processes of one service add up what they count. Raises ConfigError."""
    from . import wiring

    folder = data / METRICS
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise wiring.unusable(folder, error) from None
    return folder


def _append_to(logs: Path) -> BinaryIO:
    try:
        return logs.open("ab")
    except OSError as error:
        raise ConfigError("--logs", f"{logs} cannot be written ({error.strerror})", "Name a file that can") from None


def roles(config: Path, environ: Mapping[str, str], accepted: Path | None = None) -> list[Child]:
    """The three roles as child processes of whoever starts them; they read `accepted`, if given, in the place of `config`."""
    # -P: modules that happen to lie in the working directory must not stand in for installed ones.
    run = [sys.executable, "-P", "-m", "streamlearn"]
    tail = [str(config.resolve()), "--parent-pid", "{parent}"]
    if accepted is not None:
        tail += ["--accepted", str(accepted)]
    return [
        Child("learn", [*run, "learn", *tail], environ),
        Child("control", [*run, "control", *tail], environ),
        Child("serve", [*run, "serve", "--api-only", *tail], environ),
    ]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone. Raises ConfigError, naming the other one, when it is taken."""
    from . import wiring

    path = folder / LOCK_FILE
    try:
        file = path.open("a+")
    except OSError as error:
        raise wiring.unusable(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            problem = f"{folder} is in use by another streamlearn serve (process {file.read().strip() or 'unknown'})"
            raise ConfigError("data_dir", problem, "Stop that one, or give this one a folder of its own") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _run_api(
    settings: Settings, life: Lifetime, listen_fd: int | None, ready_fd: int | None, may_lack: frozenset[str] | None
) -> int:
    from . import wiring

    def listening() -> socket.socket:
        if listen_fd is None:
            return listen(settings.serve.host, settings.serve.port)
        return socket.socket(fileno=listen_fd)

    with wiring.opened(settings, os.environ) as world:
        return wiring.run_api(world, os.environ, life.stop, listening, ready_fd, may_lack)


def address_for_clients(host: str) -> str:
    """How a program on this machine writes the host of a URL for what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _tell_start(
    settings: Settings, config: Path, supervisor: Supervisor, url: str, logs: Path | None, keys: bool
) -> None:
    pids = ", ".join(f"{name} (process {pid})" for name, pid in supervisor.pids().items())
    say(f"streamlearn {__version__}: {config}, data in {settings.data_dir}")
    say(f"started {pids}; their logs go to {logs or 'stderr'}")
    say(f"API: {url}, " + ("with an API key" if keys else "without a key, since only this machine can reach it"))


def _tell_ready(url: str, life: Lifetime) -> None:
    from ..client import Client  # here, for the roles need not wait until it is imported

    started, told = time.monotonic(), False
    with Client(url) as client:
        while not life.stop.wait(LOOK_S):
            seconds = time.monotonic() - started
            try:
                found = client.ready()
                if found.ready:
                    say(f"ready after {seconds:.1f} s: every model can answer. See {url}/ and: streamlearn status --url {url}")
                    return
                why = "; ".join(found.degraded)
            except StreamlearnError as error:
                why = str(error)
            if seconds > SLOW_START_S and not told:
                told = True
                say(f"not ready after {seconds:.0f} s, still trying: {why}")
