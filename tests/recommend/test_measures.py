"""The measures of lists against a naive recomputation, cut and merged in any way, and what they refuse."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.recommend.measures import Measures, diversity

ITEMS = [f"i{n}" for n in range(12)]
NAN = math.nan


class Event(NamedTuple):
    rank: int | None
    shown: list[str]
    popularity: list[float] | None
    tokens: list[frozenset[str]] | None
    new_user: bool
    new_item: bool
    ts: float
    available: int | None


@st.composite
def events(draw: st.DrawFn) -> Event:
    shown = draw(st.lists(st.sampled_from(ITEMS), max_size=8, unique=True))
    size = {"min_size": len(shown), "max_size": len(shown)}
    return Event(
        draw(st.none() | st.integers(1, 15)),
        shown,
        draw(st.none() | st.lists(st.just(0.0) | st.floats(1e-6, 1), **size)),
        draw(st.none() | st.lists(st.frozensets(st.sampled_from("abcde")), **size)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.floats(-1e6, 4e6)),
        draw(st.none() | st.integers(1, 20)),
    )


def add(measures: Measures, event: Event) -> None:
    measures.add(*event[:-1], available=event.available)


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def naive_means(several: Sequence[Event], k: int) -> dict[str, Any]:
    """The definitions, one list of values each."""
    places = [NAN if event.rank is None else event.rank for event in several]
    novelties, distances, slots = [], [], []
    for event in several:
        if event.popularity is not None:
            slots += [share == 0 for share in event.popularity[:k]]
            bits = [-math.log2(share) for share in event.popularity[:k] if share]
            novelties += [sum(bits) / len(bits)] if bits else []
        if event.tokens is not None:
            pairs = [(a, b) for a, b in itertools.combinations(event.tokens[:k], 2) if a | b]
            distances += [sum(1 - len(a & b) / len(a | b) for a, b in pairs) / len(pairs)] if pairs else []
    return {
        "events": len(several),
        "hr": mean([float(place <= k) for place in places]),
        "ndcg": mean([1 / math.log2(1 + place) if place <= k else 0 for place in places]),
        "mrr": mean([1 / place if place <= k else 0 for place in places]),
        "mrr_full": mean([1 / place if place == place else 0 for place in places]),
        "ranked": mean([float(place == place) for place in places]),
        "novelty": mean(novelties),
        "untouched": mean(slots),
        "diversity": mean(distances),
    }


def naive(several: Sequence[Event], k: int, window: int) -> dict[str, Any]:
    days = sorted({math.floor(event.ts / 86_400) for event in several})
    of_day = {day: [event for event in several if math.floor(event.ts / 86_400) == day] for day in days}
    ever = {item for event in several for item in event.shown[:k]}
    lately = {item for day in days if day > days[-1] - window for event in of_day[day] for item in event.shown[:k]}
    said = [(event.ts, place, event.available) for place, event in enumerate(several) if event.available is not None]
    available = max(said)[2] if said else None
    share = {name: min(1.0, len(items) / available) if available else None for name, items in (("e", ever), ("l", lately))}
    split = {
        "warm": [event for event in several if not (event.new_user or event.new_item)],
        "cold": [event for event in several if event.new_user or event.new_item],
        "new_user": [event for event in several if event.new_user],
        "new_item": [event for event in several if event.new_item],
    }
    return {
        "k": k,
        **naive_means(several, k),
        "coverage": {
            "shown": len(ever), "available": available, "share": share["e"],
            "window_days": window, "window_shown": len(lately), "window_share": share["l"],
        },
        "cold_start": {
            name: len(split[name]) / len(several) if several else None for name in ("cold", "new_user", "new_item")
        },
        "split": {name: naive_means(some, k) for name, some in split.items()},
        "days": [
            {"day": datetime.fromtimestamp(day * 86_400, UTC).date().isoformat(), **naive_means(of_day[day], k)} for day in days
        ],
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, but for how floats were summed."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def measured(several: Sequence[Event], k: int, window: int = 7) -> Measures:
    made = Measures(k, window)
    for event in several:
        add(made, event)
    return made


@given(st.lists(events(), max_size=15), st.integers(1, 9), st.integers(1, 10))
def test_the_view_is_the_naive_recomputation(several: list[Event], k: int, window: int) -> None:
    view = measured(several, k, window).view()
    assert same(view, naive(several, k, window))
    assert json.loads(json.dumps(view)) == view


@given(st.lists(st.tuples(events(), st.integers(0, 2)), max_size=12), st.permutations([0, 1, 2]))
def test_shards_merged_in_any_order_are_the_whole(several: list[tuple[Event, int]], order: list[int]) -> None:
    several = [(event._replace(ts=event.ts + place / 1000), shard) for place, (event, shard) in enumerate(several)]
    shards = [measured([event for event, shard in several if shard == one], 5) for one in order]
    whole = measured([event for event, _ in several], 5)
    for other in shards[1:]:
        shards[0].merge(other)
    assert same(shards[0].view(), whole.view())


@settings(max_examples=40)
@given(st.lists(events(), max_size=8), st.lists(events(), max_size=8))
def test_a_state_that_was_written_goes_on_as_it_was(before: list[Event], after: list[Event]) -> None:
    kept = measured(before, 4, 3)
    again = Measures.load(kept.dump())
    assert again.view() == kept.view()
    for event in after:
        add(kept, event)
        add(again, event)
    assert again.view() == kept.view()
    assert again.dump() == kept.dump()


def test_the_numbers_by_hand() -> None:
    made = Measures(3)
    tokens = [frozenset("ab"), frozenset("bc"), frozenset("xy")]
    made.add(2, ["a", "b", "c", "far"], [0.5, 0.25, 0.0, 1.0], [*tokens, frozenset()], False, False, 0.0, available=8)
    made.add(4, ["a", "b", "d"], None, None, True, False, 90_000.0, available=10)
    view = made.view()
    assert (view["hr"], view["mrr"], view["mrr_full"]) == (0.5, 0.25, 0.375)
    assert view["ndcg"] == pytest.approx(1 / math.log2(3) / 2)
    assert (view["novelty"], view["untouched"]) == (1.5, pytest.approx(1 / 3))
    assert view["diversity"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert view["coverage"] == {
        "shown": 4, "available": 10, "share": 0.4, "window_days": 7, "window_shown": 4, "window_share": 0.4
    }  # fmt: skip
    assert view["cold_start"] == {"cold": 0.5, "new_user": 0.5, "new_item": 0.0}
    assert view["split"]["new_item"]["ndcg"] is None
    assert [(one["day"], one["hr"]) for one in view["days"]] == [("1970-01-01", 1.0), ("1970-01-02", 0.0)]


def test_what_was_shown_long_ago_leaves_the_window() -> None:
    made = Measures(2, window=2)
    for day, item in enumerate(["a", "b", "c", "b"]):
        made.add(None, [item], None, None, False, False, 86_400.0 * day)
    coverage = made.view()["coverage"]
    assert (coverage["shown"], coverage["window_shown"]) == (3, 2)
    made.add(None, ["a"], None, None, False, False, 0.0)  # late: the order of arrival is nothing to it
    assert made.view()["coverage"] == coverage


@given(st.integers(0, 6), st.integers(1, 4), st.integers(0, 1000))
def test_vectors_differ_by_the_cosine(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)) * (rng.random((n, 1)) > 0.2)
    pairs = itertools.combinations([vector for vector in vectors if vector.any()], 2)
    expected = mean([1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in pairs])
    found = diversity(vectors.astype(np.float64))
    assert found is None if expected is None else found == pytest.approx(expected)
    made = Measures(10)
    made.add(1, ITEMS[:n], None, vectors, False, False, 0.0)
    assert made.view()["diversity"] == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rank": 0}, "rank: 0 is not 1 or more"),
        ({"ts": NAN}, "ts: nan is no time"),
        ({"ts": 1e12}, "ts: 1000000000000.0 is no time"),
        ({"popularity": [0.5]}, "popularity: has 1 entries for 2 items"),
        ({"popularity": [0.5, 1.5]}, r"popularity: 1.5 lies outside \[0, 1\]"),
        ({"popularity": [-0.5, 0.5]}, r"popularity: -0.5 lies outside"),
        ({"popularity": [0.5, NAN]}, r"popularity: nan lies outside"),
        ({"tokens": [frozenset()]}, "tokens: has 1 entries for 2 items"),
        ({"tokens": np.zeros(2)}, r"tokens: vectors have the shape \(2,\)"),
        ({"tokens": np.full((2, 2), NAN)}, "tokens: a vector is not finite"),
        ({"available": 0}, "available: 0 is not 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_trace(change: dict[str, Any], told: str) -> None:
    made = measured([Event(1, ["a"], [0.5], [frozenset("x")], False, False, 0.0, 3)], 5)
    before = made.dump()
    event = Event(1, ["a", "b"], [0.5, 0.5], [frozenset("x"), frozenset("y")], False, False, 0.0, 4)
    with pytest.raises(ValueError, match=told):
        add(made, event._replace(**change))
    assert made.dump() == before


def test_states_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="k 0 and window 7 must be 1 or more"):
        Measures(0)
    with pytest.raises(ValueError, match="k 4 and window 7 are not 5 and 7"):
        Measures(5).merge(Measures(4))
    for data in (b"", b"\x90", Measures(5).dump()[:-3]):
        with pytest.raises(ValueError, match="no state of measures"):
            Measures.load(data)


def test_what_an_event_costs_does_not_grow_with_the_stream() -> None:
    """The state is of days, cells and items, whatever number of events they are of."""
    rng = random.Random(1)
    made, sizes = Measures(10), []
    for n in range(4000):
        shown = rng.sample(ITEMS, 10)
        made.add(rng.randint(1, 30), shown, [0.1] * 10, [frozenset("ab")] * 10, False, False, 1e9 + n % 1000)
        if n in (1999, 3999):
            sizes.append(len(made.dump()))
    assert sizes[1] - sizes[0] < 50
