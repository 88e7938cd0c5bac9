"""The demo's flights: what is a flight, when things happen, and the drift that is injected."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from streamlearn.cli import demo_data
from streamlearn.cli.demo_data import (
    FAR_MILES,
    NOISE,
    Flight,
    injected_label,
    parse_schedule,
    read_schedule,
    timeline,
    while_open,
)
from streamlearn.config import load

HEADER = (
    "Month,DayofMonth,DayOfWeek,DepTime,UniqueCarrier,ActualElapsedTime,ArrDelay,DepDelay,Origin,Dest,Distance,Cancelled,Diverted"
)


def csv(*rows: str) -> io.BytesIO:
    return io.BytesIO(gzip.compress("\n".join([HEADER, *rows, ""]).encode()))


def flight(number: int, departs: float, lands: float | None, miles: int = 100, late: bool | None = False) -> Flight:
    return Flight(f"f{number}", departs, lands, {"Distance": miles}, None if lands is None else late, miles)


def at(*when: int) -> float:
    return datetime(2011, *when, tzinfo=UTC).timestamp()


def test_a_flight_has_what_was_known_before_departure_and_no_more() -> None:
    [one] = parse_schedule(csv("1,31,1,749,WN,95,14,4,HOU,DAL,239,0,0"), 10).flights
    assert one.x == {
        "Month": 1, "DayofMonth": 31, "DayOfWeek": 1, "UniqueCarrier": "WN", "Origin": "HOU", "Dest": "DAL", "Distance": 239
    }  # fmt: skip
    assert (one.departs, one.lands, one.miles) == (at(1, 31, 7, 49), at(1, 31, 9, 24), 239)


@pytest.mark.parametrize(("delay", "late"), [("-3", False), ("14", False), ("15", True), ("300", True)])
def test_late_is_a_quarter_of_an_hour(delay: str, late: bool) -> None:
    [one] = parse_schedule(csv(f"1,1,6,800,WN,60,{delay},0,HOU,DAL,239,0,0"), 10).flights
    assert one.late is late


def test_cancelled_flights_are_counted_and_diverted_ones_never_land() -> None:
    rows = csv(
        "1,1,6,,WN,,,,HOU,DAL,239,1,0",
        "1,1,6,800,WN,,,0,HOU,DAL,239,0,1",
        "1,1,6,810,WN,60,0,0,HOU,DAL,239,0,0",
        "1,1,6,850,WN,,,0,HOU,DAL,239,1,0",  # cancelled after it had left the gate
    )
    schedule = parse_schedule(rows, 10)
    assert (len(schedule.flights), schedule.cancelled, schedule.diverted) == (2, 2, 1)
    assert (schedule.flights[0].lands, schedule.flights[0].late) == (None, None)


def test_who_left_after_midnight_left_a_day_later() -> None:
    times = ("5,WN,60,0,180", "2350,WN,60,0,2", "1,WN,60,0,1")  # when, by whom, how long, arrival's and departure's delay
    rows = csv(*(f"1,31,1,{time},HOU,DAL,239,0,0" for time in times))
    assert [one.departs for one in parse_schedule(rows, 10).flights] == [at(1, 31, 0, 1), at(1, 31, 23, 50), at(2, 1, 0, 5)]


def test_the_limit_counts_departures() -> None:
    rows = [f"1,1,6,8{minute:02},WN,60,0,0,HOU,DAL,239,{int(minute == 1)},0" for minute in range(10)]
    schedule = parse_schedule(csv(*rows), 4)
    assert (len(schedule.flights), schedule.cancelled) == (4, 1)


def test_departures_and_landings_are_merged_by_time() -> None:
    flights = [flight(0, 10, 100), flight(1, 20, 50, late=True), flight(2, 30, None), flight(3, 50, 60)]
    told = [(one.ts, one.flight.id, one.late) for one in timeline(flights, 9)]
    assert told == [
        (10, "f0", None), (20, "f1", None), (30, "f2", None),
        (50, "f1", True),  # in the minute of a departure, the landing comes first
        (50, "f3", None), (60, "f3", False), (100, "f0", False),
    ]  # fmt: skip


def test_features_and_label_are_events_of_their_own() -> None:
    departure, landing = timeline([flight(0, 10, 100, late=True)], 9)
    assert departure.event() == {"stream": "flights", "id": "f0", "ts": 10, "x": {"Distance": 100}}
    assert landing.event() == {"stream": "flights", "id": "f0", "ts": 100, "y": True}


def test_no_flight_departs_once_it_is_closed_but_all_land() -> None:
    flights = [flight(number, number, number + 100) for number in range(10)]
    seen: list[Flight] = []

    def closed() -> bool:
        return len(seen) == 3

    happened = []
    for one in timeline(while_open(flights, closed), 9):
        if one.late is None:
            seen.append(one.flight)
        happened.append(one)
    assert [one.flight.id for one in happened] == ["f0", "f1", "f2"] * 2


def test_the_drift_begins_with_the_departure_not_with_the_landing() -> None:
    flights = [flight(number, number, number + 100, miles=FAR_MILES + 1, late=False) for number in range(10)]
    labels = {one.flight.id: one.late for one in timeline(flights, 6) if one.late is not None}
    assert [labels[f"f{number}"] for number in range(6)] == [False] * 6
    assert [labels[f"f{number}"] for number in range(6, 10)] == [injected_label(one) for one in flights[6:]]


def test_a_diverted_flight_has_no_label_under_the_injected_rule_either() -> None:
    [one] = timeline([flight(0, 10, None, miles=2000)], 0)
    assert one.late is None


@pytest.mark.parametrize(("miles", "share"), [(FAR_MILES, NOISE), (FAR_MILES + 1, 1 - NOISE)])
def test_the_injected_rule_is_the_distance_but_for_the_noise(miles: int, share: float) -> None:
    flights = [flight(number, 0, 1, miles) for number in range(5000)]
    late = [injected_label(one) for one in flights]
    assert sum(late) / len(late) == pytest.approx(share, abs=0.02)
    assert late == [injected_label(one) for one in flights]


def test_what_is_shipped() -> None:
    schedule = read_schedule(10**9)
    flights = schedule.flights
    assert (len(flights), schedule.cancelled, schedule.diverted) == (60_424, 1576, 143)
    assert len({one.id for one in flights}) == len(flights)
    assert all(one.departs <= other.departs for one, other in pairwise(flights))
    assert all(0 < one.lands - one.departs < 12 * 3600 for one in flights if one.lands is not None)
    assert 0.15 < sum(bool(one.late) for one in flights) / len(flights) < 0.25
    assert {name for one in flights for name in one.x} == {
        "Month", "DayofMonth", "DayOfWeek", "UniqueCarrier", "Origin", "Dest", "Distance"
    }  # fmt: skip


def test_the_data_are_small_and_say_where_they_come_from() -> None:
    folder = files(demo_data.__package__) / "data"
    assert len((folder / demo_data.DATA).read_bytes()) < 700_000
    notice = (folder / "NOTICE").read_text()
    assert all(word in notice for word in ("CC0", "hflights", "Bureau of Transportation Statistics", demo_data.DATA))
    with gzip.open(io.BytesIO((folder / demo_data.DATA).read_bytes()), "rt") as lines:
        assert lines.readline().strip() == HEADER
    assert all(name in notice for name in HEADER.split(","))


def test_the_configuration_waits_for_every_label() -> None:
    settings = load(Path(str(files(demo_data.__package__) / "data" / "demo.toml")), {})
    model = settings.models["delay"]
    longest = max(one.lands - one.departs for one in read_schedule(10**9).flights if one.lands is not None)
    assert longest + settings.streams["flights"].allowed_lateness_s < model.label_wait_s
    assert model.dedupe_ids > len(read_schedule(10**9).flights), "the learner must know every id at the end"
