"""A model as it was, taken through records: what it would have lost, by the learner's own rules, and nothing learned."""

from __future__ import annotations

from typing import Any

import msgspec

from streamlearn.config import parse
from streamlearn.drift.offline import Recorder
from streamlearn.events import Kind
from streamlearn.learning.digest import digest
from streamlearn.learning.onlooker import Gatherer, Onlooker
from streamlearn.learning.replay import limits_of, new_learner
from streamlearn.log import Record

SETTINGS = parse(
    {"streams": {"s": {}}, "models": {"m": {"stream": "s", "task": "binary", "pipeline": "logistic", "label_wait_s": 3600}}}, {}
)


def record(offset: int, **event: Any) -> Record:
    return Record(offset, float(offset), Kind.EVENT, b"k", msgspec.json.encode({"stream": "s", "ts": offset, **event}))


def xy(offset: int, v: float, y: bool) -> Record:
    return record(offset, id=f"e{offset}", x={"v": v}, y=y)


def onlooker(start: int, after: int) -> Onlooker:
    """A model that has learned, offsets 0 to 199, that what is above 0 is true."""
    learner = new_learner(SETTINGS, "m", 0, 0, Recorder())
    for n in range(200):
        learner.step(xy(n, 1.0 if n % 2 else -1.0, bool(n % 2)))
    model, stream = SETTINGS.models["m"], SETTINGS.streams["s"]
    return Onlooker("m", model, stream, limits_of(SETTINGS), ("s", 0), start, after, learner.champion, learner.loss)


def test_losses_are_those_of_the_model_as_it_was() -> None:
    frozen = onlooker(200, 200)
    before = digest(frozen.model.estimator)
    flipped = [xy(200 + n, 1.0 if n % 2 else -1.0, not n % 2) for n in range(300)]
    assert frozen.feed(flipped) == 300
    assert frozen.losses == [1.0] * 300, "it never learns that the world turned over"
    assert digest(frozen.model.estimator) == before
    assert frozen.position == 500


def test_only_labels_after_count_and_only_of_features_that_were_read() -> None:
    frozen = onlooker(200, 203)
    frozen.feed([
        record(200, id="a", x={"v": 1.0}),
        xy(201, 1.0, False),
        record(202, id="unread", y=True),
        record(203, id="a", y=False),
        xy(204, -1.0, False),
    ])  # fmt: skip
    assert frozen.losses == [1.0, 0.0]


def test_what_cannot_be_predicted_makes_no_loss() -> None:
    frozen = onlooker(200, 200)
    frozen.feed([record(200, id="a", x={"v": "text"}, y=True), xy(201, 1.0, True), Record(202, 0.0, Kind.COMMAND, b"", b"x")])
    assert frozen.losses == [0.0]
    assert frozen.position == 203


def test_the_last_labelled_events_are_gathered_and_the_model_is_as_it_was() -> None:
    model = onlooker(0, 0).model
    before, types = digest(model.estimator), dict(model.types)
    about = SETTINGS.models["m"], SETTINGS.streams["s"], limits_of(SETTINGS), ("s", 0)
    gatherer = Gatherer("m", *about, 200, model, 3)
    gatherer.pass_over([(204, 205)])
    records = [xy(200, 0.5, True), record(201, id="q", x={"v": 2.0, "new": "p", "none": None}), xy(202, 1.5, True)]
    records += [xy(203, -1.0, False), xy(204, 9.0, True), record(205, id="q", y=False), record(206, id="w", x={"v": 3.0})]
    gatherer.feed(records)
    assert list(gatherer.pairs) == [({"v": 1.5}, True), ({"v": -1.0}, False), ({"v": 2.0, "new": "p"}, False)]
    assert gatherer.position == 207
    assert digest(model.estimator) == before
    assert model.types == types
