"""The service under the demo: what it starts with, what it refuses, and what it reads of the learner's last state."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from streamlearn.cli import demo_service, wiring
from streamlearn.cli.demo_service import CONFIG, LOGS, MODEL, Service, final_state, service
from streamlearn.cli.lifetime import Lifetime
from streamlearn.cli.supervisor import Child, Supervisor
from streamlearn.config import Settings
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import ConfigError
from streamlearn.events import encode
from streamlearn.learning.worker import Worker
from streamlearn.log import Entry
from streamlearn.store.links import Kept


class FakeSupervisor:
    """Starts nothing, and runs until it is told to stop."""

    made: ClassVar[list[FakeSupervisor]] = []

    def __init__(self, children: list[Child], *, say: Any, stderr: int) -> None:
        self.children, self.stderr = children, stderr
        self.started = self.drained = False
        FakeSupervisor.made.append(self)

    def start(self) -> None:
        self.started = True

    def run(self, stop: threading.Event, kill: threading.Event) -> int:
        stop.wait(10)
        self.drained = stop.is_set()
        return 0

    def restarts(self) -> dict[str, int]:
        return {"learn": 2, "serve": 1}


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[FakeSupervisor]:
    FakeSupervisor.made = []
    monkeypatch.setattr(demo_service, "Supervisor", FakeSupervisor)
    return FakeSupervisor.made


def test_it_runs_the_three_roles_and_drains_them(tmp_path: Path, supervised: list[FakeSupervisor]) -> None:
    with service(tmp_path, 0, {}, Lifetime()) as running:
        [made] = supervised
        assert made.started
        assert [child.name for child in made.children] == ["learn", "control", "serve"]
        assert not running.ended.is_set()
        assert running.restarts() == 3
    assert made.drained
    assert running.ended.is_set()
    assert running.stop() == 0


def test_it_drains_them_when_something_goes_wrong(tmp_path: Path, supervised: list[FakeSupervisor]) -> None:
    with pytest.raises(RuntimeError), service(tmp_path, 0, {}, Lifetime()):
        raise RuntimeError
    assert supervised[0].drained


def test_no_setting_of_the_environment_reaches_it(tmp_path: Path, supervised: list[FakeSupervisor]) -> None:
    environ = {
        "PATH": "/bin", "STREAMLEARN_LOG_LEVEL": "DEBUG", "STREAMLEARN_API_KEYS": "ops:secret", "STREAMLEARN_DATA_DIR": '"/x"',
        "STREAMLEARN_LEARN__BATCH": "7",
    }  # fmt: skip
    with service(tmp_path, 0, environ, Lifetime()) as running:
        port = running.url.rpartition(":")[2]
        for child in supervised[0].children:
            assert child.environ == {"PATH": "/bin", "STREAMLEARN_LOG_LEVEL": "DEBUG", "STREAMLEARN_SERVE__PORT": port}
        assert running.settings.data_dir == tmp_path / "data"
        assert running.settings.learn.batch == Settings().learn.batch


def test_it_takes_the_port_that_it_is_given(tmp_path: Path, supervised: list[FakeSupervisor]) -> None:
    from streamlearn.cli.serve import free_port

    port = free_port("127.0.0.1", 0)
    with service(tmp_path, port, {}, Lifetime()) as running:
        assert running.url == f"http://127.0.0.1:{port}"


def test_the_events_of_an_earlier_run_are_not_mixed_with_this_one(tmp_path: Path, supervised: list[FakeSupervisor]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / wiring.LOG_FILE).touch()
    with pytest.raises(ConfigError, match=r"--data-dir: .*holds the events of an earlier run. Name an empty folder"):
        service(tmp_path, 0, {}, Lifetime()).__enter__()
    assert supervised == []


def test_of_the_logs_only_what_is_amiss_is_told(tmp_path: Path) -> None:
    running = Service(tmp_path, Settings(), 1, Supervisor([], say=print), Lifetime())
    assert running.last_words() == []
    lines = [{"level": "info", "text": "fine"}, {"level": "warning", "text": "hm"}, {"level": "error", "text": "no"}]
    (tmp_path / LOGS).write_bytes(b"\n".join([*map(msgspec.json.encode, lines), b"Traceback", b'{"level":"debug"}', b""]))
    assert running.last_words() == ['{"level":"warning","text":"hm"}', '{"level":"error","text":"no"}', "Traceback"]
    (tmp_path / LOGS).write_text("a\nb\nc\nd\ne\nf\n")
    assert running.last_words() == ["b", "c", "d", "e", "f"]


@pytest.fixture
def settings(tmp_path: Path, supervised: list[FakeSupervisor]) -> Settings:
    with service(tmp_path, 0, {}, Lifetime()) as running:
        assert (tmp_path / CONFIG).exists()
        return running.settings


def post(settings: Settings, *events: dict[str, Any]) -> None:
    log = wiring.open_log(settings)
    entries = [Entry(str(event.get("id")).encode(), encode({"stream": "flights", **event})) for event in events]
    log.append("flights", entries).result()
    log.close()


def learn(settings: Settings) -> None:
    """The learner reads all there is, and drains."""
    with wiring.opened(settings, {}) as world:
        worker = Worker(
            settings, world.log, world.store, world.keys, watches=DriftWatch, resolve=lambda command, shard: Kept(b"")
        )
        while worker.turn():
            pass
        stop = threading.Event()
        stop.set()
        worker.run(stop)


X = {"Distance": 100, "Dest": "DAL"}


def test_there_is_no_state_before_the_first_checkpoint(settings: Settings) -> None:
    post(settings, {"id": "a", "x": X})
    assert final_state(settings) is None


def test_the_state_is_what_the_last_checkpoint_says(settings: Settings) -> None:
    post(
        settings, {"id": "a", "ts": 1.0, "x": X}, {"id": "b", "ts": 2.0, "x": X}, {"id": "c", "ts": 3.0, "x": X},
        {"id": "a", "ts": 4.0, "y": True}, {"id": "b", "ts": 5.0, "y": False}, {"id": "b", "ts": 6.0, "y": False},
    )  # fmt: skip
    learn(settings)
    outcome = final_state(settings)
    assert outcome is not None
    assert outcome.ledger.labels == {"a": True, "b": False, "c": None}
    assert (outcome.ledger.learned, outcome.ledger.position, outcome.dead) == (2, 6, frozenset())
    assert (outcome.status.version, outcome.status.n, outcome.status.counters) == (1, 2, {"duplicate_labels": 1})
    assert outcome.status.scores["n"] == 2


def test_a_checkpoint_that_does_not_hold_everything_is_no_final_state(settings: Settings) -> None:
    post(settings, {"id": "a", "ts": 1.0, "x": X})
    learn(settings)
    post(settings, {"id": "a", "ts": 2.0, "y": True})
    assert final_state(settings) is None
    learn(settings)
    outcome = final_state(settings)
    assert outcome is not None
    assert outcome.ledger.labels == {"a": True}


def test_dead_letters_are_named_by_the_part_that_they_held(settings: Settings) -> None:
    post(
        settings, {"id": "a", "ts": 1.0, "x": X}, {"id": "a", "ts": 2.0, "y": "late"},
        {"id": "b", "ts": 3.0, "x": {"Distance": "far"}}, {"id": "c", "ts": 3.0, "x": {"Distance": "far"}, "y": True},
        {"ts": 1.0, "x": {}, "y": [1]},
    )  # fmt: skip
    learn(settings)
    outcome = final_state(settings)
    assert outcome is not None
    assert outcome.dead == {("a", "y"), ("b", "x"), ("c", "x"), ("c", "y")}
    assert outcome.ledger.labels == {"a": None}
    assert outcome.status.model == MODEL
