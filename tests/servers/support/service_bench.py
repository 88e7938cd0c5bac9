"""A service on a real Kafka and a real Redis: its configuration, its processes to be shot at, its traffic, and what must hold.

What was acknowledged is held against the learners' own accounts of ids, and every shard's newest checkpoint against a replay
of the log in this process, alone.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import msgspec
import psutil

from streamlearn.cli import wiring
from streamlearn.cli.dev_process import free_ports
from streamlearn.cli.verify import check_shard
from streamlearn.cli.wiring import World
from streamlearn.errors import StreamlearnError
from streamlearn.events import REASONS, partition_of
from streamlearn.learning import checkpoint
from streamlearn.learning.checkpoint import Ledger
from streamlearn.log import CONTROL
from streamlearn.records import Claim, Decision, Status, decode_control

STREAM = "clicks"
WAIT_S = 120.0
LOOK_S = 0.05
SEED = 20

CONFIG = """
data_dir = "data"
[log]
backend = "kafka"
[log.kafka]
bootstrap = ["{kafka}"]
prefix = "{name}."
replication = 1
min_insync = 1
session_timeout_s = 3
request_timeout_s = 3
[store]
backend = "redis"
[store.redis]
url = "{redis}"
prefix = "{name}"
[serve]
port = {port}
stale_after_s = 4
[control]
heartbeat_s = 2
[streams.clicks]
partitions = {partitions}
{models}
"""
MODEL = """
[models.{name}]
stream = "clicks"
task = "binary"
pipeline = "{pipeline}"
label_wait_s = 1000000
dedupe_ids = 300000
checkpoint = {{ interval_s = 1 }}
[models.{name}.drift]
window = 100
"""
CTR: Mapping[str, str] = {"ctr": "logistic"}


def eventually(found: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """What `found` gives once it is true. A log or store that is away, or does not answer, counts as not yet."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            value = found()
            if value:
                return value
            last = repr(value)
        except (StreamlearnError, httpx.HTTPError) as error:
            last = repr(error)
        time.sleep(LOOK_S)
    raise AssertionError(f"{what}: not within {seconds:g} s, at last {last[:2000]}")


class Program:
    """`streamlearn WORDS` in a process of its own, with `more` in its environment; what it says is kept in a file."""

    def __init__(self, words: list[str], log: Path, more: Mapping[str, str]) -> None:
        self.log = log
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")} | dict(more)
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Leave nothing of it behind, its children included."""
        with suppress(psutil.Error):
            family = psutil.Process(self.pid).children(recursive=True)
            self.process.kill()
            for child in family:
                with suppress(psutil.Error):
                    child.kill()
        self.process.wait()

    def role(self, role: str) -> int | None:
        """The process id of one of the roles of `serve`: learn, control or api; None while it is not there."""
        word = "--api-only" if role == "api" else role
        with suppress(psutil.Error):
            for child in psutil.Process(self.pid).children():
                with suppress(psutil.Error):
                    if word in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                        return int(child.pid)
        return None

    def kill_role(self, role: str) -> int:
        """SIGKILL to a role, waiting first for one that is only just coming back; its process id."""
        pid: int = eventually(lambda: self.role(role), f"{role} comes back")
        os.kill(pid, signal.SIGKILL)
        return pid


class Answer(NamedTuple):
    """What a question was answered with: when (monotonic seconds), the HTTP status, why it is degraded, how old it is."""

    at: float
    status: int
    degraded: list[str]
    age_s: float = 0.0


class Site:
    """Where a service lives: a folder, and names of its own on the servers. `close` ends every program that it started."""

    def __init__(
        self, folder: Path, kafka: str, redis: str, *, partitions: int = 2, models: Mapping[str, str] = CTR, more: str = ""
    ) -> None:
        self.folder, self.partitions, self.models = folder, partitions, tuple(models)
        self.url = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
        self.name = f"t{secrets.token_hex(4)}"
        tables = "".join(MODEL.format(name=name, pipeline=pipeline) for name, pipeline in models.items())
        self.config = folder / "config.toml"
        self.config.write_text(
            CONFIG.format(kafka=kafka, redis=redis, name=self.name, port=port, partitions=partitions, models=tables + more)
        )
        self.settings = wiring.read_settings(self.config, {})
        self.programs: list[Program] = []
        self._world: Any = None

    @property
    def shards(self) -> list[tuple[str, int]]:
        return [(model, shard) for model in self.models for shard in range(self.partitions)]

    @property
    def topic(self) -> str:
        return f"{self.name}.{STREAM}"

    @property
    def world(self) -> World:
        """This process's own hands on the log and the store."""
        if self._world is None:
            self._world = wiring.opened(self.settings, {})
            self._opened = self._world.__enter__()
        opened: World = self._opened
        return opened

    def let_go(self) -> None:
        """Forget what this process knows of the log and the store: the next look is that of a new process."""
        if self._world is not None:
            self._world.__exit__(None, None, None)
            self._world = None

    def close(self) -> None:
        for program in self.programs:
            program.end()
        self.let_go()

    def run(self, verb: str, *options: str, **environ: str) -> Program:
        """Start `streamlearn VERB CONFIG OPTIONS`."""
        program = Program([verb, str(self.config), *options], self.folder / f"{verb}-{len(self.programs)}.log", environ)
        self.programs.append(program)
        return program

    def serve(self, **environ: str) -> Program:
        """The whole service, ready."""
        program = self.run("serve", **environ)
        first = {"stream": STREAM, "ts": 1e9, "x": {"a": 0.5, "b": 0.5, "c": "u"}}
        self.post([first | {"id": f"first-{shard}", "key": key} for shard, key in enumerate(self.keys())])
        self.await_ready()
        return program

    def keys(self) -> list[str]:
        """A key for each shard."""
        names = [f"k{n}" for n in range(1000)]
        return [
            next(name for name in names if partition_of(name.encode(), self.partitions) == shard)
            for shard in range(self.partitions)
        ]

    def said(self) -> str:
        """The end of what every program said."""
        return "\n".join(f"== {program.log.name}\n{program.said[-3000:]}" for program in self.programs)

    # -- over HTTP

    def readiness(self) -> tuple[int, list[str]]:
        """The status of /readyz, and what it says is amiss."""
        answer = httpx.get(f"{self.url}/readyz", timeout=10)
        body = answer.json()
        return answer.status_code, body["degraded"] if answer.status_code == 200 else body["reasons"]

    def await_ready(self, seconds: float = WAIT_S) -> None:
        """Until every model can answer, and nothing is amiss."""
        try:
            eventually(lambda: self.readiness() == (200, []), "ready and well", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None

    def post(self, batch: list[dict[str, Any]], seconds: float = WAIT_S, client: httpx.Client | None = None) -> None:
        """At least once: what was not acknowledged is sent again, under the same ids."""
        deadline, last = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                answer = (client or httpx).post(f"{self.url}/v1/events", json=batch, timeout=30)
                last = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code == 200:
                    assert answer.json()["accepted"] == len(batch), last
                    return
                assert answer.status_code in (429, 503), last
            except httpx.HTTPError as error:
                last = repr(error)
            time.sleep(LOOK_S)
        raise AssertionError(f"not acknowledged within {seconds:g} s: {last}\n{self.said()}")

    def ask(self, model: str = "ctr", key: str = "k1", client: httpx.Client | None = None) -> Answer:
        question = {"x": {"a": 0.9, "b": 0.9, "c": "u"}, "key": key}
        answer = (client or httpx).post(f"{self.url}/v1/predict/{model}", json=question, timeout=10)
        said = answer.json()
        return Answer(time.monotonic(), answer.status_code, said.get("degraded") or [], said.get("age_s", 0.0))

    # -- what is in the log and in the store

    def statuses(self) -> dict[tuple[str, int], Status]:
        return {place: msgspec.json.decode(doc, type=Status) for place, doc in self.world.store.statuses().items()}

    def control(self) -> list[tuple[int, Any]]:
        """Every record of the control log with its offset."""
        at, end = self.world.log.bounds(CONTROL, 0)
        found: list[tuple[int, Any]] = []
        while at < end:
            for record in self.world.log.read(CONTROL, 0, at, 1000):
                found.append((record.offset, decode_control(record.value)))
                at = record.offset + 1
        return found

    def holders(self) -> dict[tuple[str, int], int]:
        """The process id of each shard's holder: who made the claim whose generation is in the newest status."""
        claims = {offset: entry for offset, entry in self.control() if isinstance(entry, Claim)}
        found = {}
        for place, status in self.statuses().items():
            claim = claims.get(status.generation)
            if claim is not None:
                assert (claim.model, claim.shard) == place
                found[place] = int(claim.holder.rpartition(":")[2])
        return found

    def decisions(self) -> list[tuple[int, Decision]]:
        return [(offset, entry) for offset, entry in self.control() if isinstance(entry, Decision)]

    def ends(self) -> dict[int, int]:
        return {shard: self.world.log.bounds(STREAM, shard)[1] for shard in range(self.partitions)}

    def ledger(self, model: str, shard: int) -> Ledger | None:
        """The account in a shard's newest checkpoint."""
        for info in self.world.store.checkpoints(model, shard):
            if info.set_aside is None:
                return checkpoint.ledger(self.world.store.checkpoint(info.id), self.world.keys, model, shard)
        return None

    def await_learned(self, seconds: float = WAIT_S) -> dict[tuple[str, int], Ledger]:
        """Every shard's account, once each has a checkpoint of all that is in its partition now."""
        ends = eventually(self.ends, "the log says where it ends")
        accounts: dict[tuple[str, int], Ledger] = {}

        def learned() -> bool:
            for place in self.shards:
                account = accounts.get(place)
                if account is None or account.position < ends[place[1]]:
                    account = self.ledger(*place)
                    if account is None or account.position < ends[place[1]]:
                        return False
                    accounts[place] = account
            return True

        try:
            eventually(learned, f"learned up to {ends}", seconds)
        except AssertionError as error:
            told = {place: account.position for place, account in accounts.items()}
            raise AssertionError(f"{error}; checkpoints {told}\n{self.said()}") from None
        return accounts

    def hold(self, traffic: Traffic, seconds: float = WAIT_S) -> None:
        """What was acknowledged is known to every model, once; each label was learned once; each state is that of a replay."""
        accounts = self.await_learned(seconds)
        for model in self.models:
            mine = [accounts[model, shard] for shard in range(self.partitions)]
            labels = {id: y for account in mine for id, y in account.labels.items() if not id.startswith("first-")}
            assert sum(len(account.labels) for account in mine) == len(labels) + self._firsts(mine), "an id in two shards"
            assert labels.keys() == traffic.ids, _difference(labels.keys(), traffic.ids)
            learned = {id: y for id, y in labels.items() if y is not None}
            assert learned == traffic.labels, _difference(learned.keys(), traffic.labels.keys())
            assert sum(account.learned for account in mine) == len(traffic.labels), "a label was learned twice, or not at all"
            dead = {reason for account in mine for reason in account.counters.keys() & REASONS.keys()}
            assert not dead, dead
        for model, shard in self.shards:
            verdict = check_shard(self.world, model, shard)
            assert verdict.verdict == "same", (verdict, self.said())

    @staticmethod
    def _firsts(accounts: list[Ledger]) -> int:
        return sum(id.startswith("first-") for account in accounts for id in account.labels)


def _difference(found: Any, wanted: Any) -> str:
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    return f"{len(missing)} missing, like {sorted(missing)[:5]}; {len(extra)} too many, like {sorted(extra)[:5]}"


class Traffic:
    """Events whose label comes with them, later in the same order, or never; `ids` and `labels` remember what it made."""

    def __init__(self, seed: int = SEED) -> None:
        self.ids: set[str] = set()
        self.labels: dict[str, bool] = {}
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    def batches(self, events: int, size: int = 200) -> Iterator[list[dict[str, Any]]]:
        """`events` more features with what labels they have, in requests of about `size`."""
        late: list[dict[str, Any]] = []
        batch: list[dict[str, Any]] = []
        for _ in range(events):
            event, label = self._one()
            batch.append(event)
            if label is not None:
                late.append(label)
            if len(late) > 100:
                batch.append(late.pop(0))
            if len(batch) >= size:
                yield batch
                batch = []
        yield [*batch, *late]

    def _one(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        with self._lock:
            rng, n = self._rng, len(self.ids)
            a, b = rng.random(), rng.random()
            y = (a + b > 1) ^ (rng.random() < 0.1)
            id = f"e{n}"
            self.ids.add(id)
            event: dict[str, Any] = {"stream": STREAM, "id": id, "ts": 1e9 + n, "x": {"a": a, "b": b, "c": rng.choice("uvw")}}
            kind = rng.random()
            if kind < 0.95:
                self.labels[id] = y
            if kind < 0.6:
                return event | {"y": y}, None
            return event, {"stream": STREAM, "id": id, "ts": 1e9 + n, "y": y} if kind < 0.95 else None


class Load:
    """Applications and frontends at work, in threads: `rate` events a second, each acknowledged in the end; and questions.

    `answers` holds every answer to a question; one that broke off, as when the API was killed, has the status 0.
    """

    def __init__(self, site: Site, traffic: Traffic, rate: int = 400, batch: int = 100) -> None:
        self._site, self._traffic, self._rate, self._batch = site, traffic, rate, batch
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.answers: list[Answer] = []
        self.posted = 0
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._post, self._ask)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if error[0] is None and self._errors:
            raise self._errors[0]

    def since(self, start: float, until: float | None = None) -> list[Answer]:
        """The answers between two times, monotonic seconds."""
        return [answer for answer in self.answers if start <= answer.at <= (until or time.monotonic())]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)

    def _post(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                for batch in self._traffic.batches(self._batch, self._batch):
                    began = time.monotonic()
                    self._site.post(batch, 120, client)
                    self.posted += len(batch)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self._stop.wait(self._batch / self._rate)

    def _ask(self) -> None:
        keys = self._site.keys()
        with httpx.Client(timeout=10) as client:
            while not self._stop.wait(LOOK_S):
                for key in keys:
                    try:
                        self.answers.append(self._site.ask(key=key, client=client))
                    except httpx.HTTPError:
                        self.answers.append(Answer(time.monotonic(), 0, []))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def fill(ballast: Path) -> None:
    """Take all that is left of a disk."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
