"""The fit: what it reads, where it stops, that equal ranges give equal bytes; and fits in worker processes over a real log."""

from __future__ import annotations

import functools
import pickle
import random
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.errors import LogUnavailable, RetrainError, Unexpected
from streamlearn.events import Kind, Limits, Position
from streamlearn.keys import KeyRing
from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.members import losses
from streamlearn.learning.trainer import Trainer
from streamlearn.log import Entry, Log, Record
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.job import BATCH, WARM, Base, FitSpec, Jobs, base_blob, fit
from streamlearn.store import Retention
from streamlearn.store.codec import Sealed, encode, open_blob
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import FakeClock, Faults, MemoryLog, MemoryStore

KEYS = KeyRing({"k1": b"0123456789abcdef"})


def events(count: int, seed: int = 1) -> list[Entry]:
    rng, entries = random.Random(seed), []
    for number in range(count):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1), "kind": rng.choice("pqr")}
        event = {"stream": "s", "id": f"e{seed}-{number}", "x": x, "y": x["a"] + x["b"] + rng.gauss(0, 0.5) > 0}
        entries.append(Entry(f"{number}".encode(), msgspec.json.encode(event), partition=0))
    return entries


def spec(until: int, **changes: Any) -> FitSpec:
    model = {"stream": "s", "task": "binary", "pipeline": "logistic"} | changes.pop("model_settings", {})
    fields: dict[str, Any] = {
        "model": "m",
        "version": 2,
        "shard": 0,
        "stream": "s",
        "partition": 0,
        "start": 0,
        "until": until,
        "epochs": 1,
        "seed": 7,
        "catch_up_records": 100,
        "settings": ModelSettings.model_validate(model).model_dump(mode="json"),
        "stream_settings": {},
        "limits": {},
    }
    return FitSpec(**fields | changes)


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(clock=FakeClock(1000.0))
    made.create({"s": 1})
    made.append("s", events(2500)).result()
    return made


def run(log: MemoryLog, wanted: FitSpec, progress: Callable[[int, int], None] = lambda done, total: None) -> Sealed:
    blob = fit(wanted, log.reopen, KEYS, progress)
    return open_blob(blob, KEYS, kind="version", model="m", shard=0, version=2, log=log.identity("s"))


def test_a_spec_travels_as_json() -> None:
    wanted = spec(10, stop=12)
    assert FitSpec.from_bytes(wanted.to_bytes()) == wanted
    with pytest.raises(RetrainError, match="missing required field") as caught:
        FitSpec.from_bytes(b'{"model": "m"}')
    assert caught.value.reason == "failed"


def test_a_fit_keeps_what_it_predicted_for_its_last_events(log: MemoryLog) -> None:
    """Each prediction is from before its label was learned; a later epoch has learned it, and rehearses nothing."""
    once, twice = (msgspec.msgpack.decode(run(log, spec(2000, epochs=epochs)).part("rehearsed")) for epochs in (1, 2))
    assert [offset for offset, _, _ in once] == list(range(2000, 2500))
    right = sum(y == predicted for _, y, predicted in once) / 500
    assert 0.7 < right < 0.98
    assert [row[0] for row in twice] == [row[0] for row in once]


def test_the_version_says_what_it_is(log: MemoryLog) -> None:
    sealed = run(log, spec(2000))
    header = sealed.header
    assert set(header.parts) == {"model", "join", "rehearsed"}
    assert [(at.stream, at.partition, at.offset) for at in header.positions] == [("s", 0, 2500)]
    assert header.created == 1000.0
    summary = header.extra.pop("summary")
    assert header.extra == {"start": 0, "learned": 2500, "skipped": 0}
    assert (summary["estimator"], summary["features"]) == ("LogisticRegression", 3)
    assert set(summary["weights"]) >= {"(intercept)"}


def test_it_is_signed(log: MemoryLog) -> None:
    blob = fit(spec(2000), log.reopen, KEYS, lambda done, total: None)
    with pytest.raises(Unexpected, match="version"):
        open_blob(blob, KEYS, kind="version", model="m", shard=0, version=3)


def test_it_has_learned(log: MemoryLog) -> None:
    model = pickle.loads(run(log, spec(2000)).part("model"))
    right = sum(model.answer(x).y == (x["a"] + x["b"] > 0) for x in ({"a": a, "b": a / 2, "kind": "p"} for a in (-2, -1, 1, 2)))
    assert right == 4


def test_equal_ranges_give_equal_bytes(log: MemoryLog) -> None:
    wanted = spec(2000, stop=2300)
    first = fit(wanted, log.reopen, KEYS, lambda done, total: None)
    log.append("s", events(400, seed=2)).result()
    assert fit(wanted, log.reopen, KEYS, lambda done, total: None) == first


@pytest.mark.parametrize("pipeline", ["logistic", "adaptive_random_forest"])
def test_the_seed_decides(log: MemoryLog, pipeline: str) -> None:
    def made(seed: int) -> str:
        wanted = spec(300, stop=300, seed=seed, model_settings={"pipeline": pipeline})
        return digest(pickle.loads(run(log, wanted).part("model")))

    assert made(7) == made(7)
    assert (made(7) != made(8)) == (pipeline == "adaptive_random_forest")


def test_a_start_and_a_stop_are_kept_to_exactly(log: MemoryLog) -> None:
    sealed = run(log, spec(1200, start=300, stop=1301))
    assert sealed.header.positions[0].offset == 1301
    assert sealed.header.extra["learned"] == 1001
    assert sealed.header.extra["start"] == 300


class HoleyLog(MemoryLog):
    """A broker's own marks take every seventh offset, and all from 1800 to 1999, where a long transaction was aborted."""

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        records = super().read(stream, partition, offset, 10**6)
        return [record for record in records if record.offset % 7 and not 1800 <= record.offset < 2000][:limit]


@pytest.mark.parametrize(("until", "stop"), [(1000, 1301), (1300, 1302), (1301, 1303), (1000, 1900), (2000, None)])
def test_where_offsets_have_holes_it_reads_no_further_and_ends(until: int, stop: int | None) -> None:
    """A limit of so many records would reach beyond the stop, and the marks before it never give any."""
    log, there = HoleyLog(), [offset for offset in range(min(stop or 2000, 1800)) if offset % 7]
    log.create({"s": 1})
    log.append("s", events(2500 if stop else 2000)).result()
    blob = fit(spec(until, stop=stop, catch_up_records=1), lambda: log, KEYS, lambda done, total: None)
    header = open_blob(blob, KEYS, kind="version", model="m", shard=0, version=2).header
    assert header.extra["learned"] == len(there)
    assert header.positions[0].offset == there[-1] + 1


class GrowingLog(MemoryLog):
    """Records arrive while it is read: `arrivals` at each look at the end, until they are used up."""

    arrivals: list[int]

    def bounds(self, stream: str, partition: int) -> tuple[int, int]:
        if self.arrivals:
            self.append("s", events(self.arrivals.pop(0), seed=3 + len(self.arrivals))).result()
        return super().bounds(stream, partition)


@pytest.mark.parametrize(("arrivals", "position"), [([99], 2500), ([100], 2600), ([300, 150, 99], 2950), ([50, 700], 2500)])
def test_it_follows_the_head_until_few_records_remain(arrivals: list[int], position: int) -> None:
    log = GrowingLog(clock=FakeClock(1000.0))
    log.arrivals = []
    log.create({"s": 1})
    log.append("s", events(2500)).result()
    log.arrivals = list(arrivals)
    blob = fit(spec(2500), lambda: log, KEYS, lambda done, total: None)
    sealed = open_blob(blob, KEYS, kind="version", model="m", shard=0)
    assert sealed.header.positions[0].offset == position


def test_epochs_pass_over_what_was_there_at_first(log: MemoryLog) -> None:
    """Two epochs are: the range, the range again, and what follows once."""
    two = run(log, spec(2000, epochs=2, stop=2300))
    settings = ModelSettings.model_validate({**spec(0).settings, "seed": 7})
    settings = settings.model_copy(update={"retrain": settings.retrain.model_copy(update={"epochs": 2})})
    trainer = Trainer.new("m", settings, StreamSettings(), Limits(), "s", 0, 0)
    trainer.feed(log.read("s", 0, 0, 2000))
    trainer.repeat()
    trainer.feed(log.read("s", 0, 2000, 300))
    assert digest(pickle.loads(two.part("model"))) == digest(trainer.model)
    once = run(log, spec(2000, stop=2300))
    assert digest(pickle.loads(once.part("model"))) != digest(trainer.model)
    assert two.header.extra["learned"] == 2300


def test_progress_is_told_after_each_batch(log: MemoryLog) -> None:
    seen: list[tuple[int, int]] = []
    run(log, spec(2200, start=100), lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 2100), (2000, 2100), (2100, 2100), (2400, 2400)]
    seen.clear()
    run(log, spec(2000, epochs=3), lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 6000), (2000, 6000), (4000, 6000), (6000, 6000), (6500, 6500)]


def test_too_few_labels_make_no_version(log: MemoryLog) -> None:
    message = "150 labelled events in offsets 0 to 150 of s/0; retrain.min_events asks for 200"
    with pytest.raises(RetrainError, match=message) as caught:
        run(log, spec(150, stop=150))
    assert caught.value.reason == "empty"
    few = spec(150, stop=150, model_settings={"retrain": {"min_events": 150}})
    assert run(log, few).header.extra["learned"] == 150


def test_an_empty_log_makes_no_version() -> None:
    log = MemoryLog()
    log.create({"s": 1})
    with pytest.raises(RetrainError, match="empty: 0 labelled events"):
        run(log, spec(0))


def test_records_that_are_gone_make_no_version(log: MemoryLog) -> None:
    log.trim("s", 0, 500)
    with pytest.raises(RetrainError, match="retained range") as caught:
        run(log, spec(2000))
    assert caught.value.reason == "failed"
    assert run(log, spec(2000, start=500)).header.extra["learned"] == 2000


def test_a_log_that_ends_too_early_makes_no_version(log: MemoryLog) -> None:
    with pytest.raises(RetrainError, match="s/0 ends at 2500, before 2600"):
        run(log, spec(2600))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"stream": "s", "task": "binary", "pipeline": "logistik"}}, "cannot be built: .*logistic"),
        ({"settings": {"stream": "s"}}, "settings of m"),
        ({"limits": {"max_things": 3}}, "cannot be built"),
        ({"stream_settings": {"partitions": 0}}, "cannot be built"),
    ],
)
def test_what_cannot_be_built_makes_no_version(log: MemoryLog, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RetrainError, match=message) as caught:
        run(log, spec(2000, **changes))
    assert caught.value.reason == "failed"


def test_a_lost_log_is_the_callers_to_wait_for(log: MemoryLog) -> None:
    faults = Faults()
    faults.fail("read", LogUnavailable("locked"), after=1)
    with pytest.raises(LogUnavailable):
        fit(spec(2000), lambda: faults.over(log), KEYS, lambda done, total: None)


class ClosingLog(MemoryLog):
    closed = False

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        assert limit <= BATCH
        return super().read(stream, partition, offset, limit)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("until", [2500, 100])
def test_the_log_is_closed_again(until: int) -> None:
    log = ClosingLog()
    log.create({"s": 1})
    log.append("s", events(until)).result()
    if until == 100:
        with pytest.raises(RetrainError, match="empty"):
            fit(spec(until), lambda: log, KEYS, lambda done, total: None)
    else:
        fit(spec(until), lambda: log, KEYS, lambda done, total: None)
    assert log.closed


@pytest.fixture
def opener(tmp_path: Path) -> Callable[[], Log]:
    made = functools.partial(SqliteLog, tmp_path / "log.sqlite")
    log = made()
    log.create({"s": 1})
    log.append("s", events(3000)).result(30)
    log.close()
    return made


@pytest.mark.slow
def test_jobs_fit_in_another_process_to_the_same_bytes(opener: Callable[[], Log]) -> None:
    jobs = Jobs(opener, KEYS)
    try:
        wanted = spec(2800, stop=2900)
        job = jobs.submit(wanted, 60, 2048)
        assert job.result() == fit(wanted, opener, KEYS, lambda done, total: None)
        assert job.progress() == (2900, 2900)
        with pytest.raises(RetrainError, match="empty"):
            jobs.submit(spec(150, stop=150), 60, 2048).result()
        forest = spec(3000, epochs=50, model_settings={"pipeline": "adaptive_random_forest"})
        with pytest.raises(RetrainError, match="timeout: not done after 1 s"):
            jobs.submit(forest, 1, 2048).result()
        cancelled = jobs.submit(forest, 60, 2048)
        cancelled.cancel()
        with pytest.raises(RetrainError, match="cancelled"):
            cancelled.result()
        assert jobs.submit(wanted, 60, 2048).result() == job.result()
    finally:
        jobs.close()


def test_workers_are_warmed_later_and_not_after_the_end(opener: Callable[[], Log]) -> None:
    class Told:
        """An executor that tells what it is asked."""

        def __init__(self) -> None:
            self.told: list[str] = []
            self.warmed = threading.Event()

        def submit(self, *_: Any) -> Any:
            raise AssertionError("nobody asked for it")

        def warm(self) -> None:
            self.told.append("warm")
            self.warmed.set()

        def close(self) -> None:
            self.told.append("close")

    late, never = Told(), Told()
    with closing(Jobs(opener, KEYS, executor=late, warm_after_s=0.2)):
        assert late.told == []
        assert late.warmed.wait(30)
    Jobs(opener, KEYS, executor=never).close()
    assert (late.told, never.told) == (["warm", "close"], ["close"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_jobs_fit_on_a_cluster_to_the_same_bytes(opener: Callable[[], Log], tmp_path: Path) -> None:
    """Two at once, and also when the worker of one is killed in the middle."""
    from dask_bench import Processes
    from executor_bench import wait_for

    from streamlearn.retrain.cluster import Cluster

    here = Processes(tmp_path)
    here.start_scheduler()
    wanted = [
        spec(2800, stop=2900, model_settings={"pipeline": pipeline}) for pipeline in ("logistic", "hoeffding_tree")
    ]  # fmt: skip
    try:
        here.start_worker()
        jobs = Jobs(opener, KEYS, executor=Cluster(here.address, 2, WARM))
        try:
            both = [jobs.submit(one, 100, 2048) for one in wanted]
            assert [job.result() for job in both] == [fit(one, opener, KEYS, lambda done, total: None) for one in wanted]
            wait_for(lambda: [job.progress() for job in both] == [(2900, 2900)] * 2, 5)
            long = msgspec.structs.replace(wanted[1], epochs=30)
            killed = jobs.submit(long, 200, 2048)
            wait_for(lambda: killed.progress()[0] > 5000, 60)
            here.start_worker()
            here.workers[0].kill()
            wait_for(lambda: 0 < killed.progress()[0] < 5000, 60)
            assert killed.result() == fit(long, opener, KEYS, lambda done, total: None)
        finally:
            jobs.close()
    finally:
        here.close()


# A base, and what is passed over.


def labels_late(count: int, seed: int = 5) -> list[Entry]:
    """Features, and each one's label ten records later."""
    rng, entries, waiting = random.Random(seed), [], []
    for number in range(count):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1), "kind": rng.choice("pqr")}
        waiting.append((f"l{number}", x["a"] > 0))
        entries.append(Entry(b"k", msgspec.json.encode({"stream": "s", "id": f"l{number}", "x": x}), partition=0))
        if number >= 10:
            id, y = waiting.pop(0)
            entries.append(Entry(b"k", msgspec.json.encode({"stream": "s", "id": id, "y": y}), partition=0))
    return entries


def checkpoint_at(log: MemoryLog, store: MemoryStore, position: int, **named: Any) -> int:
    """A checkpoint of what had been learned at `position`; its id."""
    model = spec(0).settings
    trainer = Trainer.new("m", ModelSettings.model_validate(model), StreamSettings(), Limits(), "s", 0, 0)
    trainer.feed(log.read("s", 0, 0, position))
    parts = {"model": pickling.dumps(trainer.model), **trainer.parts()}
    place = Position(log.identity("s"), "s", 0, position)
    fields: dict[str, Any] = {"kind": "checkpoint", "model": "m", "version": 1, "shard": 0, "generation": 1, "created": 5.0}
    blob = encode(
        **fields | named, positions=[place], parts={"champion": parts["model"], "join": parts["join"], "rest": b""}, keys=KEYS
    )
    return store.put_checkpoint("m", 0, 1, blob, Retention())


def model_digest(sealed: Sealed) -> str:
    return digest(pickle.loads(sealed.part("model")).estimator)


def fitted(log: MemoryLog, store: MemoryStore, wanted: FitSpec) -> Sealed:
    blob = fit(wanted, log.reopen, KEYS, lambda done, total: None, functools.partial(base_blob, store))
    return open_blob(blob, KEYS, kind="version", model="m", shard=0, version=wanted.version)


@pytest.fixture
def late() -> MemoryLog:
    made = MemoryLog(clock=FakeClock(1000.0))
    made.create({"s": 1})
    made.append("s", labels_late(400)).result()
    return made


def without(log: MemoryLog, ranges: list[tuple[int, int]]) -> MemoryLog:
    """The same log, but for those records; commands keep their places."""
    made = MemoryLog(clock=FakeClock(1000.0))
    made.create({"s": 1})
    for record in log.read("s", 0, 0, 10_000):
        gone = any(start <= record.offset < end for start, end in ranges)
        kind = Kind.COMMAND if gone else record.kind
        made.append("s", [Entry(record.key, record.value, kind, 0)]).result()
    return made


@pytest.mark.parametrize("base", ["checkpoint", "version"])
def test_a_fit_that_goes_on_from_a_base_is_one_that_read_all_of_it(late: MemoryLog, base: Any) -> None:
    store = MemoryStore(clock=FakeClock())
    if base == "checkpoint":
        id = checkpoint_at(late, store, 300)
    else:
        id = 4
        wanted = spec(300, version=4, stop=300, model_settings={"retrain": {"min_events": 9}})
        store.put_version("m", 4, 0, fit(wanted, late.reopen, KEYS, lambda done, total: None))
    sealed = fitted(late, store, spec(700, start=300, stop=780, base=Base(base, id)))
    assert model_digest(sealed) == model_digest(run(late, spec(700, stop=780)))
    assert sealed.part("join") == run(late, spec(700, stop=780)).part("join")
    assert sealed.header.extra["base"] == [base, id]


@pytest.mark.parametrize("ranges", [[(310, 320)], [(0, 50), (400, 600), (610, 611)]])
def test_what_is_passed_over_is_as_if_it_had_never_come(late: MemoryLog, ranges: list[tuple[int, int]]) -> None:
    whole = spec(700, stop=780)
    sealed = run(late, spec(700, stop=780, skip=ranges))
    other = run(without(late, ranges), spec(700, stop=780))
    assert model_digest(sealed) == model_digest(other)
    assert sealed.header.extra["learned"] == other.header.extra["learned"] < run(late, whole).header.extra["learned"]
    assert model_digest(sealed) != model_digest(run(late, spec(700, stop=780)))
    assert sealed.header.positions[0].offset == 780


def test_a_base_and_ranges_to_pass_over_go_together(late: MemoryLog) -> None:
    store = MemoryStore(clock=FakeClock())
    base = Base("checkpoint", checkpoint_at(late, store, 300))
    sealed = fitted(late, store, spec(700, start=300, stop=780, base=base, skip=[(350, 500)]))
    assert model_digest(sealed) == model_digest(run(late, spec(700, stop=780, skip=[(350, 500)])))


def test_features_whose_label_is_passed_over_are_not_learned_as_the_default(late: MemoryLog) -> None:
    settings = ModelSettings.model_validate(
        {"stream": "s", "task": "binary", "pipeline": "logistic", "default_label": False, "label_wait_s": 1}
    )
    trainer = Trainer.new("m", settings, StreamSettings(allowed_lateness_s=0), Limits(), "s", 0, 0)
    for offset, (id, fields) in enumerate([("a", {"x": {"a": 1}}), ("a", {"y": True}), ("b", {"x": {"a": 1}, "ts": 1900})]):
        value = msgspec.json.encode({"stream": "s", "id": id, "ts": 900, **fields})
        trainer.pass_over([(1, 2)])
        trainer.feed([Record(offset, 1000.0, 0, b"k", value)])
    assert trainer.learned == 0


def test_too_few_events_after_a_base_are_enough(late: MemoryLog) -> None:
    store = MemoryStore(clock=FakeClock())
    base = Base("checkpoint", checkpoint_at(late, store, 780))
    assert fitted(late, store, spec(780, start=780, stop=790, base=base)).header.extra["learned"] < 10


@pytest.mark.parametrize(
    ("base", "start", "why"),
    [
        (Base("checkpoint", 99), 300, "checkpoint 99 of m, shard 0, which version 2 goes on from, is no longer in the store"),
        (Base("version", 7), 300, "version 7 of m, shard 0, which version 2 goes on from, is no longer in the store"),
        (Base("checkpoint", 1), 299, r"has read to \[300\], not to 299"),
    ],
)
def test_a_base_that_is_gone_or_another_is_said(late: MemoryLog, base: Base, start: int, why: str) -> None:
    store = MemoryStore(clock=FakeClock())
    assert checkpoint_at(late, store, 300) == 1
    with pytest.raises(RetrainError, match=why) as caught:
        fitted(late, store, spec(700, start=start, base=base))
    assert caught.value.reason == "failed"


def test_a_base_that_is_none_of_this_model_is_not_unpickled(late: MemoryLog) -> None:
    store = MemoryStore(clock=FakeClock())
    checkpoint_at(late, store, 300, model="other")
    with pytest.raises(RetrainError, match=r"cannot be used: .*its model is 'other'"):
        fitted(late, store, spec(700, start=300, base=Base("checkpoint", 1)))
    with pytest.raises(RetrainError, match="no store was given"):
        run(late, spec(700, start=300, base=Base("checkpoint", 1)))


@pytest.mark.slow
def test_a_worker_process_opens_the_store_for_a_base(tmp_path: Path) -> None:
    open_log, open_store = functools.partial(SqliteLog, tmp_path / "log"), functools.partial(SqliteStore, tmp_path / "store")
    log, store = open_log(), open_store()
    log.create({"s": 1})
    log.append("s", events(1000)).result()
    trained = fit(spec(500, version=1, stop=500), open_log, KEYS, lambda done, total: None)
    store.put_version("m", 1, 0, trained)
    jobs = Jobs(open_log, KEYS, open_store=open_store)
    try:
        blob = jobs.submit(spec(1000, start=500, stop=1000, base=Base("version", 1)), 60, 1000).result()
        gone = jobs.submit(spec(1000, start=500, base=Base("version", 3)), 60, 1000)
        with pytest.raises(RetrainError, match=r"version 3 of m, shard 0, .* is no longer in the store"):
            gone.result()
    finally:
        jobs.close()
    straight = fit(spec(1000, stop=1000), open_log, KEYS, lambda done, total: None)
    opened = [open_blob(one, KEYS, kind="version", model="m", shard=0) for one in (blob, straight)]
    assert model_digest(opened[0]) == model_digest(opened[1])
    log.close()
    store.close()


# Strategies: by age, warm, members, bounded epochs.


def flipped(count: int, seed: int = 9, turned: bool = False) -> list[Entry]:
    """Events whose label turns on `a` alone, the other way round when the world has turned."""
    rng, entries = random.Random(seed), []
    for number in range(count):
        x = {"a": rng.uniform(-1, 1), "b": rng.uniform(-1, 1), "c": rng.uniform(-1, 1)}
        event = {"stream": "s", "id": f"f{seed}-{number}", "x": x, "y": (x["a"] > 0) != turned}
        entries.append(Entry(f"{number}".encode(), msgspec.json.encode(event), partition=0))
    return entries


SMALL = {"n_models": 4, "grace_period": 50, "lambda_value": 2}
FOREST: dict[str, Any] = {"pipeline": "adaptive_random_forest", "params": SMALL}


class Kept:
    """A log whose world turned at 700, and a store with a checkpoint of a champion that had read to 900."""

    def __init__(self, **model: Any) -> None:
        self.log, self.store, self.model = MemoryLog(clock=FakeClock(1000.0)), MemoryStore(clock=FakeClock()), model
        self.log.create({"s": 1})
        self.log.append("s", [*flipped(700), *flipped(800, 10, turned=True)]).result()
        settings = ModelSettings.model_validate(self.spec().settings)
        self.champion = Trainer.new("m", settings, StreamSettings(), Limits(), "s", 0, 0)
        self.champion.feed(self.log.read("s", 0, 0, 900))
        parts = {"model": pickling.dumps(self.champion.model), **self.champion.parts()}
        blob = encode(
            kind="checkpoint", model="m", version=1, shard=0, generation=1, created=5.0,
            positions=[Position(self.log.identity("s"), "s", 0, 900)],
            parts={"champion": parts["model"], "join": parts["join"], "rest": b""}, keys=KEYS,
        )  # fmt: skip
        self.base = Base("checkpoint", self.store.put_checkpoint("m", 0, 1, blob, Retention()))

    def spec(self, **changes: Any) -> FitSpec:
        until = changes.pop("until", 1300)
        return spec(until, **{"start": 700, "stop": 1400, "model_settings": self.model, **changes})

    def fit(self, **changes: Any) -> Sealed:
        """The fit, made twice: a learner that lost a version makes the very same again."""
        wanted = self.spec(**changes)
        again = FitSpec.from_bytes(wanted.to_bytes())
        first, second = fitted(self.log, self.store, wanted), fitted(self.log, self.store, again)
        assert model_digest(first) == model_digest(second)
        assert first.header.extra == second.header.extra
        assert first.part("join") == second.part("join")
        assert first.part("rehearsed") == second.part("rehearsed")
        return first

    def learned(self, records: list[Record], trainer: Trainer) -> str:
        trainer.feed(records)
        return digest(trainer.model.estimator)


def test_a_warm_start_is_the_champion_that_learns_the_window_with_a_join_of_its_own() -> None:
    kept = Kept()
    sealed = kept.fit(how="warm", base=kept.base)
    settings = ModelSettings.model_validate(kept.spec().settings)
    fitted = pickle.loads(pickling.dumps(kept.champion.model))
    trainer = Trainer.warm("m", settings, StreamSettings(), Limits(), "s", 0, 700, fitted)
    assert model_digest(sealed) == kept.learned(kept.log.read("s", 0, 700, 700), trainer)
    assert sealed.part("join") == run(kept.log, kept.spec()).part("join"), "of what waited beside the champion there is nothing"
    assert sealed.header.extra["strategy"] == {"how": "warm"}
    assert sealed.header.extra["base"] == ["checkpoint", kept.base.id]
    assert sealed.header.extra["learned"] == 700
    assert model_digest(sealed) != model_digest(run(kept.log, kept.spec()))


def test_a_warm_start_rehearses_only_what_the_champion_had_not_learned() -> None:
    kept = Kept()
    rehearsed = msgspec.msgpack.decode(kept.fit(how="warm", base=kept.base, until=1300).part("rehearsed"))
    assert [row[0] for row in rehearsed] == list(range(900, 1400))
    full = msgspec.msgpack.decode(run(kept.log, kept.spec(until=1000, stop=1000)).part("rehearsed"))
    warm = msgspec.msgpack.decode(kept.fit(how="warm", base=kept.base, until=1000, stop=1000).part("rehearsed"))
    assert [row[0] for row in full] == list(range(700, 1000))
    assert [row[0] for row in warm] == list(range(900, 1000))


def test_a_warm_start_needs_a_base_and_enough_events() -> None:
    kept = Kept()
    with pytest.raises(RetrainError, match='the strategy "warm" needs a base'):
        kept.fit(how="warm")
    with pytest.raises(RetrainError, match=r"empty: 100 labelled events in offsets 1300 to 1400") as caught:
        kept.fit(how="warm", base=kept.base, start=1300)
    assert caught.value.reason == "empty"
    gone = Base("checkpoint", 77)
    with pytest.raises(RetrainError, match=r"checkpoint 77 of m, shard 0, .* is no longer in the store"):
        kept.fit(how="warm", base=gone)


def test_a_kept_version_can_be_warm_started_from_too() -> None:
    kept = Kept()
    kept.store.put_version("m", 4, 0, fit(spec(900, version=4, stop=900), kept.log.reopen, KEYS, lambda done, total: None))
    by_version = kept.fit(how="warm", base=Base("version", 4))
    assert model_digest(by_version) == model_digest(kept.fit(how="warm", base=kept.base))


@pytest.mark.parametrize("pipeline", ["adaptive_random_forest", "leveraging_bagging", "streaming_random_patches"])
def test_a_member_update_begins_the_worst_anew_and_lets_all_learn(pipeline: str) -> None:
    kept = Kept(pipeline=pipeline, params=SMALL)
    sealed = kept.fit(how="members", base=kept.base, share=0.5)
    told = sealed.header.extra["strategy"]
    assert (told["how"], told["events"]) == ("members", 600)
    assert len(told["losses"]) == 4
    worst = sorted(range(4), key=lambda index: (-told["losses"][index], index))[:2]
    assert told["renewed"] == sorted(worst)
    warm = kept.fit(how="warm", base=kept.base)
    assert model_digest(sealed) != model_digest(warm)
    model = pickle.loads(sealed.part("model"))
    right = sum(model.answer({"a": a, "b": 0.1, "c": 0.1}).y == (a < 0) for a in (-0.9, -0.6, 0.6, 0.9))
    assert right == 4
    one = kept.fit(how="members", base=kept.base, share=0.01)
    assert len(one.header.extra["strategy"]["renewed"]) == 1


def test_members_are_measured_on_the_end_of_the_window_and_not_on_what_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(**FOREST)
    skipped = kept.fit(how="members", base=kept.base, skip=[(800, 1200)]).header.extra["strategy"]
    assert skipped["events"] == 200
    monkeypatch.setattr("streamlearn.retrain.job.MEASURED_RECORDS", 250)
    assert kept.fit(how="members", base=kept.base).header.extra["strategy"]["events"] == 250
    monkeypatch.setattr("streamlearn.retrain.job.MEASURED", 100)
    told = kept.fit(how="members", base=kept.base).header.extra["strategy"]
    assert told["events"] == 100
    pairs = [msgspec.json.decode(record.value) for record in kept.log.read("s", 0, 1200, 100)]
    found = losses(kept.champion.model.estimator, [(event["x"], event["y"]) for event in pairs])
    assert found == (pytest.approx(told["losses"], abs=1e-6), 100)


@pytest.mark.parametrize(
    ("model", "skip", "why"),
    [
        ({}, [], "no ensemble whose members can be begun anew"),
        (FOREST, [(700, 1300)], "no labelled event to measure the members on"),
    ],
)
def test_where_no_member_can_be_chosen_a_warm_start_is_made_and_says_so(model: Any, skip: Any, why: str) -> None:
    kept = Kept(**model, retrain={"min_events": 50})
    sealed = kept.fit(how="members", base=kept.base, skip=skip)
    told = sealed.header.extra["strategy"]
    assert told["how"] == "warm"
    assert why in told["instead"]
    assert model_digest(sealed) == model_digest(kept.fit(how="warm", base=kept.base, skip=skip))


@pytest.mark.parametrize("pipeline", ["logistic", "hoeffding_tree", "adaptive_random_forest"])
def test_decay_thins_the_window_alone_for_every_pipeline(pipeline: str) -> None:
    kept = Kept(pipeline=pipeline, params={"n_models": 3} if "forest" in pipeline else {})
    sealed = kept.fit(half_life=100.0)
    extra = sealed.header.extra
    assert extra["learned"] + extra["thinned"] == 700
    assert 100 + 80 < extra["learned"] < 100 + 220, "the hundred after the window, and about 100/ln 2 of its 600"
    assert model_digest(sealed) != model_digest(run(kept.log, kept.spec()))
    other = kept.fit(half_life=100.0, seed=8)
    assert other.header.extra["thinned"] != extra["thinned"] or model_digest(other) != model_digest(sealed)
    longer = kept.fit(half_life=1000.0).header.extra
    assert longer["thinned"] < extra["thinned"]


def test_decay_goes_with_a_warm_start_and_with_further_epochs() -> None:
    kept = Kept()
    once, twice = (kept.fit(how="warm", base=kept.base, half_life=200.0, epochs=epochs) for epochs in (1, 2))
    assert once.header.extra["thinned"] == twice.header.extra["thinned"] > 0
    assert model_digest(once) != model_digest(twice)


def test_what_was_thinned_out_came_all_the_same() -> None:
    """A half-life that leaves few of the window is as it was asked for; too few events that came are not."""
    kept = Kept()
    assert kept.fit(half_life=5.0, stop=1300).header.extra["learned"] < 200
    with pytest.raises(RetrainError, match="empty: 150 labelled events"):
        kept.fit(half_life=5.0, until=850, stop=850)


def test_further_epochs_of_a_long_window_pass_over_an_even_sample(log: MemoryLog) -> None:
    wanted = spec(2000, epochs=3, stop=2100, max_events=300)
    sealed = run(log, wanted)
    assert sealed.header.extra["sample"] == {"kept": 250, "of": 2000}
    settings = ModelSettings.model_validate({**spec(0).settings, "seed": 7})
    trainer = Trainer.new("m", settings, StreamSettings(), Limits(), "s", 0, 0)
    records = log.read("s", 0, 0, 2000)
    trainer.feed(records)
    pairs = [msgspec.json.decode(record.value) for record in records[::8]]
    for _ in range(2):
        for event in pairs:
            trainer.model.learn(event["x"], event["y"])
    trainer.feed(log.read("s", 0, 2000, 100))
    assert model_digest(sealed) == digest(trainer.model.estimator)
    assert "sample" not in run(log, spec(2000, epochs=3, stop=2100, max_events=2000)).header.extra
    assert "sample" not in run(log, spec(2000, stop=2100, max_events=300)).header.extra


@pytest.mark.slow
def test_strategies_come_out_the_same_in_a_worker_process(tmp_path: Path) -> None:
    kept = Kept(**FOREST)
    open_log, open_store = functools.partial(SqliteLog, tmp_path / "log"), functools.partial(SqliteStore, tmp_path / "store")
    log, store = open_log(), open_store()
    log.create({"s": 1})
    log.append("s", [Entry(r.key, r.value, partition=0) for r in kept.log.read("s", 0, 0, 10_000)]).result(30)
    trained = fit(kept.spec(start=0, until=900, version=1, stop=900), open_log, KEYS, lambda done, total: None)
    store.put_version("m", 1, 0, trained)
    jobs = Jobs(open_log, KEYS, open_store=open_store)
    wanted = kept.spec(how="members", base=Base("version", 1), half_life=300.0, epochs=2, max_events=100)
    try:
        there = jobs.submit(wanted, 60, 1000).result()
    finally:
        jobs.close()
    here = fit(wanted, open_log, KEYS, lambda done, total: None, functools.partial(base_blob, store))
    opened = [open_blob(one, KEYS, kind="version", model="m", shard=0) for one in (there, here)]
    assert opened[0].header.extra == opened[1].header.extra
    assert set(opened[0].header.extra) >= {"strategy", "sample", "thinned", "base"}
    assert model_digest(opened[0]) == model_digest(opened[1])
    log.close()
    store.close()


def test_a_fit_goes_by_the_types_that_it_is_told(log: MemoryLog) -> None:
    """The window begins with numbers; what is told is that the feature is a text by now."""
    for n in range(400):
        x = {"a": "high" if n % 2 else "low", "b": 0.0, "kind": "p"}
        event = {"stream": "s", "id": f"late-{n}", "x": x, "y": n % 2 == 1}
        log.append("s", [Entry(b"k", msgspec.json.encode(event), partition=0)]).result()
    end = log.bounds("s", 0)[1]
    for contract in ("hold", "follow"):
        settings = {"drift": {"features": {"contract": contract}}}
        plain = run(log, spec(end, start=end - 600, model_settings=settings))
        told = run(log, spec(end, start=end - 600, model_settings=settings, types={"a": "string"}))
        old, new = (pickle.loads(one.part("model")) for one in (plain, told))
        assert (old.types["a"], new.types["a"]) == ("number", "string")
        assert [new.answer({"a": a, "b": 0.0, "kind": "p"}).y for a in ("high", "low")] == [True, False]
        # One that follows learns the other events too, without the feature; a strict one refuses them.
        assert told.header.extra["learned"] == (600 if contract == "follow" else 400)
        assert told.header.extra["summary"]["types"] == {"a": "string", "b": "number", "kind": "string"}


def test_a_spec_without_types_is_what_it_was() -> None:
    assert b"types" not in spec(10).to_bytes()
    assert FitSpec.from_bytes(spec(10, types={"a": "string"}).to_bytes()).types == {"a": "string"}
