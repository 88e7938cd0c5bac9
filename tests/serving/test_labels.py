"""A model's labels: counts over shards, delays, outcomes, the newest dead letters, read backwards and bounded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn.config import parse
from streamlearn.events import REASONS, Kind
from streamlearn.log import DEAD, Entry
from streamlearn.records import DeadLetter, Status
from streamlearn.serving import labels
from streamlearn.serving.labels import OUTCOMES, delay_of, labels_view, newest_dead, outcomes_of
from streamlearn.testing import FakeClock, MemoryLog

MODEL = parse(
    {
        "streams": {"flights": {}},
        "models": {"delay": {"stream": "flights", "task": "binary", "pipeline": "logistic", "label_wait_s": 60.0}},
    },
    {},
).models["delay"]


def status(shard: int = 0, **fields: Any) -> Status:
    base = {
        "model": "delay", "generation": 1, "version": 1, "shadow": None, "position": 10, "end": 10, "log": "l", "at": 0.0,
        "n": 5, "clock": None, "held": None, "counters": {}, "pending": 2, "early": 1, "scores": {},
    }  # fmt: skip
    return Status(shard=shard, **(base | fields))


def letter(offset: int, reason: str = "late", model: str = "delay", raw: bytes = b'{"id": "f1"}', **fields: Any) -> Entry:
    told = {"stream": "flights", "shard": 0, "ts": float(offset), "detail": "y: too late", "key": "k"} | fields
    return Entry(b"k", msgspec.json.encode(DeadLetter(model=model, offset=offset, reason=reason, raw=raw, **told)), partition=0)


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(clock=FakeClock())
    made.create({"flights": 1})
    return made


def put(log: MemoryLog, *entries: Entry) -> None:
    log.append(DEAD, list(entries)).result()


def test_counts_of_all_shards_are_added() -> None:
    counters = {"expired": 4, "pushed_out": 1, "defaulted": 2, "late": 3, "duplicate_labels": 6, "malformed": 9, "ignored": 50}
    view = labels_view("delay", MODEL, [status(n=20, counters=counters), status(1, n=1, counters={"late": 1})], [])
    assert (view["waiting"], view["early"]) == (4, 2)
    assert view["outcomes"] == {
        "joined": 19, "early": 0, "defaulted": 2, "missed": 3, "late": 4, "orphan": 0, "correction": 0, "duplicate": 6,
        "skipped": 0,
    }  # fmt: skip
    assert view["dead"] == {"total": 13, "reasons": {"malformed": 9, "late": 4}}
    assert view["limits"]["label_wait_s"] == 60.0
    assert [one["shard"] for one in view["shards"]] == [0, 1]


def test_every_outcome_and_reason_that_is_told_is_explained() -> None:
    view = labels_view("delay", MODEL, [status(counters={"unlearnable": 1})], [])
    assert set(view["explain"]) == {"unlearnable", *view["outcomes"]}
    assert view["explain"]["late"] == REASONS["late"]
    assert set(outcomes_of(0, {})) <= {*OUTCOMES, *REASONS}


def test_without_a_status_nothing_is_claimed() -> None:
    view = labels_view("delay", MODEL, [], None)
    assert view["delay"] == {"events": None, "seconds": None}
    assert (view["waiting"], view["dead"], view["newest"]) == (0, {"total": 0, "reasons": {}}, None)


def test_the_delay_is_that_of_the_slowest_shard() -> None:
    quick = status(delay={"p50": 1.0, "p95": 30.0, "p50_s": 0.5, "p90_s": 2.0, "p99_s": 9.0})
    slow = status(1, delay={"p50": 4.0, "p95": 20.0, "p50_s": 0.7, "p90_s": 1.0, "p99_s": 3.0})
    assert delay_of([quick, slow]) == {
        "events": {"p50": 4.0, "p95": 30.0}, "seconds": {"p50": 0.7, "p90": 2.0, "p99": 9.0},
    }  # fmt: skip
    assert delay_of([status(n=0, delay={"p50": 0.0, "p95": 0.0})]) == {"events": None, "seconds": None}
    assert delay_of([status(delay={"p50": 2.0, "p95": 3.0})])["seconds"] is None


def test_the_newest_letters_of_a_model_come_first_and_none_twice(log: MemoryLog) -> None:
    put(log, letter(1), letter(2, model="other"), letter(3, "orphan"), letter(1), letter(4, raw=b"\xff{"), letter(5, raw=b"[]"))
    log.append(DEAD, [Entry(b"replayed", b'{"records": [], "at": 1.0}', Kind.COMMAND, 0), Entry(b"k", b"foreign", partition=0)])
    found = newest_dead(log, "delay")
    assert [(one["number"], one["offset"], one["reason"], one["id"]) for one in found] == [
        (5, 5, "late", None), (4, 4, "late", None), (3, 1, "late", "f1"), (2, 3, "orphan", "f1"),
    ]  # fmt: skip
    assert found[0] | {"number": 0} == {
        "number": 0, "at": 5.0, "reason": "late", "detail": "y: too late", "id": None, "key": "k", "shard": 0, "offset": 5,
        "stream": "flights",
    }  # fmt: skip


@pytest.mark.parametrize("page", [1, 3, 500])
def test_only_the_end_of_the_stream_is_read(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(labels, "PAGE", page)
    put(log, *(letter(n) for n in range(20)))
    assert [one["offset"] for one in newest_dead(log, "delay", 4)] == [19, 18, 17, 16]
    monkeypatch.setattr(labels, "MOST_READ", 3)
    assert [one["offset"] for one in newest_dead(log, "delay", 10)] == [19, 18, 17]
    put(log, *(letter(n, model="other") for n in range(5)))
    assert newest_dead(log, "delay", 10) == []


def test_what_a_user_posted_is_a_text_and_is_cut(log: MemoryLog) -> None:
    name = "<script>" + "x" * 1000
    put(log, letter(1, raw=msgspec.json.encode({"id": name}), key=name, detail=name))
    [found] = newest_dead(log, "delay")
    assert [found[field] for field in ("id", "key", "detail")] == [name[: labels.MAX_TEXT]] * 3
