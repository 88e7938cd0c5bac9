"""The search: rungs, who stays, who wins and why, how a batch winner serves; failures; and all of it in real workers."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import ModelSettings
from streamlearn.errors import RetrainError
from streamlearn.keys import KeyRing
from streamlearn.log import Entry, Log
from streamlearn.log.sqlite import SqliteLog
from streamlearn.retrain.cluster import Cluster
from streamlearn.retrain.job import WARM, FitSpec, Jobs
from streamlearn.retrain.pool import Pool
from streamlearn.retrain.scoring import Scored, ScoreSpec, part_of
from streamlearn.retrain.search import BLOCKS, Search, difference
from streamlearn.testing import DoneJob

EVENTS, SCORED = 1000, 200
Losses = Callable[[int], tuple[float, float | None]]  # by events fitted to: mean loss, and that under an online model


def spec(until: int = EVENTS, pipeline: str = "c0", min_events: int = 10, **search: Any) -> FitSpec:
    table = {"stream": "s", "task": "binary", "pipeline": pipeline, "retrain": {"min_events": min_events, "search": search}}
    settings = ModelSettings.model_validate(table).model_dump(mode="json")
    return FitSpec("m", 2, 0, "s", 0, 0, until, 1, 7, 100, settings, {}, {})


def named(*names: str) -> list[dict[str, Any]]:
    return [{"pipeline": name} for name in names]


class Bench:
    """Answers for workers: by candidate, its losses (a mean that is spread evenly over the events), or what it ends with."""

    def __init__(self, losses: dict[str, Losses | RetrainError], seconds: dict[str, float] | None = None) -> None:
        self.losses, self.seconds = losses, seconds or {}
        self.asked: list[tuple[str, int]] = []
        self.limits: set[tuple[float, float]] = set()

    def submit(self, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        name = spec.settings["pipeline"]
        self.limits.add((time_limit_s, memory_limit_mb))
        told = self.losses[name]
        if isinstance(told, RetrainError):
            return DoneJob(told)
        training = EVENTS - SCORED
        fitted = part_of(training, spec.part, spec.settings["retrain"]["min_events"])
        self.asked.append((name, fitted))
        mean, residual = told(fitted)
        return DoneJob(
            msgspec.msgpack.encode(
                Scored(
                    even(mean).tobytes(), b"" if residual is None else even(residual).tobytes(), self.seconds.get(name, 1.0),
                    100, fitted, training, EVENTS, EVENTS,
                )
            )
        )  # fmt: skip


def even(mean: float) -> np.ndarray[Any, Any]:
    """Zeros and ones with that mean, evenly spread."""
    return np.diff(np.floor(np.arange(SCORED + 1) * mean + 1e-9))


def always(mean: float, residual: float | None = None) -> Losses:
    return lambda fitted: (mean, residual)


def told(search: Search) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in search.result().report["candidates"]}


def test_rungs_give_the_newest_part_and_keep_the_best() -> None:
    names = [f"c{number}" for number in range(9)]
    bench = Bench({name: always(0.1 + 0.1 * number) for number, name in enumerate(names)})
    search = Search(bench.submit, spec(candidates=named(*names), keep=0.34))
    found = search.result()
    assert [(name, fitted) for name, fitted in bench.asked if fitted > 100] == [
        ("c0", 272), ("c1", 272), ("c2", 272), ("c3", 272), ("c0", 800), ("c1", 800),
    ]  # fmt: skip
    assert {fitted for _, fitted in bench.asked} == {93, 272, 800}
    assert [rung["candidates"] for rung in found.report["rungs"]] == [9, 4, 2]
    assert found.recipe == {"pipeline": "c0", "params": {}, "seed": 42}
    candidates = told(search)
    assert [candidates[name]["rungs"] for name in names] == [3, 3, 2, 2, 1, 1, 1, 1, 1]
    assert candidates["c8"]["dropped"] == "not among the best 4 of 9 when fitted to 93 events"
    assert candidates["c1"]["dropped"] == "reached the last rung, and did not win"
    assert candidates["c0"]["dropped"] == ""
    assert (candidates["c0"]["seconds"], candidates["c0"]["bytes"], candidates["c0"]["online"]) == (3.0, 100, True)
    assert bench.limits == {(400.0, 2048.0)}, "the time limit of a retrain is shared out"
    assert json.loads(json.dumps(found.report)) == found.report
    assert search.progress()[0] == (9 + 4 + 2) * EVENTS


def test_after_the_first_rung_those_that_are_not_clearly_worse_stay_too() -> None:
    losses = {"c0": always(0.2), "c1": always(0.2), "c2": always(0.2), "c3": always(0.9)}
    search = Search(Bench(losses).submit, spec(candidates=named(*losses), keep=0.3, rungs=2))
    assert [rung["candidates"] for rung in search.result().report["rungs"]] == [4, 3]
    assert told(search)["c3"]["rungs"] == 1


def test_one_that_needs_more_events_may_still_win_by_staying() -> None:
    slow: Losses = lambda fitted: (0.3 if fitted < 500 else 0.1, None)  # noqa: E731
    losses = {"c0": always(0.3), "slow": slow, "c2": always(0.8)}
    found = Search(Bench(losses).submit, spec(candidates=named(*losses), keep=0.3, rungs=2)).result()
    assert found.recipe["pipeline"] == "slow"


def test_a_short_window_has_fewer_rungs() -> None:
    bench = Bench({"c0": always(0.1), "c1": always(0.1)})
    Search(bench.submit, spec(candidates=named("c1"), min_events=800)).result()
    assert {fitted for _, fitted in bench.asked} == {800}
    assert len(bench.asked) == 2


def test_of_ties_the_one_that_learns_online_wins() -> None:
    losses = {"c0": always(0.105), "boost": always(0.1, 0.1)}
    found = Search(Bench(losses).submit, spec(candidates=named("boost"))).result()
    assert found.recipe["pipeline"] == "c0"
    assert found.report["why"].startswith("its mean loss, 0.1050, cannot be told from the lowest, 0.1000 of boost (difference ")
    assert found.report["why"].endswith("and it learns online and serves now")
    assert found.report["batch"] is None


def test_of_ties_one_that_costs_less_than_half_wins() -> None:
    losses = {"c0": always(0.9), "c1": always(0.1), "c2": always(0.105), "c3": always(0.105)}
    for more, winner in ((1.0, "c3"), (0.5, "c1")):  # half of little is nothing
        seconds = {"c0": 0.1, "c1": more, "c2": 0.6 * more, "c3": 0.4 * more}
        found = Search(Bench(losses, seconds).submit, spec(candidates=named("c1", "c2", "c3"), keep=1.0 - 1e-9)).result()
        assert found.recipe["pipeline"] == winner
    assert found.report["why"].startswith("the lowest mean loss")


def test_of_ties_what_serves_now_wins() -> None:
    losses = {"c0": always(0.105), "c1": always(0.1), "c2": always(0.8)}
    found = Search(Bench(losses).submit, spec(candidates=named("c1", "c2"))).result()
    assert found.recipe["pipeline"] == "c0"
    assert found.report["why"].endswith("and it serves now")


def test_what_serves_now_stays_until_it_is_clearly_worse() -> None:
    losses = {"c0": always(0.11)} | {f"c{number}": always(0.1) for number in range(1, 9)}
    found = Search(Bench(losses).submit, spec(candidates=named(*list(losses)[1:]), keep=0.12)).result()
    assert found.recipe["pipeline"] == "c0"


@pytest.mark.parametrize(
    ("asked", "frozen", "residual", "serves", "words"),
    [
        ("auto", 0.3, 0.1, "residual", "mean loss 0.1000 under an online model, 0.3000 frozen (difference -0.2"),
        ("auto", 0.1, 0.3, "refresh", "give the model a schedule (a cron policy)"),
        ("refresh", 0.3, 0.2, "refresh", 'retrain.search.batch_only is "refresh"; mean loss 0.2000 under'),
        ("residual", 0.1, 0.2, "residual", 'retrain.search.batch_only is "residual"'),
    ],
)
def test_how_a_batch_winner_serves(asked: str, frozen: float, residual: float, serves: str, words: str) -> None:
    losses = {"c0": always(0.9), "boost": always(frozen, residual)}
    found = Search(Bench(losses).submit, spec(candidates=named("boost"), batch_only=asked)).result()
    assert found.recipe == {"pipeline": "boost", "params": {"residual": serves == "residual"}, "seed": 42}
    assert found.report["batch"]["serves"] == serves
    assert words in found.report["batch"]["why"]


def test_a_candidate_that_fails_is_out_and_the_search_goes_on() -> None:
    timeout, failed = RetrainError("timeout", "not done after 5 s"), RetrainError("failed", "Boom: bang")
    losses = {"c0": timeout, "c1": failed, "c2": always(0.4)}
    search = Search(Bench(losses).submit, spec(candidates=named("c1", "c2")))
    assert search.result().recipe["pipeline"] == "c2"
    candidates = told(search)
    assert (candidates["c0"]["dropped"], candidates["c1"]["dropped"]) == ("timeout: not done after 5 s", "failed: Boom: bang")
    assert candidates["c0"]["loss"] is None
    assert candidates["c0"]["online"] is None


def test_when_all_fail_each_reason_is_told() -> None:
    losses = {"c0": RetrainError("timeout", "too slow"), "c1": RetrainError("memory", "too large")}
    with pytest.raises(RetrainError, match="no candidate is left: c0: timeout: too slow; c1: memory: too large") as caught:
        Search(Bench(losses).submit, spec(candidates=named("c1"))).result()
    assert caught.value.reason == "failed"


def test_a_reason_that_all_share_is_told_once() -> None:
    away = RetrainError("failed", "the scheduler does not answer")
    losses = {"c0": away, "c1": away, "c2": RetrainError("memory", "too large")}
    with pytest.raises(RetrainError) as caught:
        Search(Bench(losses).submit, spec(candidates=named("c1", "c2"))).result()
    assert caught.value.detail == (
        "no candidate is left: c0, c1: failed: the scheduler does not answer; c2: memory: too large"
    )


def test_too_few_events_are_nobodys_failure() -> None:
    bench = Bench({"c0": RetrainError("empty", "3 events"), "c1": always(0.1)})
    with pytest.raises(RetrainError) as caught:
        Search(bench.submit, spec(candidates=named("c1"))).result()
    assert caught.value.reason == "empty"


def test_a_cancelled_search_cancels_its_jobs_and_stays_cancelled() -> None:
    class Endless:
        cancelled = False

        def done(self) -> bool:
            return False

        def cancel(self) -> None:
            self.cancelled = True

        def result(self) -> bytes:
            raise AssertionError("it never ends")

    jobs: list[Endless] = []

    def submit(*_: Any) -> Endless:
        jobs.append(Endless())
        return jobs[-1]

    search = Search(submit, spec(candidates=named(*(f"c{number}" for number in range(1, 20)))))
    assert not search.done()
    assert len(jobs) == 8, "no more are handed in at a time"
    search.cancel()
    assert all(job.cancelled for job in jobs)
    with pytest.raises(RetrainError) as caught:
        search.result()
    assert caught.value.reason == "cancelled"


@given(st.lists(st.booleans(), min_size=2 * BLOCKS, max_size=400), st.data())
def test_the_interval_is_around_the_paired_mean_and_is_turned_around_with_the_pair(ones: list[bool], data: Any) -> None:
    a = np.array(ones, dtype=float)
    b = np.array(data.draw(st.lists(st.booleans(), min_size=len(ones), max_size=len(ones))), dtype=float)
    one, other = difference(a, b), difference(b, a)
    assert one.mean == pytest.approx(a.mean() - b.mean())
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert difference(a, a) == (0.0, 0.0, 0.0)


def test_of_few_events_nothing_is_known() -> None:
    few = np.ones(2 * BLOCKS - 1)
    assert difference(few, few * 0) == (1.0, -1.0, 1.0)


@pytest.mark.slow
def test_the_interval_covers_the_truth_although_losses_correlate() -> None:
    """Differences with a correlation of 0.8 from one to the next: of 400 intervals about 95 % hold the mean."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        noise, level, apart = rng.normal(size=4000), 0.0, np.empty(4000)
        for index, shock in enumerate(noise):
            level = 0.8 * level + shock
            apart[index] = level
        low, high = difference(apart, np.zeros(4000))[1:]
        held += low <= 0.0 <= high
    assert 0.92 <= held / 400 <= 0.98


OWN = '''
import time

from river import base, linear_model


class _Bad(base.Classifier):
    def learn_one(self, x, y):
        self.act()

    def predict_proba_one(self, x, **kwargs):
        return {True: 0.5, False: 0.5}


class Hangs(_Bad):
    def act(self):
        time.sleep(60)


def raises():
    raise ZeroDivisionError("by nought")


def hangs():
    return Hangs()
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "search_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("search_own", None)


def filled(tmp_path: Path, count: int) -> Callable[[], Log]:
    """A log of events that a tree can tell and a line cannot: the label says whether a and b have one sign."""
    open_log = functools.partial(SqliteLog, tmp_path / "log.sqlite")
    rng, log = np.random.default_rng(3), open_log()
    log.create({"s": 1})
    entries = []
    for number in range(count):
        a, b = rng.uniform(-1, 1, 2).tolist()
        event = {"stream": "s", "id": f"e{number}", "x": {"a": a, "b": b}, "y": (a > 0) == (b > 0)}
        entries.append(Entry(b"k", msgspec.json.encode(event), partition=0))
    log.append("s", entries).result()
    log.close()
    return open_log


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_in_two_workers_one_raises_and_one_hangs_and_boosting_wins(tmp_path: Path) -> None:
    open_log = filled(tmp_path, 3000)
    boost = "sklearn.ensemble:HistGradientBoostingClassifier"
    given = [
        {"pipeline": "search_own:raises"}, {"pipeline": "search_own:hangs"},
        {"pipeline": boost, "params": {"max_iter": 20}}, {"pipeline": "naive_bayes"},
    ]  # fmt: skip
    one = spec(3000, "logistic", 100, candidates=given)
    one.settings["retrain"]["time_limit_s"] = 50.0  # 10 s each
    jobs = Jobs(open_log, KeyRing({"k1": b"0123456789abcdef"}), executor=Pool(2, WARM))
    try:
        search = Search(jobs.score, one)
        deadline, shown = time.monotonic() + 100, set()
        while not search.done():
            shown.add(search.progress())
            assert time.monotonic() < deadline
            time.sleep(0.02)
        found = search.result()
    finally:
        jobs.close()
    assert found.recipe["pipeline"] == boost
    assert found.report["batch"]["serves"] in ("residual", "refresh")
    candidates = {one["pipeline"]: one for one in found.report["candidates"]}
    assert candidates["search_own:raises"]["dropped"].startswith("failed: search_own:raises raised ZeroDivisionError")
    assert candidates["search_own:hangs"]["dropped"].startswith("timeout: not done after 10 s")
    assert candidates[boost]["loss"] < 0.1 < candidates["logistic"]["loss"]
    assert len(shown) > 1


@pytest.mark.slow
def test_on_a_cluster(tmp_path: Path) -> None:
    from distributed import LocalCluster

    open_log = filled(tmp_path, 1500)
    tree = {"pipeline": "sklearn.tree:DecisionTreeClassifier", "params": {"max_depth": 8}}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=40) as local:
        jobs = Jobs(open_log, KeyRing({"k1": b"0123456789abcdef"}), executor=Cluster(local.scheduler_address, 2, WARM))
        try:
            search = Search(jobs.score, spec(1500, "logistic", 100, candidates=[tree, {"pipeline": "no_such"}]))
            found = search.result()
        finally:
            jobs.close()
    assert found.recipe["pipeline"] == tree["pipeline"]
    assert told(search)["no_such"]["dropped"].startswith("failed: there is no recipe")
