"""What is refused of actions is in the audit trail, and cannot fill it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamlearn.errors import LogUnavailable
from streamlearn.log import CONTROL
from streamlearn.records import Refused, decode_control
from streamlearn.serving.refusals import LONGEST_S, MOST, OTHERS, Refusals
from streamlearn.testing import FakeClock

SECRET = "0123456789abcdef"


class Told:
    """Refusals over a list, or over a log that is away."""

    def __init__(self) -> None:
        self.clock = FakeClock(1000.0)
        self.records: list[Refused] = []
        self.away = False
        self.refusals = Refusals(self.write, self.clock, self.clock)

    async def write(self, record: Refused) -> None:
        if self.away:
            raise LogUnavailable("away")
        self.records.append(record)

    def flush(self, **how: bool) -> None:
        asyncio.run(self.refusals.flush(**how))


def test_the_first_is_written_at_once_and_the_others_are_counted() -> None:
    told = Told()
    for n in range(5):
        told.refusals.note("key app", "hold", "scope", f"m{n % 2}", "10.0.0.1")
        told.clock.advance(1.0)
        told.flush()
    assert [one.count for one in told.records] == [1]
    told.clock.advance(60.0)
    told.flush()
    [first, second] = told.records
    assert (second.by, second.action, second.reason, second.count) == ("key app", "hold", "scope", 4)
    assert (second.since, second.at, second.models, second.origins) == (1001.0, 1004.0, ["m1", "m0"], ["10.0.0.1"])
    assert (first.since, first.at) == (1000.0, 1000.0)


def test_callers_actions_and_reasons_are_told_apart() -> None:
    told = Told()
    for by in ("unknown", "key app"):
        for action in ("hold", "resume"):
            for reason in ("unauthorized", "csrf"):
                told.refusals.note(by, action, reason)
    told.flush()
    assert len({(one.by, one.action, one.reason) for one in told.records}) == 8


def test_a_day_of_refusals_is_a_few_records() -> None:
    told = Told()
    for second in range(0, 86_400, 5):
        told.refusals.note("unknown", "retrain", "unauthorized", "", f"10.0.{second % 256}.1")
        if second % 10 == 0:
            told.flush()
        told.clock.advance(5.0)
    told.flush(everything=True)
    assert sum(one.count for one in told.records) == 17_280
    assert 25 <= len(told.records) <= 35
    assert all(len(one.origins) <= 5 for one in told.records)


def test_after_an_hour_of_quiet_it_begins_anew() -> None:
    told = Told()
    for _ in range(4):
        told.refusals.note("unknown", "hold", "unauthorized")
        told.flush()
        told.clock.advance(61.0)
    told.flush(everything=True)
    before = len(told.records)
    told.clock.advance(2 * LONGEST_S)
    told.flush()
    told.refusals.note("unknown", "hold", "unauthorized")
    told.flush()
    told.clock.advance(60.0)
    told.refusals.note("unknown", "hold", "unauthorized")
    told.flush()
    assert len(told.records) == before + 2


def test_callers_are_bounded() -> None:
    told = Told()
    for n in range(MOST + 50):
        told.refusals.note(f"key {n}", "hold", "scope")
    told.flush()
    assert len(told.records) == MOST + 1
    [rest] = [one for one in told.records if one.by == OTHERS]
    assert rest.count == 50


def test_a_log_that_is_away_loses_none() -> None:
    told = Told()
    told.away = True
    for n in range(3):
        told.refusals.note("key app", "hold", "scope", f"m{n}")
        told.flush()
        told.clock.advance(1.0)
    told.away = False
    told.flush()
    [one] = told.records
    assert (one.count, one.since, one.models) == (3, 1000.0, ["m0", "m1", "m2"])


def test_what_comes_while_the_log_is_asked_is_kept() -> None:
    told = Told()

    async def write(record: Refused) -> None:
        told.refusals.note("key app", "hold", "scope", "m1")
        raise LogUnavailable("away")

    refusals = told.refusals = Refusals(write, told.clock, told.clock)
    refusals.note("key app", "hold", "scope", "m0")
    told.flush()
    refusals._write = told.write
    told.flush()
    [one] = told.records
    assert (one.count, one.models) == (2, ["m0", "m1"])


def audited(world: Any) -> list[Refused]:
    records = [decode_control(record.value) for record in world.records(CONTROL)]
    return [record for record in records if isinstance(record, Refused)]


def test_refused_actions_are_in_the_trail_and_nothing_else_is(world: Any) -> None:
    world.api_keys = {"app+read": SECRET, "ops": SECRET + "2"}
    world.tree["serve"] = {"rates": {"operate": 0.1, "burst_s": 10}}

    async def story(http: Any) -> None:
        for secret in ("", "wrong", SECRET, SECRET + "2", SECRET + "2"):
            await http.post("/v1/models/delay/hold", headers={"x-api-key": secret})
        await http.post("/v1/models/<script>/retrain")
        assert (await http.get("/v1/models")).status_code == 401
        assert (await http.post("/v1/events", headers={"x-api-key": SECRET})).status_code == 403

    world.run(story)  # closing writes what waits
    assert {(one.by, one.action, one.reason, one.count, *one.models) for one in audited(world)} == {
        ("unknown", "hold", "unauthorized", 2, "delay"),
        ("key app", "hold", "scope", 1, "delay"),
        ("key ops", "hold", "rate", 1, "delay"),
        ("unknown", "retrain", "unauthorized", 1),
    }


def test_it_is_written_by_itself(world: Any) -> None:
    world.api_keys = {"app+read": SECRET}

    async def story(http: Any) -> None:
        await http.post("/v1/models/delay/hold", headers={"x-api-key": SECRET})
        for _ in range(100):
            if audited(world):
                return
            await asyncio.sleep(0.05)
        pytest.fail("nothing was written")

    world.run(story)


def test_a_foreign_page_on_a_service_without_keys_is_in_the_trail(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/models/delay/hold", headers={"origin": "https://evil.example"})
        assert got.status_code == 403

    world.run(story)
    [one] = audited(world)
    assert (one.by, one.action, one.reason, one.origins) == ("anonymous", "hold", "forbidden", ["127.0.0.1"])
