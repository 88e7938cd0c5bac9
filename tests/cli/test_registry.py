"""What differs between two versions, and how it is told."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from streamlearn.cli.registry import (
    TOP,
    Difference,
    difference_table,
    differing,
    feature_type,
    features_by_version,
    features_table,
    in_full,
    listing,
)


def version(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "model": "m", "reason": "m-1", "settings": {}, "made_with": {}, **changes}


def fitted(weights: dict[str, float], in_all: int | None = None, **changes: Any) -> dict[str, Any]:
    return {"0": {"position": 5, "features": 2, "weights": weights, "weights_in_all": in_all or len(weights), **changes}}


def told(renderable: Any) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


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


def test_the_table_says_by_how_much() -> None:
    rows = [("data", "learned", 1000, 2500), ("data", "kept", True, False), ("settings", "a", None, "b")]
    text = told(difference_table([Difference(*row) for row in rows], 3, 4))
    assert "+1,500" in text
    assert [line.split() for line in text.splitlines()[2:]] == [["kept", "yes", "no"], ["settings", "a", "–", "b"]]


def test_an_imported_version_says_where_it_comes_from() -> None:
    doc = version(origin={"model": "lab", "version": 9, "log": "3f0c"}, fate="imported", kept=True, unusable={"1": "damaged"})
    text = told(in_full(doc))
    assert "version 9 of lab on log 3f0c" in text
    assert "damaged" in text


def test_a_version_that_grew_from_a_base_says_which() -> None:
    base = {"kind": "checkpoint", "id": 7, "position": 4000}
    text = told(in_full(version(bases={"0": base}, skip={"0": [[4000, 4100]]})))
    assert "checkpoint 7, which had read to 4,000" in text
    assert "4,000–4,100" in text


def test_a_searched_version_shows_its_candidates_the_winner_first_and_how_it_serves() -> None:
    candidate = {"name": "logistic", "loss": 0.31, "difference": [0.2, 0.1, 0.3], "rungs": 1, "fitted": 93, "seconds": 0.5,
                 "bytes": 1700, "serves": "", "dropped": "not among the best 1 of 2"}  # fmt: skip
    winner = {**candidate, "name": "boost", "loss": 0.11, "difference": [0.0, 0.0, 0.0], "rungs": 3, "fitted": 800,
              "serves": "refresh", "dropped": ""}  # fmt: skip
    failed = {**candidate, "name": "own", "loss": None, "difference": None, "rungs": 0, "dropped": "timeout: not done"}
    report = {"scored": 200, "why": "the lowest mean loss", "winner": winner["name"], "candidates": [candidate, failed, winner],
              "batch": {"serves": "refresh", "why": "mean loss 0.1 frozen"}}  # fmt: skip
    text = told(in_full(version(search=report)))
    assert "Search, scored on 200 events: the lowest mean loss" in text
    assert text.index("boost") < text.index("0.31") < text.index("timeout")
    assert "0.2000 (0.1000 to 0.3000)" in text
    assert "refresh: mean loss 0.1 frozen" in text
    assert "Search" not in told(in_full(version(search=None)))


def test_a_version_that_is_being_fitted_has_no_end_yet() -> None:
    text = told(listing([version(window={"starts": {"0": 5, "1": 7}, "until": {"0": 9, "1": 9}}, fate="fitting")]))
    assert "0: 5–…, 1: 7–…" in " ".join(text.split())


def knows(number: int, features: dict[str, str] | None, in_all: int | None = None, **more: Any) -> dict[str, Any]:
    return version(version=number, features=features, features_in_all=in_all or (features and len(features)), **more)


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


def test_the_table_of_features_by_version() -> None:
    items = [
        knows(3, {"a": "string", "c": "number"}), knows(1, {"a": "number", "b": "number"}), knows(4, None),
        knows(2, {"a": "number", "b": "number", "c": "number"}),
    ]  # fmt: skip
    versions, rows = features_by_version(items, 2)
    assert versions == [2, 3]
    assert list(rows.items()) == [("a", ["number", "string"]), ("b", ["number", None]), ("c", ["number", "number"])]
    lines = [line.split() for line in told(features_table(*features_by_version(items, 9))).splitlines()]
    assert lines == [
        ["feature", "version", "1", "version", "2", "version", "3"], ["a", "number", "number", "string"],
        ["b", "number", "number", "–"], ["c", "–", "number", "number"],
    ]  # fmt: skip


def test_a_version_shows_its_features() -> None:
    text = told(in_full(knows(2, {"b": "string", "a": "number"}, 900)))
    assert "900, of which the first 2 by name" in text
    assert [line.split() for line in text.splitlines() if line.split()[:1] in (["numbers"], ["strings"])] == [
        ["numbers", "a"], ["strings", "b"],
    ]  # fmt: skip
    shown = told(in_full(version(fitted=fitted({"x": 1.0}, types={"secret": "number"}))))
    assert "secret" not in shown, "they stand in lines of their own, once for all shards"
