"""The ledger: what each model would have lost on what came after it, against the same models made and asked by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import base

from streamlearn.config import Settings, parse
from streamlearn.errors import ConfigError
from streamlearn.events import Event, encode
from streamlearn.learning.model import Model
from streamlearn.learning.replay import limits_of
from streamlearn.log import Record
from streamlearn.retrain.ledger import Ledger, Pair, batch_size, collect, keep


def settings(**model: Any) -> Settings:
    table = {"stream": "s", "task": "binary", "pipeline": "logistic", **model}
    return parse({"streams": {"s": {"partitions": 3}}, "models": {"m": table}}, {})


def records(count: int, turns: int = 10**9, seed: int = 1) -> Iterator[Record]:
    """Events that a line can tell apart; from `turns` on the other way round. Later ones lie further to the right."""
    rng = random.Random(seed)
    for n in range(count):
        a = rng.random()
        x = {"a": a, "b": rng.random() + (3.0 if n >= turns else 0.0)}
        event = Event("s", id=f"e{n}", ts=1000.0 + n, x=x, y=(a > 0.5) ^ (n >= turns))
        yield Record(n, 1000.0 + n, 0, f"e{n}".encode(), encode(event))


def ledger(given: Settings, found: list[Pair], **named: Any) -> Ledger:
    return keep(found, given.models["m"], limits_of(given), **{"batch": 50, "window": 2} | named)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return collect(settings(), "m", records(600, turns=300)).found


def test_labelled_events_are_collected_as_the_live_learner_takes_them() -> None:
    given = settings(labels=["no", "yes"])
    rows: list[Mapping[str, Any]] = [
        {"id": "1", "ts": 5.0, "x": {"a": 1.0, "b": None}},
        {"id": "2", "ts": 6.0, "x": {"a": 2.0}, "y": "no"},
        {"id": "1", "ts": 7.0, "y": "yes"},
        {"id": "3", "ts": 8.0, "x": {"a": 3.0}, "y": "perhaps"},
        {"id": "4", "ts": 9.0, "x": {"a": "text"}, "y": "no"},
    ]
    stream = [Record(n, 0.0, 0, row["id"].encode(), encode({"stream": "s", **row})) for n, row in enumerate(rows)]
    collected = collect(given, "m", stream)
    assert collected.found == [Pair({"a": 2.0}, False, 6.0), Pair({"a": 1.0}, True, 5.0)]
    assert [(offset, reason) for offset, reason, _ in collected.refused] == [(3, "unknown_label"), (4, "feature_type")]
    assert "perhaps" in collected.refused[0][2]


@pytest.mark.parametrize("learns", [False, True])
def test_a_model_is_made_of_its_window_and_serves_what_follows(pairs: list[Pair], learns: bool) -> None:
    """Against the model made and asked by hand: batches of 50, model 4 of the batches 3 and 4."""
    given = settings()
    found = ledger(given, pairs, learns=learns)
    assert found.cuts == list(range(0, 601, 50))
    model = Model(given.models["m"], limits_of(given))
    for x, y, _ in pairs[150:200]:
        model.learn(x, y)
    reference = []
    for x, y, _ in pairs[200:250]:
        reference.append(model.predict(x)[0] != y)
        model.learn(x, y)
    lost = []
    for x, y, _ in pairs[250:]:
        lost.append(float(model.predict(x)[0] != y))
        if learns:
            model.learn(x, y)
    assert found.past.reference[4] == pytest.approx(np.mean(reference))
    assert found.losses[4].tolist() == lost
    assert found.past.loss[4, 5:].tolist() == pytest.approx(np.reshape(lost, (7, 50)).mean(axis=1).tolist())


def test_the_past_holds_every_model_and_batch(pairs: list[Pair]) -> None:
    told: list[tuple[int, int]] = []
    found = ledger(settings(), pairs, told=lambda done, total: told.append((done, total)))
    past = found.past
    assert (found.batches, found.kind, found.window, found.learns) == (12, "binary", 2, True)
    assert past.n.tolist() == [50.0] * 12
    assert past.at.tolist() == [1049.0 + 50 * j for j in range(12)]
    known = np.triu(np.ones((12, 12), bool), 1)
    for one in (past.loss, past.psi, past.shift):
        assert (~np.isnan(one) == known).all()
        assert np.nanmin(one) >= 0
    assert np.nanmax(past.loss) <= 1
    assert np.nanmax(past.psi) <= 1
    assert not np.isnan(past.reference).any()
    assert [len(losses) for losses in found.losses] == [600 - 50 * (i + 1) for i in range(12)]
    assert past.batch(2, 7).loss == pytest.approx(found.losses[2][200:250].mean())
    assert told[-1] == (3300, 3300)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_change_is_seen_by_old_models_and_in_the_features(pairs: list[Pair]) -> None:
    """At the event 300, the end of batch 5, labels turn round and one of two features moves."""
    past = ledger(settings(), pairs, learns=False).past
    assert past.loss[3, 5] < 0.2
    assert past.loss[3, 6:].min() > 0.7
    assert past.loss[7, 8:].max() < 0.3, "made of the new world alone"
    assert past.psi[3, 6:].min() > 0.6
    assert past.shift[3, 5] < 0.5 < past.shift[3, 6:].min()
    assert past.shift[7, 8:].max() < 0.5


def test_the_same_seed_gives_the_same_ledger(pairs: list[Pair]) -> None:
    one, same, other = (ledger(settings(), pairs, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.past.psi, same.past.psi, equal_nan=True)
    assert np.array_equal(one.past.loss, same.past.loss, equal_nan=True)
    assert not np.array_equal(one.past.psi, other.past.psi, equal_nan=True), "another sample"
    assert np.array_equal(one.past.loss, other.past.loss, equal_nan=True)


def test_batches_are_even_and_nothing_is_left_over(pairs: list[Pair]) -> None:
    found = ledger(settings(), pairs[:599], batch=110, window=1)
    assert found.cuts == [0, 120, 240, 359, 479, 599]
    assert found.past.n.tolist() == [120, 120, 119, 120, 120]
    assert 0 < found.past.reference[0] < 1, "of the second half of the only batch"


def test_further_epochs_are_learned_before_it_serves(pairs: list[Pair]) -> None:
    once, twice = (ledger(settings(retrain={"epochs": epochs}), pairs[:250], learns=False) for epochs in (1, 2))
    assert once.past.reference.tolist() == twice.past.reference.tolist(), "the first epoch alone has not seen what it is asked"
    assert not np.array_equal(once.past.loss, twice.past.loss, equal_nan=True)


def test_numbers_have_one_scale_for_all_models() -> None:
    given = settings(task="regression", pipeline="linear")
    rng = random.Random(2)
    found = [Pair({"a": a}, 10 * a, float(n)) for n in range(400) for a in [rng.random()]]
    made = ledger(given, found)
    assert made.kind == "bounded"
    assert 0 < made.past.loss[5, 6] < 0.5
    half = settings(task="regression", pipeline="linear", loss_scale=5.0)
    whole = settings(task="regression", pipeline="linear", loss_scale=10.0)
    low, high = (ledger(one, found).losses[5] for one in (whole, half))
    assert high.tolist() == pytest.approx(np.minimum(1, 2 * low).tolist(), rel=1e-5)


class Moody(base.Classifier):
    """Cannot predict what lies right of 1, nor learn what lies left of −1."""

    def learn_one(self, x: Any, y: Any) -> None:
        if x["a"] < -1:
            raise ValueError("not that")

    def predict_proba_one(self, x: Any) -> dict[bool, float]:
        if x["a"] > 1:
            raise ValueError("not that")
        return {True: 1.0}


def test_what_cannot_be_predicted_is_lost_and_what_cannot_be_learned_passed_over() -> None:
    given = settings(pipeline=f"{__name__}:Moody")
    found = [Pair({"a": a}, True, float(n)) for n, a in enumerate([0.0] * 10 + [2.0] * 10 + [-2.0] * 10)]
    made = ledger(given, found, batch=10, window=1)
    assert made.past.loss[0, 1:].tolist() == [1.0, 0.0]
    assert made.past.loss[1, 2] == 0.0


@pytest.mark.parametrize(
    ("task", "ys", "told"),
    [
        ("binary", [True] * 149, r"--batch: 149 labelled events make 2 batches of 50"),
        ("regression", [1.0] * 300, r"loss_scale: cannot be told from so few labels, or equal ones"),
        ("regression", [1.0, 2.0] * 80, r"loss_scale: cannot be told"),
    ],
)
def test_what_gives_no_ledger_is_refused(task: str, ys: list[Any], told: str) -> None:
    given = settings(task=task, pipeline="linear" if task == "regression" else "logistic")
    with pytest.raises(ConfigError, match=told):
        ledger(given, [Pair({"a": 1.0}, y, float(n)) for n, y in enumerate(ys)])


@given(st.integers(1, 10**7), st.integers(10, 10**5))
def test_batches_are_as_wished_unless_too_many_or_too_few(labelled: int, wanted: int) -> None:
    size = batch_size(labelled, wanted)
    assert size >= 1
    assert labelled // size <= 100
    if labelled >= 40:
        assert labelled // size >= 33  # of a few events, the next larger size may halve their number
    if 40 <= labelled // wanted <= 100 and labelled % wanted == 0:
        assert size == wanted
