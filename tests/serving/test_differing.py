"""What differs between two versions."""

from __future__ import annotations

from typing import Any

from streamlearn.serving.differing import TOP, differing, feature_type
from streamlearn.wire import Difference


def version(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "model": "m", "reason": "m-1", "settings": {}, "made_with": {}, **changes}


def fitted(weights: dict[str, float], in_all: int | None = None, **changes: Any) -> dict[str, Any]:
    return {"0": {"position": 5, "features": 2, "weights": weights, "weights_in_all": in_all or len(weights), **changes}}


def knows(number: int, features: dict[str, str] | None, in_all: int | None = None, **more: Any) -> dict[str, Any]:
    return version(version=number, features=features, features_in_all=in_all or (features and len(features)), **more)


def test_settings_are_compared_key_by_key() -> None:
    a = version(settings={"pipeline": "logistic", "params": {"l2": 0.1}, "drift": {"alpha": 0.05}})
    b = version(settings={"pipeline": "logistic", "params": {"l2": 0.2, "clip": 3.0}, "drift": {"alpha": 0.05}})
    assert differing(a, b) == [
        Difference("settings", "params.l2", 0.1, 0.2), Difference("settings", "params.clip", None, 3.0),
    ]  # fmt: skip


def test_libraries_data_and_trials() -> None:
    a = version(made_with={"river": "0.25", "settings_sha256": "a"}, window={"starts": {"0": 5}}, trial={"e": 3.0, "peak": 9})
    b = version(made_with={"river": "0.26", "settings_sha256": "b"}, window={"starts": {"0": 9}}, trial=None, learned=7)
    assert differing(a, b) == [
        Difference("made with", "river", "0.25", "0.26"), Difference("data", "window.starts.0", 5, 9),
        Difference("data", "learned", None, 7), Difference("trial", "e", 3.0, None),
    ]  # fmt: skip


def test_the_weights_that_differ_most_come_first() -> None:
    a = version(fitted=fitted({f"w{n}": 0.0 for n in range(40)}))
    b = version(fitted=fitted({f"w{n}": float(n) * (-1) ** n for n in range(40)}, position=9))
    found = differing(a, b)
    assert [row.what for row in found] == [f"weight of w{n}" for n in range(39, 39 - TOP, -1)]
    assert {row.part for row in found} == {"model, shard 0"}


def test_a_weight_that_is_not_among_those_known_is_not_called_zero() -> None:
    a, b = version(fitted=fitted({"x": 1.0})), version(fitted=fitted({"y": 3.0}, in_all=1000))
    rows = {row.what: (row.a, row.b) for row in differing(a, b)}
    assert rows["weight of y"] == (0.0, 3.0)
    assert rows["weight of x"] == (1.0, None)


def test_a_version_that_serves_is_compared_as_it_is_by_now() -> None:
    a = version(fitted=fitted({"x": 1.0}), serving=fitted({"x": 5.0}))
    b = version(fitted=fitted({"x": 5.0}, estimator="Tree"))
    rows = {row.what: (row.a, row.b) for row in differing(a, b)}
    assert rows["taken"] == ("as it serves now", "as it was fitted")
    assert rows["estimator"] == (None, "Tree")
    assert "weight of x" not in rows


def test_models_without_weights_and_shards_that_one_lacks() -> None:
    a = version(fitted={"0": {"nodes": 5}, "1": {"nodes": 7}})
    b = version(fitted={"0": {"nodes": 9}})
    rows = [(row.part, row.what, row.a, row.b) for row in differing(a, b)]
    assert rows == [
        ("model, shard 0", "nodes", 5, 9),
        ("model, shard 1", "taken", "as it was fitted", None),
        ("model, shard 1", "nodes", 7, None),
    ]


def test_nothing_differs_from_itself() -> None:
    one = version(fitted=fitted({"x": 1.0}), trial={"e": 1.0}, settings={"a": [1, 2]})
    assert differing(one, one) == []


def test_which_features_appeared_vanished_or_changed_their_type() -> None:
    a = knows(1, {"a": "number", "b": "string", "c": "number"})
    b = knows(2, {"b": "number", "c": "number", "d": "string"})
    assert differing(a, b) == [
        Difference("features", "a", "number", None), Difference("features", "b", "string", "number"),
        Difference("features", "d", None, "string"),
    ]  # fmt: skip
    assert differing(a, knows(2, None)) == []


def test_a_feature_that_is_not_among_those_named_is_not_called_gone() -> None:
    a, b = knows(1, {"a": "number", "b": "number", "m": "number", "z": "number"}), knows(2, {"a": "number", "m": "number"}, 900)
    assert [feature_type(b, name) for name in ("a", "b", "z")] == ["number", None, "?"]
    assert [row.what for row in differing(a, b)] == ["b"]
