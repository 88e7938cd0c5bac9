"""The service that the demo runs: the three roles of `streamlearn serve` as supervised processes over a folder of its own.

Its configuration is the shipped one, as it is; of the environment's settings none reaches it, so that the demo is the same
everywhere. Afterwards it reads the state that the learner left behind.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ..config import PREFIX, Settings
from ..errors import ConfigError, EventError, StoreError
from ..events import decode_event
from ..records import Status
from . import wiring
from .letters import letters
from .lifetime import Lifetime
from .serve import free_port, only_one, roles
from .supervisor import Supervisor

if TYPE_CHECKING:
    from ..learning.checkpoint import Ledger

CONFIG: Final = "demo.toml"
LOGS: Final = "logs.jsonl"
MODEL: Final = "delay"
HOST: Final = "127.0.0.1"
KEPT: Final = frozenset({"STREAMLEARN_LOG_LEVEL"})
TOLD_LOGS: Final = 5  # lines of the roles' logs that go with a failure


class Outcome(NamedTuple):
    """What the learner left: its last status, its account of ids, and the dead letters as (id, part "x" or "y")."""

    status: Status
    ledger: Ledger
    dead: frozenset[tuple[str, str]]


class Service:
    """The running roles. `life.stop` says that a person wants the demo to end; `ended` that none of the roles runs any more."""

    def __init__(self, folder: Path, settings: Settings, port: int, supervisor: Supervisor, life: Lifetime) -> None:
        self.folder, self.settings, self.life = folder, settings, life
        self.url = f"http://{HOST}:{port}"
        self.ended = threading.Event()
        self.code = 0
        self._halt = threading.Event()
        self._supervisor = supervisor
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def start(self) -> None:
        """Start the roles, and watch them. Raises OSError when they cannot be run."""
        self._supervisor.start()
        self._thread.start()

    def _run(self) -> None:
        try:
            self.code = self._supervisor.run(self._halt, self.life.kill)
        finally:
            self.ended.set()

    def restarts(self) -> int:
        """How often a role had to be started again."""
        return sum(self._supervisor.restarts().values())

    def stop(self) -> int:
        """Drain the roles, and wait for that; the exit code."""
        self._halt.set()
        self._thread.join()
        return self.code

    def last_words(self) -> list[str]:
        """The last lines of the roles' logs that are not mere information."""
        with suppress(OSError), (self.folder / LOGS).open(encoding="utf-8", errors="replace") as file:
            return list(deque((text.rstrip() for text in file if not _is_information(text)), TOLD_LOGS))
        return []


def _is_information(text: str) -> bool:
    try:
        return str(msgspec.json.decode(text, type=dict[str, Any]).get("level")) in ("info", "debug")
    except msgspec.DecodeError:  # a traceback, or what a library printed
        return False


def elsewhere(kafka: str | None, redis: str | None) -> str:
    """The settings, as TOML, of a log on Kafka and a store on Redis, under names that were never used."""
    run, tables = f"demo-{secrets.token_hex(4)}", ""
    if kafka is not None:
        brokers = json.dumps([address.strip() for address in kafka.split(",")])
        tables += f'\n[log]\nbackend = "kafka"\n\n[log.kafka]\nbootstrap = {brokers}\nprefix = "{run}."\n'
    if redis is not None:
        tables += f'\n[store]\nbackend = "redis"\n\n[store.redis]\nurl = {json.dumps(redis)}\nprefix = "{run}"\n'
    return tables


@contextmanager
def service(
    folder: Path, port: int, environ: Mapping[str, str], life: Lifetime, servers: str = "", name: str = CONFIG
) -> Iterator[Service]:
    """The service over `folder` on `port` (0: a free one), drained at the end; `servers` as `elsewhere` gives them, `name` is
    that of its configuration.

    Raises ConfigError, OSError.
    """
    own = {name: value for name, value in environ.items() if not name.startswith(PREFIX) or name in KEPT}
    config = folder / name
    config.write_text((files(__package__) / "data" / name).read_text(encoding="utf-8") + servers, encoding="utf-8")
    settings = wiring.read_settings(config, own)
    if (settings.data_dir / wiring.LOG_FILE).exists():
        problem = f"{settings.data_dir} holds the events of an earlier run"
        raise ConfigError("--data-dir", problem, "Name an empty folder, or leave it out")
    with ExitStack() as stack:
        wiring.ring(settings, own)
        stack.enter_context(only_one(settings.data_dir))
        port = free_port(HOST, port)
        logs = stack.enter_context((folder / LOGS).open("ab"))
        supervisor = Supervisor(
            roles(config, own | {f"{PREFIX}SERVE__PORT": str(port)}), say=lambda text: None, stderr=logs.fileno()
        )
        running = Service(folder, settings, port, supervisor, life)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def prepare() -> None:
    """Load what `final_state` needs: it brings river, which takes seconds, and the roles need the machine first."""
    from ..learning import checkpoint  # noqa: F401  # loaded for its effect: it is there when it is needed


def final_state(settings: Settings) -> Outcome | None:
    """What the learner has written down; None when its last checkpoint does not hold everything in the log yet.

    Raises StoreError, LogError, CodecError.
    """
    from ..learning.checkpoint import ledger

    with wiring.opened(settings, {}) as world:
        stream = settings.models[MODEL].stream
        infos = [info for info in world.store.checkpoints(MODEL, 0) if info.set_aside is None]
        if not infos:
            return None
        found = ledger(world.store.checkpoint(infos[0].id), world.keys, MODEL, 0)
        if found.position < world.log.bounds(stream, 0)[1]:
            return None
        document = world.store.statuses().get((MODEL, 0))
        if document is None:
            raise StoreError(f"{MODEL}/0: the learner has left no status")
        dead = frozenset(part for letter in letters(world.log) for part in _parts(letter.dead.raw))
        return Outcome(msgspec.json.decode(document, type=Status), found, dead)


def _parts(raw: bytes) -> Iterator[tuple[str, str]]:
    with suppress(EventError):
        event = decode_event(raw)
        for part in ("x", "y"):
            if getattr(event, part) is not None:
                yield str(event.id), part
