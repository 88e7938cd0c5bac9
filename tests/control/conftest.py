"""A stage for control: a fake learner that answers commands with signals, fake fits, and the whole story over a MemoryLog."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from streamlearn.config import Settings, parse
from streamlearn.control.loop import Control
from streamlearn.errors import RetrainError
from streamlearn.events import Kind, Position
from streamlearn.keys import KeyRing
from streamlearn.log import CONTROL, SIGNALS, Entry, Log
from streamlearn.records import Command, Decision, Request, Signal, Status, decode_control, open_command
from streamlearn.store import Retention, Store
from streamlearn.store.codec import encode
from streamlearn.testing import Abort, DoneJob, FakeClock, Faults, MemoryLog, MemoryStore

KEYS = KeyRing({"test": b"0123456789abcdef"})
BLOCKS = 3  # a turn
WINDOW = 100
REFERENCE = {"n": 1000, "sum": 100.0}


class FakeLearner:
    """One shard. It keeps the rules of the real one: commands in the order of their seq, a repeat passed over in silence."""

    def __init__(self, log: Log, model: str, stream: str, shard: int) -> None:
        self.log, self.model, self.stream, self.shard = log, model, stream, shard
        self.position = log.bounds(stream, shard)[1]
        self.seq = self.n = 0
        self.version, self.shadow, self.parked = 1, None, None
        self.was_champion = False
        self.held: str | None = None
        self.held_from = 0
        self.last = -1
        self.trial = -1
        self.blocks = 0
        self.commands: list[Command] = []
        self.answered: list[tuple[str, str]] = []
        self.refuse: dict[str, list[tuple[str, str]]] = {}
        self.sums: dict[str, Any] = {}  # what else its blocks carry
        self.gain = 0.3  # how much lower the challenger's loss is
        self.step = -1  # of the canary
        self.share = 0.0
        self.outcomes = (0, 0, 0.0)  # a block: served by the champion, by the challenger, and by how much the latter does worse
        self.regret: float | None = None  # how much lower the old champion's loss is after a promotion; None tells no blocks
        self.recovery_mean = 0.1
        self.recovery_in = -1  # turns until the recovery window is full
        self.stop_before = ""  # a verb at which it stands still, like a process that died before it read on

    def tell(self, kind: str, **data: Any) -> None:
        signal = Signal(self.model, self.shard, self.seq, kind, self.version, self.position, self.n, 0.0, data)
        self.seq += 1
        self.append(signal)

    def append(self, signal: Signal) -> None:
        self.log.append(SIGNALS, [Entry(self.model.encode(), msgspec.json.encode(signal), partition=0)]).result()

    def post(self, count: int = 1) -> None:
        """Labelled events arrive in its partition."""
        self.log.append(self.stream, [Entry(b"k", b"{}", Kind.EVENT, self.shard)] * count).result()
        self.n += count

    def alarm(self, change_offset: int = 0, since: int = 500) -> None:
        """An alarm about a change `since` labelled events ago."""
        self.tell("alarm", detector="adwin", change_offset=change_offset, change_n=self.n - since, ref_n=1000, ref_mean=0.1)

    def window(self, mean: float = 0.5, tag: str = "fresh", look: tuple[int, int] = (0, WINDOW)) -> None:
        """A window of losses of that mean; a fresh one may be told when a part of it has come, by the look before and now."""
        before, size = look
        fresh = {"n": size, "sum": mean * size}
        more: dict[str, Any] = {"ref": REFERENCE, "look": [before, size, WINDOW]} if tag == "fresh" else {"ref": {}}
        self.tell("window", tag=tag, loss="binary", **more, fresh=fresh, from_n=self.n, to_n=self.n + size)

    def batch(self, loss: float, n: int = 100) -> None:
        """So many more labelled events arrive, of that mean loss."""
        self.post(n)
        self.tell("batch", n=n, loss=loss)

    def drift(self) -> None:
        self.alarm()
        self.window()

    def turn(self) -> bool:
        """Read on and answer; whether anything happened. BLOCKS blocks are told while a trial is open."""
        busy = False
        for record in self.log.read(self.stream, self.shard, self.position, 1000):
            if record.kind == Kind.COMMAND:
                command = open_command(record.value, KEYS)
                if command.verb == self.stop_before:
                    return False
            self.position = record.offset + 1
            if record.kind == Kind.COMMAND and command.model == self.model:
                busy = True
                self.obey(command)
        if self.recovery_in >= 0:
            self.recovery_in -= 1
            busy = True
            if self.recovery_in < 0:
                self.post(WINDOW)
                self.window(self.recovery_mean, "recovery")
        if self.trial >= 0:
            gain = (self.regret or 0.0) if self.was_champion else self.gain
            for _ in range(BLOCKS):
                self.post(10)
                more = {} if self.step < 0 else {"canary": {"step": self.step, **self.arms()}}
                losses = {"n": 10, "champion": 5.0, "challenger": 5.0 - 10 * gain}
                self.tell("block", trial=self.trial, block=self.blocks, **losses, **self.sums, **more)
                self.blocks += 1
            busy = True
        return busy

    def arms(self) -> dict[str, list[float]]:
        champion, challenger, worse = self.outcomes
        return {"champion": [champion, 0.0, 0.0], "challenger": [challenger, challenger * worse, challenger * worse**2]}

    def obey(self, command: Command) -> None:
        self.commands.append(command)
        if command.seq <= self.last:
            return
        self.last = command.seq
        refusal = self.refuse.get(command.verb)
        if refusal:
            reason, detail = refusal.pop(0)
            self.refused(command, reason, detail)
            return
        held = self.held
        problem = getattr(self, f"_{command.verb}")(command)
        if problem:
            self.refused(command, problem, "")
            return
        self.answered.append((command.verb, "applied"))
        about: dict[str, Any] = {"version": self.version, "shadow": self.shadow, "offset": self.position}
        if held and self.held is None:
            mode = command.mode if command.verb == "resume" else "skip"
            about |= {"held": [self.held_from, self.position], "mode": mode}
        self.tell("applied", verb=command.verb, seq_of=command.seq, **about)
        if command.verb == "promote":
            self.recovery_in = 2

    def refused(self, command: Command, reason: str, detail: str) -> None:
        self.answered.append((command.verb, reason))
        self.tell("refused", verb=command.verb, seq_of=command.seq, reason=reason, detail=detail)

    def _try(self, command: Command) -> str:
        assert command.spec["shard"] == self.shard
        assert command.spec["version"] == command.version
        assert command.spec["stop"] == command.trained_to[str(self.shard)] <= self.position
        self._park()
        self.shadow, self.trial, self.blocks, self.was_champion = command.version, command.seq, 0, False
        self.step = -1
        return ""

    def _canary(self, command: Command) -> str:
        if self.shadow is None or self.was_champion or self.shadow != command.version:
            return "not_in_trial"
        self.step, self.share = command.seq, command.share
        return ""

    def _detach(self, command: Command) -> str:
        if self.shadow is None:
            return "not_in_trial"
        self._park()
        self.shadow, self.trial, self.step = None, -1, -1
        return ""

    def _park(self) -> None:
        if self.was_champion:
            self.parked = self.shadow
        self.was_champion = False

    def _promote(self, command: Command) -> str:
        if self.shadow is None or self.shadow != command.version:
            return "not_in_trial"
        self.version, self.shadow, self.trial, self.was_champion = self.shadow, self.version, -1, True
        self.held, self.step = None, -1
        if self.regret is not None:
            self.trial, self.blocks = command.seq, 0
        return ""

    def _rollback(self, command: Command) -> str:
        old = self.shadow if self.was_champion else self.parked
        if old is None or old != command.version:
            return "no_previous"
        self.version, self.parked, self.shadow, self.was_champion = old, self.version, None, False
        self.held, self.trial, self.step = None, -1, -1
        return ""

    def _hold(self, command: Command) -> str:
        if self.held:
            return "held"
        self.held, self.held_from = command.reason, self.position
        self.tell("held", reason=command.reason, offset=self.position)
        return ""

    def _resume(self, command: Command) -> str:
        if not self.held:
            return "not_held"
        self.held = None
        return ""

    def _reset(self, command: Command) -> str:
        return ""


@dataclass
class FakeJob:
    jobs: FakeJobs
    spec: Any
    polls: int
    cancelled: bool = False
    taken: bool = False

    def progress(self) -> tuple[int, int]:
        return (10 - self.polls, 10)

    def cancel(self) -> None:
        self.cancelled = True

    def done(self) -> bool:
        self.polls -= 1
        return self.cancelled or self.polls <= 0

    @property
    def running(self) -> bool:
        return not self.cancelled and not self.taken

    def result(self) -> bytes:
        self.taken = True
        if self.cancelled:
            raise RetrainError("cancelled", "asked")
        log = self.jobs.log
        failures = sum(b'"kind":"retrain_failed"' in record.value for record in log.read(CONTROL, 0, 0, 100_000))
        if failures < len(self.jobs.errors):
            raise self.jobs.errors[failures]
        end = log.bounds(self.spec.stream, self.spec.partition)[1] - self.jobs.behind
        return encode(
            kind="version", model=self.spec.model, version=self.spec.version, shard=self.spec.shard, generation=0,
            positions=[Position(log.identity(self.spec.stream), self.spec.stream, self.spec.partition, end)], created=0.0,
            parts={"model": b"m", "join": b"j"}, keys=KEYS, extra={"learned": 800, "skipped": 3},
        )  # fmt: skip


@dataclass
class FakeJobs:
    """Fits that are done after `polls` looks. Two of one shard at once fail the test.

    `errors[i]` befalls a fit that ends when i failures are on record, so a fit that is begun again ends as it would have.
    """

    log: Log
    polls: int = 2
    behind: int = 0
    errors: list[RetrainError] = field(default_factory=list)
    all: list[FakeJob] = field(default_factory=list)
    down: RetrainError | None = None
    asked: list[Any] = field(default_factory=list)
    answer: FakeJob | DoneJob | None = None

    def ask(self, spec: Any, time_limit_s: float, memory_limit_mb: float) -> Any:
        """A question to a model as it was is answered as the test has it."""
        self.asked.append(spec)
        if self.answer is None:
            raise RetrainError("failed", "nobody answers here")
        return self.answer

    def submit(self, spec: Any, time_limit_s: float, memory_limit_mb: float) -> FakeJob:
        if self.down is not None:
            raise self.down
        twins = [job for job in self.all if (job.spec.model, job.spec.shard) == (spec.model, spec.shard) and job.running]
        assert not twins, "a second fit of the same shard while the first one runs"
        job = FakeJob(self, spec, self.polls)
        self.all.append(job)
        return job


SETTINGS: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"clicks": {"partitions": 1}},
    "models": {
        "m": {
            "stream": "clicks",
            "task": "binary",
            "pipeline": "logistic",
            "drift": {"window": WINDOW},
            "trial": {"min_events": 100, "horizon_events": 2000, "watch_events": 400, "tolerance": 0.01, "canary": []},
            "retrain": {"attempts": 3, "backoff_s": 5.0, "max_gap_records": 2000},
        }
    },
}


class Stage:
    """Log, store, learners, fits and a control that can be killed and started again."""

    def __init__(self, shards: int = 1, models: tuple[str, ...] = ("m",), **model: Any) -> None:
        tree = {**SETTINGS, "streams": {"clicks": {"partitions": shards}}}
        tree["models"] = {name: {**SETTINGS["models"]["m"], **model} for name in models}
        self.settings: Settings = parse(tree, {})
        self.clock, self.timer = FakeClock(), FakeClock(0.0)
        self.log = MemoryLog(clock=self.clock)
        self.log.create({"clicks": shards})
        self.store = MemoryStore(clock=self.clock)
        self.jobs = FakeJobs(self.log)
        self.faults = Faults()
        self.awaited: dict[str, int] = {}
        self.learners = [FakeLearner(self.log, name, "clicks", shard) for name in models for shard in range(shards)]
        for learner in self.learners:
            learner.post(1000)
        self.start()

    @property
    def learner(self) -> FakeLearner:
        return self.learners[0]

    def start(self) -> None:
        """A new control process on the same log and store; the fits of the one before died with it."""
        self.jobs = FakeJobs(self.log, self.jobs.polls, self.jobs.behind, self.jobs.errors)
        log: Log = self.faults.over(self.log.reopen())
        store: Store = self.faults.over(self.store.reopen())
        self.control = Control(self.settings, log, store, KEYS, self.jobs, self.clock, timer=self.timer)

    def kill(self) -> None:
        self.start()

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.timer.advance(seconds)

    def turn(self, seconds: float = 1.0) -> None:
        """Control, then every learner, takes one turn."""
        self.advance(seconds)
        self.control.tick()
        for learner in self.learners:
            learner.turn()
            self.status(learner)

    def status(self, learner: FakeLearner, **changes: Any) -> None:
        doc = Status(
            learner.model, learner.shard, 0, learner.version, learner.shadow, learner.position, learner.position,
            self.log.identity("clicks"), self.clock(), learner.n, None, learner.held, {}, 0, 0, {},
        )  # fmt: skip
        doc = msgspec.structs.replace(doc, **changes)
        self.store.put_status(learner.model, learner.shard, 0, msgspec.json.encode(doc))

    def until(self, kind: str, turns: int = 200, model: str = "m") -> Decision:
        """Turn until the model has a decision of this kind that comes after those already waited for."""
        for _ in range(turns):
            for index, decision in enumerate(self.decisions(model)):
                if index >= self.awaited.get(model, 0) and decision.kind == kind:
                    self.awaited[model] = index + 1
                    return decision
            self.turn()
        raise AssertionError(f"no {kind} after {[decision.kind for decision in self.decisions(model)]}")

    def settle(self, turns: int = 200) -> None:
        """Turn until nothing more is decided or answered for some turns."""
        quiet = 0
        for _ in range(turns):
            before = self.log.bounds(CONTROL, 0)[1], self.log.bounds(SIGNALS, 0)[1]
            self.turn()
            quiet = quiet + 1 if before == (self.log.bounds(CONTROL, 0)[1], self.log.bounds(SIGNALS, 0)[1]) else 0
            if quiet >= 15:
                return
        raise AssertionError("it does not come to rest")

    def request(self, action: str, model: str = "m", **fields: Any) -> Request:
        end = self.log.bounds(CONTROL, 0)[1]
        request = Request(fields.pop("id", f"r{end}"), model, action, "ann", self.clock(), **fields)
        self.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()
        return request

    def ask(self, action: str, **fields: Any) -> Decision:
        """A request by hand, and the decision that settled it."""
        offset = self.log.bounds(CONTROL, 0)[1]
        self.request(action, **fields)
        self.turn()
        [settled] = [d for d in self.decisions(None) if d.numbers.get("request") == offset]
        return settled

    def decisions(self, model: str | None = "m") -> list[Decision]:
        values = [record.value for record in self.log.read(CONTROL, 0, 0, 100_000)]
        records = [decode_control(value) for value in values if value.startswith(b'{"type"')]
        return [r for r in records if isinstance(r, Decision) and model in (None, r.model)]

    def kinds(self, model: str = "m") -> list[str]:
        return [decision.kind for decision in self.decisions(model)]

    def story(self, model: str | None = "m") -> list[tuple[Any, ...]]:
        """What must be the same whatever was killed: everything but times and the places that repeated commands take up."""
        verbs = [decision.numbers.get("command", {}).get("verb") for decision in self.decisions(model)]
        rows = [(d.model, d.kind, d.case, d.version, d.by) for d in self.decisions(model)]
        return [(*row, verb) for row, verb in zip(rows, verbs, strict=True)]

    def view(self, kind: str, id: str = "m") -> dict[str, Any]:
        doc: dict[str, Any] = msgspec.json.decode(self.store.views(kind)[id])
        return doc

    def views(self) -> dict[tuple[str, str], Any]:
        return {
            (kind, id): msgspec.json.decode(doc)
            for kind in ("model", "case", "version", "history", "audit")
            for id, doc in self.store.views(kind).items()
        }

    def state(self, model: str = "m") -> Any:
        return self.control.states()[model]


def survive(stage: Any) -> None:
    """A turn, in which control may die; it is started again at once."""
    try:
        stage.turn()
    except Abort:
        stage.kill()


def checkpoint(stage: Any, position: int, shard: int = 0, generation: int = 0, version: int = 1) -> int:
    """The store has a checkpoint of the shard that has read to `position`."""
    place = Position(stage.log.identity("clicks"), "clicks", shard, position)
    blob = encode(
        kind="checkpoint", model="m", version=version, shard=shard, generation=generation, positions=[place], created=0.0,
        parts={"champion": b"c", "join": b"j"}, keys=KEYS,
    )  # fmt: skip
    id: int = stage.store.put_checkpoint("m", shard, generation, blob, Retention(100, 0, 0))
    return id


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    return Stage


@pytest.fixture
def keys() -> KeyRing:
    return KEYS


class Receiver:
    """A real HTTP server on loopback that keeps what it gets, and answers as `answers` has it, else 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hangs = threading.Event()
        self.free = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                if receiver.hangs.is_set():
                    receiver.free.wait(30)
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                said = b"" if status == 200 else b"try <later>"
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the sender has gone
                    super().handle()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def documents(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(body) for _, _, body in self.got]

    def close(self) -> None:
        self.free.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()
