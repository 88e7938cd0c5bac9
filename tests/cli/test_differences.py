"""What another configuration changes, in words, and what it must not; and how a new API process says that it is ready."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamlearn.cli import readiness
from streamlearn.cli.differences import differences
from streamlearn.cli.fleet import write_whole
from streamlearn.cli.readiness import Readiness, hold_back, patient, tell
from streamlearn.config import Settings, parse

MODEL: dict[str, Any] = {"stream": "s", "task": "binary", "pipeline": "logistic"}


def settings(tree: dict[str, Any] | None = None, **models: dict[str, Any]) -> Settings:
    named = {name: {**MODEL, **model} for name, model in models.items()}
    return parse({"streams": {"s": {}, "t": {}}, "models": named, **(tree or {})}, {})


def test_the_same_file_changes_nothing() -> None:
    found = differences(settings(m={}), settings(m={}))
    assert found.none
    assert found.lines() == []


def test_models_that_come_and_go_are_named() -> None:
    found = differences(settings(a={}, b={}), settings(b={}, c={}))
    assert (found.added, found.removed, found.changes) == (["c"], ["a"], [])
    assert found.lines()[0] == "added: c, which reads from its start"
    assert "its checkpoints, versions and audit stay" in found.lines()[1]


@pytest.mark.parametrize(
    ("model", "key", "effect"),
    [
        ({"drift": {"alpha": 0.1}}, "drift.alpha", "at once"),
        ({"trial": {"min_events": 10}}, "trial.min_events", "at once"),
        ({"retrain": {"epochs": 2}}, "retrain.epochs", "at once"),
        ({"publish": {"min_interval_s": 1.0}}, "publish.min_interval_s", "at once"),
        ({"label_wait_s": 5.0}, "label_wait_s", "at once"),
        ({"pipeline": "naive_bayes"}, "pipeline", "a version with it is fitted"),
        ({"params": {"l2": 0.1}}, "params", "a version with it is fitted"),
        ({"seed": 1}, "seed", "a version with it is fitted"),
        ({"start": "latest"}, "start", "it counts when the model is started over"),
    ],
)
def test_what_may_change_says_what_comes_of_it(model: dict[str, Any], key: str, effect: str) -> None:
    found = differences(settings(m={}), settings(m=model))
    [change] = found.changes
    assert change.key == f"models.m.{key}"
    assert change.effect.startswith(effect)
    assert found.refused == []


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({"stream": "t"}, "stream"), ({"task": "multiclass"}, "task"), ({"labels": ["no", "yes"]}, "labels"),
        ({"default_label": False}, "default_label"),
    ],
)  # fmt: skip
def test_what_makes_another_model_is_refused(model: dict[str, Any], key: str) -> None:
    [change] = differences(settings(m={}), settings(m=model)).refused
    assert change.key == f"models.m.{key}"
    assert change.effect == "give the changed model a name of its own"


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"serve": {"port": 9}}, "serve.port"), ({"data_dir": "elsewhere"}, "data_dir"),
        ({"log": {"backend": "kafka"}}, "log.backend"), ({"store": {"backend": "redis"}}, "store.backend"),
        ({"streams": {"s": {"partitions": 2}, "t": {}}}, "streams.s.partitions"),
    ],
)  # fmt: skip
def test_what_a_running_service_cannot_change_is_refused(tree: dict[str, Any], key: str) -> None:
    assert [change.key for change in differences(settings(m={}), settings(tree, m={})).refused] == [key]


def test_the_service_itself_changes_at_once_where_it_can() -> None:
    tree = {"serve": {"poll_ms": 9.0}, "learn": {"batch": 7}, "streams": {"s": {"allowed_lateness_s": 1}, "t": {}}}
    found = differences(settings(m={}), settings(tree, m={}))
    assert {change.key for change in found.changes} == {"serve.poll_ms", "learn.batch", "streams.s.allowed_lateness_s"}
    assert found.refused == []


def test_a_changed_target_of_notifications_is_named() -> None:
    ops, team = {"url": "https://a.example/"}, {"url": "https://b.example/"}
    old = settings({"notify": {"repeat_s": 60.0, "targets": {"ops": ops, "team": team}}}, m={})
    targets = {"ops": {**ops, "severity": "critical"}, "pager": team}
    new = settings({"notify": {"targets": targets}, "executor": {"workers": 2}}, m={})
    found = differences(old, new)
    assert found.lines() == [
        "changed: executor.workers from 1 to 2: at once",
        "changed: notify.repeat_s from 60.0 to 900: at once",
        "changed: notify.targets.ops.severity from 'info' to 'critical': at once",
        "changed: notify.targets.pager from 'no target' to 'a target': at once",
        "changed: notify.targets.team from 'a target' to 'no target': at once",
    ]


def test_a_child_tells_what_it_lacks_and_the_newest_word_counts() -> None:
    pipe, stop = Readiness(), threading.Event()
    lacks, started = ["a", "b"], [False]
    try:
        thread = tell(pipe.fd, lambda: started[0], lambda: list(lacks), stop)
        time.sleep(0.15)
        assert pipe.missing() is None, "nothing is said before it takes requests"
        started[0] = True
        deadline = time.monotonic() + 10
        while pipe.missing() != {"a", "b"}:
            assert time.monotonic() < deadline
        lacks.clear()
        while pipe.missing() != frozenset():
            assert time.monotonic() < deadline
        stop.set()
        thread.join(10)
    finally:
        pipe.close()


def test_a_word_that_came_in_pieces_is_put_together() -> None:
    pipe = Readiness()
    os.write(pipe.fd, b'["a"]\n["b"')
    assert pipe.missing() == {"a"}
    os.write(pipe.fd, b"]\n")
    assert pipe.missing() == {"b"}
    pipe.close()


def test_it_is_ready_when_it_can_answer_as_the_old_one_could(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    word: list[frozenset[str] | None] = [None]
    ready = patient(lambda: word[0], frozenset({"old"}), frozenset({"new"}), 15.0)
    assert not ready()
    word[0] = frozenset()
    assert ready()
    word[0] = frozenset({"old", "new"})
    assert not ready(), "the new one gets some time to publish"
    now[0] = 20.0
    assert ready(), "but what the old one lacks as well need not be waited for"
    word[0] = frozenset({"other"})
    assert not ready(), "what the old one had must be there"


@pytest.mark.parametrize(("may_lack", "patience_s"), [(frozenset[str](), 0.0), (frozenset({"m"}), 0.0)])
def test_a_process_that_takes_over_accepts_nothing_before_it_can_answer(
    may_lack: frozenset[str], patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_S", patience_s)
    lacks, asked = ["m"], [0]

    def missing() -> list[str]:
        asked[0] += 1
        if asked[0] == 3:
            lacks.clear()
        return list(lacks)

    class Router:
        @staticmethod
        @asynccontextmanager
        async def lifespan_context(app: object) -> AsyncIterator[None]:
            yield

    async def begun() -> None:
        async with router.lifespan_context(None):
            return

    router = Router()
    hold_back(router, missing, may_lack, threading.Event())
    asyncio.run(begun())
    assert asked[0] == (1 if may_lack else 3)


def test_a_file_is_replaced_whole(tmp_path: Any) -> None:
    write_whole(tmp_path / "f", b"one")
    write_whole(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
