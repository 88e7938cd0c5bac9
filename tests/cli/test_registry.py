"""What differs between two versions, and how it is told."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from streamlearn.cli.registry import (
    difference_table,
    features_by_version,
    features_table,
    in_full,
    listing,
)
from streamlearn.wire import Difference


def version(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "model": "m", "reason": "m-1", "settings": {}, "made_with": {}, **changes}


def fitted(weights: dict[str, float], in_all: int | None = None, **changes: Any) -> dict[str, Any]:
    return {"0": {"position": 5, "features": 2, "weights": weights, "weights_in_all": in_all or len(weights), **changes}}


def told(renderable: Any) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


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


def test_a_dropped_version_says_so_and_when() -> None:
    docs = [version(dropped=1767225700.0), version(version=2, kept=True), version(version=3)]
    assert [line.split()[-1] for line in told(listing(docs)).splitlines()[-3:]] == ["dropped", "yes", "no"]
    assert "no: dropped at 2026-01-01 00:01:40Z, being older than the newest that are kept" in told(in_full(docs[0]))


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
