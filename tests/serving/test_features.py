"""What is shown of a model's features."""

from __future__ import annotations

from typing import Any

from streamlearn.history import Series
from streamlearn.serving.features import features_view, heat


def series(*columns: tuple[float | None, float | None]) -> Series:
    told = {"feature:b": [b for b, _ in columns], "feature:a": [a for _, a in columns], "feature:zz": [None] * len(columns)}
    return Series(0.0, 99.0, 10, [10 * n for n in range(len(columns))], {name: {"mean": one} for name, one in told.items()})


def test_before_the_first_look_there_is_nothing_and_that_is_said() -> None:
    view = features_view("m", True, {}, Series(0.0, 1.0, 10, [], {}))
    assert (view["at"], view["looks"], view["reference"], view["features"]) == (None, 0, None, [])
    assert view["heat"] == {"at": [], "step_s": 10, "names": [], "psi": []}
    assert view["enabled"] is True


def test_histograms_are_told_as_before_and_after() -> None:
    numbers = {"edges": [0.0, 1.0, 2.0], "reference": [3, 4], "recent": [1, 9]}
    words = {"values": ["<i>", "y"], "reference": [3, 4], "recent": [1, 9]}
    features: list[dict[str, Any]] = [
        {"name": "a", "histogram": numbers}, {"name": "b", "histogram": words}, {"name": "c", "histogram": None},
    ]  # fmt: skip
    view = features_view("m", False, {"features": features, "looks": 3, "at": 5.0}, series())
    assert [one["histogram"] for one in view["features"]] == [
        {"edges": [0.0, 1.0, 2.0], "before": [3, 4], "after": [1, 9]},
        {"values": ["<i>", "y"], "before": [3, 4], "after": [1, 9]},
        None,
    ]
    assert (view["looks"], view["at"], view["enabled"]) == (3, 5.0, False)


def test_the_heat_stands_in_the_order_of_the_features_without_empty_ends() -> None:
    found = heat(["a", "b"], series((None, None), (0.1, None), (None, None), (0.3, 0.2), (None, None)))
    assert found == {
        "at": [10, 20, 30], "step_s": 10, "names": ["a", "b", "zz"],
        "psi": [[None, 0.1, None], [None, None, None], [0.2, 0.3, None]],
    }  # fmt: skip
