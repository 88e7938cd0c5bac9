"""How models did over HTTP: series of a time, in few enough steps, what served then, and what is wrong with a question."""

from __future__ import annotations

import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streamlearn import wire
from streamlearn.errors import StoreUnavailable
from streamlearn.history import Recorder
from streamlearn.serving.examples import HISTORY

NOW = 1_767_225_600.0
SERVED = [item["version"] for item in HISTORY["items"]]


def got(world: Any, path: str) -> Any:
    answer: list[Any] = []
    world.registry = CollectorRegistry()

    async def story(http: Any) -> None:
        found = await http.get(path)
        answer.extend([found.status_code, found.json()])

    world.run(story)
    return answer


def record(world: Any, seconds: int = 3600, model: str = "delay", step: int = 10) -> None:
    """The last `seconds` of a model: a lag that counts the samples, and a metric."""
    recorder = Recorder(world.memory_store, world.settings().history)
    for place in range(seconds // step):
        at = NOW - seconds + place * step
        recorder.sample(model, at, {"lag": float(place), "metric:accuracy": 0.9, "feature:x": 0.1})


def test_the_last_hour_by_default(world: Any) -> None:
    record(world, 7200)
    status, answer = got(world, "/v1/models/delay/history")
    assert status == 200
    assert (answer["model"], answer["since"], answer["until"], answer["step_s"]) == ("delay", NOW - 3600, NOW, 10)
    assert answer["at"] == [NOW - 3600 + 10 * place for place in range(360)]
    assert answer["series"]["lag"]["mean"] == answer["series"]["lag"]["max"] == [float(place) for place in range(360, 720)]
    assert sorted(answer["series"]) == ["lag", "metric:accuracy"]


@pytest.mark.parametrize(
    ("query", "first", "steps"),
    [
        ("since=1767222000", NOW - 3600, 360),
        ("until=1767222000", NOW - 7200, 360),
        ("since=1767225000&until=1767225300", NOW - 600, 30),
        ("since=2025-12-31T23:30:00Z&until=2025-12-31T23:45:00Z", NOW - 1800, 90),
        ("since=2026-01-01T00:30:00%2B01:00", NOW - 1800, 180),
        ("points=60", NOW - 3600, 60),
        ("points=1", NOW - 3600, 1),
    ],
)
def test_any_time_in_at_most_so_many_steps(world: Any, query: str, first: float, steps: int) -> None:
    record(world, 7200)
    status, answer = got(world, f"/v1/models/delay/history?{query}")
    assert status == 200
    assert (answer["at"][0], len(answer["at"])) == (first, steps)
    assert len(answer["series"]["lag"]["mean"]) == steps
    assert None not in answer["series"]["lag"]["mean"]


def test_series_are_chosen(world: Any) -> None:
    record(world)
    for query, names in (
        ("lag", ["lag"]), ("metric:*,feature:*", ["feature:x", "metric:accuracy"]),
        ("*", ["feature:x", "lag", "metric:accuracy"]), ("", []), (" lag , nothing", ["lag"]),
    ):  # fmt: skip
        assert sorted(got(world, f"/v1/models/delay/history?series={query}")[1]["series"]) == names


def test_thirty_days_in_six_hundred_steps(world: Any) -> None:
    record(world, 30 * 86_400, step=1500)
    status, answer = got(world, f"/v1/models/delay/history?since={NOW - 30 * 86_400}&points=600")
    assert status == 200
    assert (answer["step_s"], len(answer["at"])) == (4500, 577)
    assert answer["series"]["lag"]["min"][0] == 0
    assert answer["series"]["lag"]["max"][-1] == 1727


def test_a_model_without_history_has_steps_without_values(world: Any) -> None:
    status, answer = got(world, "/v1/models/delay/history")
    assert (status, answer["items"], answer["series"], len(answer["at"])) == (200, [], {}, 360)


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("", [1, 2]), ("?at=1767225000", [1]), ("?at=1767225700.9", [1]), ("?at=1767225701", [2]),
        ("?at=2026-01-01T00:00:00Z", [1]), ("?at=2026-01-01T01:00:00%2B00:30", [2]), ("?at=2030-01-01", [2]), ("?at=5", []),
        ("?since=1767225000&until=1767225701", [1]), ("?since=1767225000&until=1767225701.5", [1, 2]),
        ("?since=1767225701", [2]), ("?until=5", []),
    ],
)  # fmt: skip
def test_what_served_at_a_time(world: Any, query: str, versions: list[int]) -> None:
    world.clock.advance(3600)
    world.view("history", "delay", {"items": HISTORY["items"]})
    status, answer = got(world, f"/v1/models/delay/history{query}")
    assert status == 200
    assert [one["version"] for one in answer["items"]] == versions
    assert ("series" in answer) == ("at" not in query)


@pytest.mark.parametrize("field", ["at", "since", "until"])
@pytest.mark.parametrize("time", ["soon", "nan", "-1e300", ""])
def test_a_wrong_time_is_422(world: Any, field: str, time: str) -> None:
    status, problem = got(world, f"/v1/models/delay/history?{field}={time}")
    assert (status, problem["field"]) == (422, field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("points=0", "points"), ("points=2001", "points"), ("points=many", "points"), ("points=-5", "points"),
        ("points=%C2%B2", "points"), ("points=", "points"), ("points=" + "9" * 5000, "points"), ("points=6.5", "points"),
        ("since=5&until=5", "since"), ("since=5&until=4", "since"), ("since=1767225601", "since"),
        ("series=" + ",".join(["a"] * 201), "series"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_422_and_names_the_field(world: Any, query: str, field: str) -> None:
    status, problem = got(world, f"/v1/models/delay/history?{query}")
    assert (status, problem["field"]) == (422, field)
    assert problem["detail"].startswith(f"{field}: ")


def test_a_model_that_is_not_there(world: Any) -> None:
    status, problem = got(world, "/v1/models/nope/history")
    assert (status, problem["type"]) == (404, "/problems/not-found")


def test_a_store_that_is_away_is_a_problem_to_try_again(world: Any) -> None:
    world.store_faults.fail("history", StoreUnavailable("gone"), times=10)
    status, problem = got(world, "/v1/models/delay/history")
    assert (status, problem["type"], problem["retry_after"]) == (503, "/problems/store-unavailable", 2)


def test_a_damaged_block_does_not_hide_the_others(world: Any) -> None:
    record(world)
    at, row = world.memory_store.history("delay", 10, 0, 1 << 40)[3]
    world.memory_store.put_history("delay", 10, at, b"rubbish", row)
    status, answer = got(world, "/v1/models/delay/history?series=lag")
    assert status == 200
    assert answer["series"]["lag"]["mean"].count(None) == 32


def test_hostile_names_of_series_are_json_as_any(world: Any) -> None:
    name = "feature:<script>alert(1)</script>\"\u2028"
    Recorder(world.memory_store, world.settings().history).sample("delay", NOW - 5, {name: 1.0})
    assert list(got(world, "/v1/models/delay/history?series=feature:*")[1]["series"]) == [name]


def test_any_question_gets_an_answer_or_a_problem(world: Any) -> None:
    rng = random.Random(7)
    record(world)

    async def story(http: Any) -> None:
        for _ in range(60):
            values = ["", "1", "-1", "1e9", "1e18", "nan", "2026-01-01", "x" * 300, "*", "points", "0", "1767225000"]
            fields = rng.sample(["since", "until", "points", "series", "at"], rng.randrange(1, 5))
            answer = await http.get("/v1/models/delay/history", params={field: rng.choice(values) for field in fields})
            assert answer.status_code in (200, 422), answer.request.url

    world.run(story)


def test_the_examples_hold_every_field() -> None:
    assert set(wire.Stretch.__struct_fields__) == set(HISTORY["items"][0])
    assert set(wire.Values.__struct_fields__) == set(HISTORY["series"]["lag"])
    assert SERVED == [1, 2]
