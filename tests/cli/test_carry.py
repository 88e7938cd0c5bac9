"""A version from one service to another: what comes back is what left, at a place that this log has, or a refusal in words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.cli import carry
from streamlearn.cli.carry import bring, pack
from streamlearn.cli.wiring import World, resolver
from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import BadSignature, CodecError, ConfigError, StoreError
from streamlearn.events import Kind, Position, encode, partition_of
from streamlearn.keys import KeyRing
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import advance, limits_of, new_learner
from streamlearn.learning.trainer import Trainer
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Command, Request, decode_control, sign_command
from streamlearn.retrain.job import FitSpec, fit
from streamlearn.store import bundle, codec
from streamlearn.store.links import Kept, kept_version, no_pieces
from streamlearn.testing import DoneJob, FakeClock, MemoryLog, MemoryStore

TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"s": {"partitions": 2}, "one": {}},
    "models": {
        "m": {"stream": "s", "task": "binary", "pipeline": "logistic", "retrain": {"min_events": 10}},
        "twin": {"stream": "s", "task": "binary", "pipeline": "logistic"},
        "other": {"stream": "s", "task": "binary", "pipeline": "alma"},
        "single": {"stream": "one", "task": "binary", "pipeline": "logistic"},
    },
}


class Service:
    """A log with events of both partitions, a store, control, and one or more keys."""

    def __init__(self, key: str = "home", secret: bytes = b"0123456789abcdef", events: int = 300) -> None:
        self.clock = FakeClock()
        self.settings, self.keys = parse(TREE, {}), KeyRing({key: secret})
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.log.create({"s": 2, "one": 1})
        self.world = World(self.settings, self.log, self.store, self.keys)
        self.control = Control(self.settings, self.log, self.store, self.keys, self, self.clock, timer=self.clock)
        self.draw, self.posted = random.Random(5), 0
        self.post(events)
        self.control.tick()

    def post(self, events: int) -> None:
        entries = []
        for _ in range(events):
            self.posted += 1
            key, a = f"k{self.posted}", self.draw.uniform(-1, 1)
            event = {"stream": "s", "id": key, "x": {"a": a, "b": self.draw.random()}, "y": a > 0}
            entries.append(Entry(key.encode(), encode(event), Kind.EVENT, partition_of(key.encode(), 2)))
        self.log.append("s", entries).result()

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        return DoneJob(fit(spec, self.log.reopen, self.keys, lambda done, total: None, self.fetch))

    def fetch(self, spec: FitSpec) -> Kept:
        assert spec.base is not None
        kept = kept_version(self.store, spec.model, spec.base.id, spec.shard)
        assert kept is not None
        return kept

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(1.0)
        self.control.tick()

    def retrained(self) -> None:
        """Version 2 of m is fitted, and kept."""
        self.log.append(CONTROL, [Entry(b"m", encode(Request("r", "m", "retrain", "ann", 0.0)))]).result()
        while ("m", 2, 1) not in self.store.versions() or self.doc("m", 2)["fate"] == "fitting":
            self.tick()

    def doc(self, model: str, version: int) -> dict[str, Any]:
        docs = self.store.views("version", [f"{model}@{version}"])
        return dict(msgspec.json.decode(docs[f"{model}@{version}"])) if docs else {"fate": "fitting"}

    def write(self, path: Path, version: int = 2, *, live: bool = False) -> Path:
        made, blobs, pieces = pack(self.settings, self.store, self.keys, "m", version, live=live, now=7.0)
        bundle.write(path, made, blobs, self.keys, pieces)
        return path

    def take(self, path: Path, model: str = "m", keys: KeyRing | None = None) -> carry.Brought:
        return bring(self.world, bundle.read(path, keys or self.keys), model, "", self.tick, self.clock)

    def model(self, model: str, version: int, shard: int) -> Any:
        return carry._opened(self.sealed(model, version, shard), no_pieces)

    def sealed(self, model: str, version: int, shard: int) -> codec.Sealed:
        blob = self.store.version(model, version, shard)
        assert blob is not None
        identity = self.log.identity("s")
        return codec.open_blob(blob, self.keys, kind="version", model=model, shard=shard, log=identity, version=version)


@pytest.fixture
def home() -> Service:
    service = Service()
    service.retrained()
    return service


@pytest.fixture
def file(home: Service, tmp_path: Path) -> Path:
    return home.write(tmp_path / "m2.zip")


def test_back_into_its_own_log_it_goes_on_where_it_had_read_to(home: Service, file: Path) -> None:
    home.post(40)
    found = home.take(file)
    assert (found.version, found.rebased, found.new) == (3, False, True)
    assert found.trained_to == home.doc("m", 2)["trained_to"]
    for shard in (0, 1):
        assert digest(home.model("m", 3, shard)) == digest(home.model("m", 2, shard))
        assert home.sealed("m", 3, shard).part("join") == home.sealed("m", 2, shard).part("join")
        assert home.sealed("m", 3, shard).header.extra["imported"]["version"] == 2
    doc, before = home.doc("m", 3), home.doc("m", 2)
    assert (doc["fate"], doc["reason"], doc["learned"]) == ("imported", "import", before["learned"])
    assert doc["settings"] == before["settings"]
    assert doc["blobs"]["0"]["model_sha256"] == before["blobs"]["0"]["model_sha256"]


def test_in_another_log_it_begins_at_the_head_with_nothing_waiting(home: Service, file: Path) -> None:
    away = Service("away", b"fedcba9876543210", events=90)
    found = away.take(file, keys=home.keys)
    assert (found.version, found.rebased) == (2, True)
    assert found.trained_to == {str(shard): away.log.bounds("s", shard)[1] for shard in (0, 1)}
    for shard in (0, 1):
        sealed = away.sealed("m", 2, shard)
        assert digest(carry._opened(sealed, no_pieces)) == digest(home.model("m", 2, shard))
        end = away.log.bounds("s", shard)[1]
        assert sealed.header.positions == [Position(away.log.identity("s"), "s", shard, end)]
        table, stream = away.settings.models["m"], away.settings.streams["s"]
        model = carry._opened(sealed, no_pieces)
        trainer = Trainer.restore("m", table, stream, limits_of(away.settings), "s", shard, model, sealed.all_parts())
        assert trainer.position == end


@pytest.mark.parametrize("same", [True, False])
def test_a_learner_takes_it_for_a_trial(home: Service, file: Path, same: bool) -> None:
    service = home if same else Service("away", b"fedcba9876543210", events=90)
    found = service.take(file, keys=home.keys)
    service.post(30)
    learner = new_learner(service.settings, "m", 0, 0, DriftWatch)
    command = Command(10_000, "m", "try", found.version, found.trained_to)
    service.log.append("s", [Entry(b"m", sign_command(command, service.keys), Kind.COMMAND, 0)]).result()
    service.post(30)
    records = service.log.read("s", 0, 0, 1000)
    advance(learner, records, service.settings, service.log, service.keys, resolver(service.world))
    *_, answer = [signal for signal in learner.signals if signal.kind in ("applied", "refused")]
    assert (answer.kind, learner.shadow_version) == ("applied", found.version), answer.data
    assert learner.blocks is not None


def test_for_another_model_of_the_same_kind(home: Service, file: Path) -> None:
    found = home.take(file, "twin")
    assert (found.model, found.version, found.rebased) == ("twin", 2, False)
    assert home.sealed("twin", 2, 0).header.model == "twin"
    assert home.doc("twin", 2)["origin"]["model"] == "m"


@pytest.mark.parametrize(
    ("model", "why"), [("other", "pipeline: 'logistic' there, 'alma' here"), ("single", "it has 2 shards, single has 1")]
)
def test_for_a_model_of_another_kind_it_is_refused(home: Service, file: Path, model: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        home.take(file, model)
    assert [one for one in home.store.versions() if one[0] == model] == []


def test_control_refuses_what_the_configuration_of_the_command_allows(home: Service, file: Path) -> None:
    """The command was given with another configuration than the service runs with."""
    tree = {**TREE, "models": {**TREE["models"], "other": TREE["models"]["m"]}}
    wrong = home.world._replace(settings=parse(tree, {}))
    read = bundle.read(file, home.keys)
    with pytest.raises(ConfigError, match="control refused it: it is another model: pipeline: 'logistic' there, 'alma' here"):
        bring(wrong, read, "other", "", home.tick, home.clock)
    again = bring(home.world, read, "m", "", home.tick, home.clock)
    assert again.new


def test_what_was_refused_may_be_asked_for_again(home: Service, file: Path) -> None:
    tree = {**TREE, "models": {**TREE["models"], "other": TREE["models"]["m"]}}
    wrong, read = home.world._replace(settings=parse(tree, {})), bundle.read(file, home.keys)
    for _ in range(2):
        with pytest.raises(ConfigError, match="control refused it"):
            bring(wrong, read, "other", "", home.tick, home.clock)
    asked = [decode_control(record.value) for record in home.log.read(CONTROL, 0, 0, 1000)]
    ids = [one.id for one in asked if isinstance(one, Request) and one.action == "import"]
    assert [id.rpartition("-")[2] for id in ids] == ["0", "1"]


def test_the_same_file_again_imports_nothing_twice(home: Service, file: Path) -> None:
    first, again = home.take(file), home.take(file)
    assert (first.version, again.version, again.new) == (3, 3, False)
    assert [one for one in home.store.versions() if one[:2] == ("m", 4)] == []


def test_an_import_that_was_cut_off_is_gone_on_with(home: Service, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = home.store.put_version, []

    def once(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise StoreError("cut off")
        put(*args)

    monkeypatch.setattr(home.store, "put_version", once)
    with pytest.raises(StoreError, match="cut off"):
        home.take(file)
    monkeypatch.undo()
    found = home.take(file)
    assert (found.version, found.new) == (3, True)
    assert {one for one in home.store.versions() if one[1] == 3} == {("m", 3, 0), ("m", 3, 1)}


def test_without_control_it_says_so_and_is_done_once_control_runs(home: Service, file: Path) -> None:
    read = bundle.read(file, home.keys)
    with pytest.raises(StoreError, match="control has said nothing for 30 s"):
        bring(home.world, read, "m", "", lambda seconds: None, home.clock)
    assert bring(home.world, read, "m", "", home.tick, home.clock).version == 3


def test_the_version_that_serves_may_be_taken_though_it_was_never_fitted(home: Service, tmp_path: Path) -> None:
    for shard in (0, 1):
        learner = new_learner(home.settings, "m", shard, 0, DriftWatch)
        records = home.log.read("s", shard, 0, 1000)
        advance(learner, records, home.settings, home.log, home.keys, resolver(home.world))
        at = Position(home.log.identity("s"), "s", shard, learner.position)
        blob = codec.encode(
            kind="publication", model="m", version=1, shard=shard, generation=1, positions=[at], created=1.0,
            parts={"model": pickling.dumps(learner.champion)}, keys=home.keys, extra={"n": learner.n},
        )  # fmt: skip
        home.store.put_publication("m", shard, 1, blob)
        expected = digest(learner.champion)
    file = home.write(tmp_path / "m1.zip", version=1)
    read = bundle.read(file, home.keys)
    assert read.manifest.what == "serving"
    found = home.take(file)
    assert digest(home.model("m", found.version, 1)) == expected
    assert home.doc("m", found.version)["learned"] == sum(s.header.extra["learned"] for s in read.sealed.values()) > 250
    with pytest.raises(ConfigError, match="version 2 of m is not kept, and shard 0 serves version 1"):
        home.write(tmp_path / "no.zip", live=True)


def test_what_is_not_there_cannot_be_taken(home: Service, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="m has no version 9"):
        home.write(tmp_path / "m.zip", version=9)
    home.store.drop_version("m", 2)
    with pytest.raises(ConfigError, match="is not kept, and shard 0 has published nothing yet"):
        home.write(tmp_path / "m.zip")


def test_a_pipeline_that_is_not_installed_here(home: Service, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(data: bytes, tables: object) -> Any:
        raise ModuleNotFoundError("No module named 'theirs'")

    monkeypatch.setattr("streamlearn.learning.pickling.loads_apart", missing)
    with pytest.raises(ConfigError, match=r"No module named 'theirs'.*Install what it names"):
        home.take(file)
    assert home.doc("m", 3) == {"fate": "fitting"}, "control was not asked"


def test_nothing_is_unpickled_that_another_key_signed(
    home: Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    monkeypatch.setattr("streamlearn.learning.pickling.loads_apart", lambda data, tables: opened.append(data))
    away = Service("away", b"fedcba9876543210")
    with pytest.raises(BadSignature):
        away.take(file)
    file.write_bytes(file.read_bytes().replace(b"LogisticRegression", b"LogisticRegressiom"))
    with pytest.raises(CodecError, match=r"match|CRC"):
        home.take(file)
    assert opened == []


def test_an_imported_version_is_promoted_once_it_has_read_on(home: Service, file: Path) -> None:
    away = Service("away", b"fedcba9876543210", events=90)
    found = away.take(file, keys=home.keys)
    away.post(40)
    away.log.append(CONTROL, [Entry(b"m", encode(Request("p", "m", "promote", "ann", 0.0, version=found.version)))]).result()
    for _ in range(6):
        away.tick()
    doc = away.doc("m", 3)
    assert (doc["parent"], doc["reason"], doc["fate"]) == (2, "restore", "challenger")
    assert doc["learned"] == 40, "what the log held before the import was not learned"
    assert digest(away.model("m", 3, 0)) != digest(away.model("m", 2, 0))
