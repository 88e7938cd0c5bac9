"""A bench for learners: one model over a MemoryLog, short words for records, and estimators that tell what was done to them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from river import base

from streamlearn.config import Settings, parse
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.events import Event, Kind, Position, Prediction, encode
from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint, pickling
from streamlearn.learning.learner import Learner
from streamlearn.learning.replay import advance, limits_of, new_learner, replay
from streamlearn.learning.trainer import Trainer
from streamlearn.log import Entry
from streamlearn.records import Command, DeadLetter, Signal, sign_command
from streamlearn.store import codec
from streamlearn.store.links import Kept
from streamlearn.testing import FakeClock, MemoryLog

NOW = 1_700_000_000.0
KEYS = KeyRing({"test": b"0123456789abcdef"})


class Spy(base.Classifier):
    """Keeps what it was asked and taught, in order. P(True) is the share of True among what it learned.

    It raises on `boom` (asked) and `bang` (taught), has no memory for `vast` (asked) and `huge` (taught), and answers NaN on
    `nan`.
    """

    def __init__(self, name: str = "spy") -> None:
        self.name = name
        self.calls: list[tuple[str, str]] = []
        self.true = 0
        self.taught = 0

    @property
    def _multiclass(self) -> bool:
        return True

    def predict_proba_one(self, x: dict[str, Any], **kwargs: Any) -> dict[Any, float]:
        if x.get("boom"):
            raise ZeroDivisionError("boom")
        if x.get("vast"):
            raise MemoryError
        if x.get("nan"):
            return {True: float("nan"), False: 0.0}
        self.calls.append(("predict", str(x.get("n", x))))
        share = self.true / self.taught if self.taught else 0.5
        return {True: share, False: 1.0 - share}

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        if x.get("bang"):
            raise ZeroDivisionError("bang")
        if x.get("huge"):
            raise MemoryError
        self.calls.append(("learn", str(x.get("n", x))))
        self.true += y is True
        self.taught += 1


class Always(base.Classifier):
    """Answers True with the probability `p`, whatever it is taught; it counts what that was."""

    def __init__(self, p: float = 0.9) -> None:
        self.p = p
        self.taught = 0

    def predict_proba_one(self, x: dict[str, Any], **kwargs: Any) -> dict[Any, float]:
        return {True: self.p, False: 1.0 - self.p}

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.taught += 1


def spy(name: str = "spy") -> Spy:
    return Spy(name)


def always(p: float = 0.9) -> Always:
    return Always(p)


class Stage:
    """A log and the settings of one model, "m" on the stream "s". Times are seconds after NOW; the append time stands still."""

    def __init__(
        self, task: str = "binary", pipeline: str = "learning_bench:spy", stream: dict[str, Any] | None = None, **model: Any
    ) -> None:
        tree = {
            "streams": {"s": {"allowed_lateness_s": 0, **(stream or {})}},
            "models": {"m": {"stream": "s", "task": task, "pipeline": pipeline, **model}},
        }
        self.settings: Settings = parse(tree, {})
        self.clock = FakeClock(NOW)
        self.log = MemoryLog(clock=self.clock)
        self.log.create({"s": self.settings.streams["s"].partitions})
        self.versions: dict[int, bytes] = {}
        self.seq = 100
        self.signals: list[Signal] = []
        self.dead: list[DeadLetter] = []

    # What is written.

    def put(self, value: bytes, kind: int = Kind.EVENT, key: bytes = b"k", partition: int = 0) -> int:
        """Append one record as it is; its offset."""
        [(_, offset)] = self.log.append("s", [Entry(key, value, kind, partition)]).result()
        return offset

    def event(self, id: str | None, at: float | None = 0.0, key: bytes | None = None, **fields: Any) -> int:
        ts = None if at is None else NOW + at
        body = {"stream": "s", "id": id, "ts": ts, **fields}
        event = Event(**body)
        return self.put(encode(event), key=(id or "k").encode() if key is None else key)

    def x(self, id: str, at: float | None = 0.0, **x: Any) -> int:
        return self.event(id, at, x=x or {"n": id})

    def y(self, id: str, y: Any = True, at: float | None = 0.0) -> int:
        return self.event(id, at, y=y)

    def xy(self, id: str, y: Any = True, at: float | None = 0.0, **x: Any) -> int:
        return self.event(id, at, x=x or {"n": id}, y=y)

    def served(self, id: str, y: Any, version: int = 1, model: str = "m", **more: Any) -> int:
        return self.put(encode(Prediction("s", id, model, version, y, **more)), Kind.PREDICTION, id.encode())

    def beat(self, seconds: float) -> int:
        """A heartbeat after `seconds` of append time."""
        self.clock.advance(seconds)
        return self.put(b"", Kind.HEARTBEAT)

    def command(self, verb: str, model: str = "m", seq: int | None = None, keys: KeyRing = KEYS, **more: Any) -> int:
        """A signed command; the next `seq` unless one is given."""
        self.seq += 1
        command = Command(self.seq if seq is None else seq, model, verb, **more)
        return self.put(sign_command(command, keys), Kind.COMMAND)

    def fit(self, version: int, start: int = 0, stop: int | None = None) -> int:
        """Fit a version from the records in [start, stop) and keep it; the offset it has read to."""
        end = self.end if stop is None else stop
        trainer = self.trainer(start)
        trainer.feed(self.log.read("s", 0, start, end - start))
        self.versions[version] = self.sealed(trainer, version)
        return trainer.position

    def trainer(self, start: int = 0) -> Trainer:
        settings = self.settings
        return Trainer.new("m", settings.models["m"], settings.streams["s"], limits_of(settings), "s", 0, start)

    def sealed(self, trainer: Trainer, version: int, model: str = "m", keys: KeyRing = KEYS) -> bytes:
        return codec.encode(
            kind="version",
            model=model,
            version=version,
            shard=0,
            generation=0,
            positions=[Position(self.log.identity("s"), "s", 0, trainer.position)],
            created=0.0,
            parts={"model": pickling.dumps(trainer.model), **trainer.parts()},
            keys=keys,
        )

    # What is learned.

    @property
    def end(self) -> int:
        return self.log.bounds("s", 0)[1]

    def resolve(self, command: Command, shard: int) -> Kept:
        blob = self.versions.get(command.version or 0)
        if blob is None:
            raise RetrainError("failed", f"version {command.version} is lost")
        return Kept(blob)

    def new(self, start: int = 0, shard: int = 0) -> Learner:
        return new_learner(self.settings, "m", shard, start, DriftWatch)

    def learn(self, learner: Learner | None = None, until: int | None = None, batch: int = 1000) -> Learner:
        """Bring a learner (a new one) to the end of the log, or to `until`; its words are kept here."""
        learner = learner or self.new()
        until = self.end if until is None else until
        shard = learner.join.partition
        while learner.position < until:
            records = self.log.read("s", shard, learner.position, min(batch, until - learner.position))
            advance(learner, records, self.settings, self.log, KEYS, self.resolve)
        self.signals += learner.signals
        self.dead += learner.dead
        learner.signals.clear()
        learner.dead.clear()
        return learner

    def replay(self, until: int | None = None) -> Learner:
        return replay(self.settings, "m", 0, self.log, KEYS, DriftWatch, self.resolve, self.end if until is None else until)

    def again(self, learner: Learner) -> Learner:
        """What a restart makes of a learner: another one, from its parts."""
        other = self.new()
        checkpoint.load(other, checkpoint.parts(learner), DriftWatch)
        return other

    def essence(self, learner: Learner) -> str:
        """The digest of a learner but for its position and counters."""
        other = self.again(learner)
        other.join.position = 0
        other.join.counters.clear()
        return checkpoint.digest(other)

    def kinds(self) -> list[str]:
        return [signal.kind for signal in self.signals]


LABELS: dict[str, list[Any]] = {
    "binary": [False, True],
    "yesno": ["no", "yes"],
    "str": ["red", "green", "blue"],
    "int": [3, 1, 2],
    "bool": [False, True],
}


def scene(stage: Stage, count: int, labels: str, seed: int = 0, first: int = 0) -> None:
    """About `count` events that hold a bit of everything: delays, repeats, contradictions, nulls, odd ones, junk."""
    draw = random.Random(seed)
    waiting: list[tuple[int, str, Any]] = []
    for i in range(first, first + count):
        a, b = draw.gauss(0, 1), draw.choice(["u", "v", "w"])
        x = {"a": a, "b": b, "c": draw.choice([None, 1, 2.5, True]), f"f{i % 7}": draw.random()}
        if labels == "float":
            y: Any = 3 * a + (1 if b == "u" else 0) + draw.gauss(0, 0.1)
        else:
            names = LABELS[labels]
            y = names[int(a > 0) if len(names) == 2 or draw.random() < 0.8 else -1]
        chance = draw.random()
        if chance < 0.4:
            stage.event(f"e{i}", i, x=x, y=y)
        else:
            stage.event(f"e{i}", i, x=x)
            if chance < 0.9:
                waiting.append((i + draw.randrange(40), f"e{i}", y))
        if draw.random() < 0.05:
            stage.event(f"e{i}", i, x=x, y=y)
        if draw.random() < 0.03:
            stage.put(draw.choice([b"", b"{", b"\xff", b'{"stream":"s","id":"q","x":{"a":"text"}}', encode({"stream": "t"})]))
        if draw.random() < 0.03:
            stage.beat(draw.randrange(20))
        if draw.random() < 0.05:
            stage.served(f"e{draw.randrange(i + 1)}", y, x=x if draw.random() < 0.3 else None)
        for due, id, late in [one for one in waiting if one[0] <= i]:
            waiting.remove((due, id, late))
            stage.y(id, late, i)


def answers(stage: Stage, learner: Learner) -> Iterator[str]:
    """What a learner would answer now, bit for bit."""
    for a in (-2.0, -0.1, 0.1, 2.0):
        for b in ("u", "v", "new"):
            answer = learner.champion.answer({"a": a, "b": b, "c": None})
            shares = None if answer.p is None else sorted((label, share.hex()) for label, share in answer.p.items())
            yield f"{answer.y!r} {shares}"
