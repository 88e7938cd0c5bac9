"""`streamlearn dev-servers`: a real Kafka and a real Redis on this machine until Ctrl-C, for trials and tests without Docker.

It runs what is installed (Java with jars that Maven fetches once, redis-server), else Docker's images, and never touches a
server that it did not start. It is for trying things: one machine, loopback, no passwords.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from ..errors import ConfigError, StreamlearnError
from .console import explain, say
from .dev_kafka import PACKAGES, VERSION, KafkaCluster, cache_folder, find_kafka
from .dev_process import Server
from .dev_redis import PACKAGE, RedisServer, find_redis
from .lifetime import Lifetime

APT_S: Final = 600.0
LOOK_S: Final = 0.2


def dev_servers(
    kafka: Annotated[int, typer.Option(min=0, max=9, metavar="N", help="Kafka brokers; 0 for none.")] = 1,
    no_redis: Annotated[bool, typer.Option("--no-redis", help="Leave Redis out.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the data there; else in a temporary folder that is removed.", show_default=False)
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Only get what is missing, and exit 1 when it cannot be had.")] = False,
) -> None:
    """Run a real Apache Kafka and a real Redis on free loopback ports until Ctrl-C."""
    if fetch:
        raise typer.Exit(get_missing())
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamlearn-servers-")))
        raise typer.Exit(run(folder.resolve(), kafka, 0 if no_redis else 1))


def run(folder: Path, brokers: int, redises: int) -> int:
    """Run the servers with their data in `folder` until asked to end; the exit code. Raises ConfigError, StreamlearnError."""
    if not brokers + redises:
        raise ConfigError("dev-servers", "there is nothing to run", "Leave out --kafka 0 or --no-redis")
    life = Lifetime()
    life.catch_signals()
    with ExitStack() as stack:
        started = time.monotonic()
        servers: list[Server] = []
        flags, settings = [], []
        if brokers:
            found = find_kafka(cache_folder(os.environ), say)
            cluster = stack.enter_context(KafkaCluster(folder / "kafka", found, brokers))
            servers += cluster.nodes
            flags.append(f"--kafka {cluster.address}")
            settings += ["STREAMLEARN_LOG__BACKEND=kafka", f"STREAMLEARN_LOG__KAFKA__BOOTSTRAP={cluster.address}"]
        for _ in range(redises):
            redis = stack.enter_context(RedisServer(folder / "redis", find_redis()))
            servers.append(redis)
            flags.append(f"--redis {redis.url}")
            settings += ["STREAMLEARN_STORE__BACKEND=redis", f"STREAMLEARN_STORE__REDIS__URL={redis.url}"]
        for each in servers:
            say(f"{each.name}: {each.address} (process {each.pid})")
        say(f"ready after {time.monotonic() - started:.1f} s, data in {folder}; Ctrl-C ends them")
        say(f"for the demo:   streamlearn demo {' '.join(flags)}")
        say(f"for a service:  {' '.join(settings)} streamlearn serve CONFIG")
        while not life.stop.wait(LOOK_S):
            for each in servers:
                if not each.running:
                    raise StreamlearnError(f"{each.name} ended by itself:\n{each.tail()}")
    say("ended")
    return 0


def get_missing() -> int:
    """Get Kafka's jars and, as root on Debian, missing programs (Java, Maven, redis-server); tell what cannot be had.

    0 when everything is there.
    """
    code, jars = 0, cache_folder(os.environ)
    for_kafka = {command: package for command, package in PACKAGES.items() if command != "mvn" or not jars.is_dir()}
    wanted: tuple[tuple[str, Callable[[], object], Mapping[str, str]], ...] = (
        (f"Kafka {VERSION}", lambda: find_kafka(jars, say), for_kafka),
        ("Redis", find_redis, {"redis-server": PACKAGE}),
    )
    for name, find, packages in wanted:
        try:
            _get(find, packages)
            say(f"{name} is there")
        except ConfigError as error:
            code = explain(error)
    return 1 if code else 0


def _get(find: Callable[[], object], packages: Mapping[str, str]) -> None:
    """`find`, and again after the missing ones of `packages`, Debian's by command, were installed. Raises ConfigError."""
    try:
        find()
    except ConfigError:
        apt = shutil.which("apt-get")
        missing = [package for command, package in packages.items() if shutil.which(command) is None]
        if apt is None or os.geteuid() != 0 or not missing:
            raise
        install(apt, *missing)
        find()


def install(apt: str, *packages: str) -> None:
    """Install Debian packages, asking nothing; Debian may start their services as well. Raises ConfigError when that fails."""
    say(f"installing {' '.join(packages)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in ([apt, "-qq", "update"], [apt, "-qq", "-y", "--no-install-recommends", "install", *packages]):
        try:
            done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=APT_S, check=False)
            said = (done.stdout + done.stderr).strip()[-500:]
            problem = f"ended with exit code {done.returncode}: {said or 'no word'}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"did not end within {APT_S:g} s"
        if problem:
            raise ConfigError("dev-servers", f"{' '.join(argv)} {problem}", f"Install by hand: {' '.join(packages)}")
