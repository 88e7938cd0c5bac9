"""The demo's flights: real ones, in event-time order, and the drift that is injected into them half way.

A departure carries what was known before it; the landing, when it comes, is an event of its own with the label. Cancelled
flights have no departure and are left out; diverted ones depart and never get a label. Nothing here knows the service.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final, NamedTuple

from ..events import Features, fingerprint

STREAM: Final = "flights"
DATA: Final = "houston_flights_2011.csv.gz"
LATE_MIN: Final = 15  # minutes: a flight that lands this late counts as delayed (US Department of Transportation)

FAR_MILES: Final = 500
NOISE: Final = 0.1
RULE: Final = f"flights over {FAR_MILES} miles land late, the others on time (but for {NOISE:.0%}, by a hash)"


class Flight(NamedTuple):
    """One flight. Times are Unix seconds of Houston's wall clock; `lands` and `late` are None when it was diverted."""

    id: str
    departs: float
    lands: float | None
    x: Features
    late: bool | None
    miles: int


class Schedule(NamedTuple):
    """Flights by departure, and how many cancelled ones stood among them."""

    flights: list[Flight]
    cancelled: int

    @property
    def diverted(self) -> int:
        """Flights whose label never comes."""
        return sum(flight.lands is None for flight in self.flights)


class Happening(NamedTuple):
    """Something that happens at `ts`: the flight numbered `number` (from 0) departs, or lands when `late` is not None."""

    ts: float
    number: int
    flight: Flight
    late: bool | None

    def event(self) -> dict[str, Any]:
        """The event that the API takes."""
        if self.late is None:
            return {"stream": STREAM, "id": self.flight.id, "ts": self.ts, "x": self.flight.x}
        return {"stream": STREAM, "id": self.flight.id, "ts": self.ts, "y": self.late}


def read_schedule(limit: int) -> Schedule:
    """The first `limit` flights that departed, or all there are."""
    return parse_schedule(io.BytesIO((files(__package__) / "data" / DATA).read_bytes()), limit)


def parse_schedule(data: io.BytesIO, limit: int) -> Schedule:
    """The same, from a gzip CSV with the columns that the data's NOTICE names."""
    flights: list[Flight] = []
    cancelled = 0
    with gzip.open(data, "rt", encoding="ascii", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=1):
            if len(flights) >= limit:
                break
            if row["Cancelled"] == "1":
                cancelled += 1
            else:
                flights.append(_flight(number, row))
    flights.sort(key=lambda flight: flight.departs)
    return Schedule(flights, cancelled)


def injected_label(flight: Flight) -> bool:
    """The label of a flight under the injected rule: `RULE`, a function of the flight alone."""
    return (flight.miles > FAR_MILES) != (fingerprint(flight.id) < NOISE * 2**32)


def timeline(flights: Iterable[Flight], drift_from: int) -> Iterator[Happening]:
    """Departures (which must be in order) and landings, merged by time; a landing comes before a departure of that minute.

    Flights whose number is `drift_from` or more are labelled by the injected rule; the others as it was.
    """
    in_the_air: list[tuple[float, int, Flight]] = []

    def landed() -> Happening:
        ts, number, flight = heapq.heappop(in_the_air)
        late = injected_label(flight) if number >= drift_from else flight.late
        return Happening(ts, number, flight, late)

    for number, flight in enumerate(flights):
        while in_the_air and in_the_air[0][0] <= flight.departs:
            yield landed()
        yield Happening(flight.departs, number, flight, None)
        if flight.lands is not None:
            heapq.heappush(in_the_air, (flight.lands, number, flight))
    while in_the_air:
        yield landed()


def while_open(flights: Iterable[Flight], closed: Callable[[], bool]) -> Iterator[Flight]:
    """The flights that depart before `closed` says true."""
    for flight in flights:
        if closed():
            return
        yield flight


def _flight(number: int, row: dict[str, str]) -> Flight:
    month, day = int(row["Month"]), int(row["DayofMonth"])
    minutes = _minutes(row["DepTime"])
    if minutes < int(row["DepDelay"]):  # scheduled for the evening, gone after midnight: the row names the day before
        minutes += 24 * 60
    departs = (datetime(2011, month, day, tzinfo=UTC) + timedelta(minutes=minutes)).timestamp()
    diverted = row["ArrDelay"] == ""
    miles = int(row["Distance"])
    x: Features = {
        "Month": month,
        "DayofMonth": day,
        "DayOfWeek": int(row["DayOfWeek"]),
        "UniqueCarrier": row["UniqueCarrier"],
        "Origin": row["Origin"],
        "Dest": row["Dest"],
        "Distance": miles,
    }
    return Flight(
        f"2011-{month:02}-{day:02}-{row['UniqueCarrier']}-{number}",
        departs,
        None if diverted else departs + 60 * int(row["ActualElapsedTime"]),
        x,
        None if diverted else int(row["ArrDelay"]) >= LATE_MIN,
        miles,
    )


def _minutes(clock: str) -> int:
    """Minutes since midnight of a time written hhmm without leading zeros."""
    hours, minutes = divmod(int(clock), 100)
    return 60 * hours + minutes
