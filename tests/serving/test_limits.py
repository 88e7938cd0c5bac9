"""How many requests a caller may make, and what it is told beyond that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.apikeys import SCOPES, make
from streamlearn.events import encode
from streamlearn.log import CONTROL, Entry
from streamlearn.serving.limits import Buckets
from streamlearn.testing import FakeClock

SECRET = "0123456789abcdef"


def test_a_burst_then_the_rate() -> None:
    clock = FakeClock(0.0)
    buckets = Buckets(clock)
    assert [buckets.take("a", 2.0, 3.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.advance(0.5)
    assert [buckets.take("a", 2.0, 3.0) for _ in range(2)] == [0.0, 0.5]
    clock.advance(100.0)
    assert [buckets.take("a", 2.0, 3.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b", 2.0, 3.0) == 0.0


def test_less_than_one_a_second_still_lets_one_through() -> None:
    clock = FakeClock(0.0)
    buckets = Buckets(clock)
    assert buckets.take("a", 0.01, 0.1) == 0.0
    assert buckets.take("a", 0.01, 0.1) == pytest.approx(100.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2)), max_size=200), st.floats(0.5, 20), st.floats(1, 30))
def test_never_more_than_burst_and_rate_allow(steps: list[tuple[int, float]], rate: float, burst: float) -> None:
    clock = FakeClock(0.0)
    buckets = Buckets(clock)
    passed = dict.fromkeys(range(6), 0)
    for caller, pause in steps:
        clock.advance(pause)
        wait = buckets.take(caller, rate, burst)
        passed[caller] += wait == 0.0
        assert 0.0 <= wait <= 1.0 / rate + 1e-9
        assert passed[caller] <= burst + clock() * rate + 1e-6


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    clock = FakeClock(0.0)
    buckets = Buckets(clock, most=3)
    for caller in "abcd":
        buckets.take(caller, 1.0, 1.0)
        clock.advance(0.01)
    assert len(buckets) == 3
    assert buckets.take("d", 1.0, 1.0) > 0.0
    assert buckets.take("a", 1.0, 1.0) == 0.0


def test_a_key_beyond_its_rate_is_told_when_to_come_again(world: Any) -> None:
    world.api_keys = {"app": SECRET, "ops": SECRET + "2"}
    world.tree["serve"] = {"rates": {"read": 1, "burst_s": 2}}
    world.publish_all()

    async def story(http: Any) -> None:
        http.headers["x-api-key"] = SECRET
        got = [await http.get("/v1/models") for _ in range(3)]
        assert [one.status_code for one in got] == [200, 200, 429]
        assert got[2].json()["type"] == "/problems/rate"
        assert got[2].headers["retry-after"] == "1"
        assert got[2].json()["retry_after"] == pytest.approx(1.0)
        for _ in range(20):  # neither predictions nor events are limited unless somebody says so
            assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200
        assert (await http.get("/v1/models", headers={"x-api-key": SECRET + "2"})).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        world.clock.advance(1.0)
        assert (await http.get("/v1/models")).status_code == 200

    world.run(story)


def test_a_key_may_have_a_rate_of_its_own_for_all_that_it_does(world: Any) -> None:
    world.publish_all()
    world.memory_log.create({})
    token, record = make("slow", SCOPES, "ada", world.clock(), rate=0.2)
    world.memory_log.append(CONTROL, [Entry(b"keys", encode(record), partition=0)]).result()

    async def story(http: Any) -> None:
        http.headers["x-api-key"] = token
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200
        assert (await http.get("/v1/models")).status_code == 200
        assert (await http.get("/v1/models")).status_code == 429
        assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 429

    world.run(story)


def test_without_keys_nobody_is_limited(world: Any) -> None:
    world.tree["serve"] = {"rates": {"read": 1, "burst_s": 1}}

    async def story(http: Any) -> None:
        assert {(await http.get("/v1/models")).status_code for _ in range(5)} == {200}

    world.run(story)
