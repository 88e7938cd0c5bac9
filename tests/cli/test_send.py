"""Sending a file: batches in order, every row accounted for, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlearn.cli.rows import Mapped, Row, Source
from streamlearn.cli.send import Pace, send
from streamlearn.errors import LogUnavailable
from streamlearn.wire import EventsAnswer, Rejection


class Service:
    """Takes batches; rejects negative values; fails once it has had `fails_after` batches."""

    def __init__(self, fails_after: int = 1000, error: BaseException | None = None) -> None:
        self.batches: list[list[Row]] = []
        self.fails_after, self.error = fails_after, error or LogUnavailable("the service is away")

    def __call__(self, rows: list[Row]) -> EventsAnswer:
        if len(self.batches) >= self.fails_after:
            raise self.error
        self.batches.append(rows)
        rejected = [
            Rejection(index, "x.v", "out_of_range", "is negative") for index, row in enumerate(rows) if row["x"]["v"] < 0
        ]
        warnings = ["some ids are odd"] if len(self.batches) < 3 else []
        return EventsAnswer(len(rows) - len(rejected) - 1, 1, rejected, warnings, {}, {})

    @property
    def values(self) -> list[int]:
        return [row["x"]["v"] for batch in self.batches for row in batch]


@pytest.fixture
def make(tmp_path: Path) -> object:
    def made(*lines: object) -> Source:
        file = tmp_path / "f.csv"
        file.write_text("v,w\n" + "".join(f"{line if isinstance(line, str) else f'{line},0'}\n" for line in lines))
        return Source(file, Mapped(), "s")

    return made


def run(source: Source, service: Service, **options: object) -> int:
    return send(source, service, **{"size": 4, "rate": None, "skip": 0, "rejects": None, **options})  # type: ignore[arg-type]  # options differ by test


def test_all_rows_go_in_order(make, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service()
    assert run(make(*range(10)), service) == 0
    assert service.values == list(range(10))
    assert list(map(len, service.batches)) == [4, 4, 2]
    out, err = capsys.readouterr()
    assert out.startswith("f.csv: 7 accepted, 3 repeated, 0 rejected in ")
    assert err == "warning: some ids are odd\n"


def test_rejected_rows_are_named_by_number_and_kept(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, rejects = Service(), tmp_path / "rejects.ndjson"
    assert run(make(0, -1, "2", 3, 4, -5), service, rejects=rejects) == 1
    out, err = capsys.readouterr()
    assert service.values == [0, -1, 3, 4, -5]
    assert "3 rejected" in out
    assert err.splitlines()[:3] == [
        "row 2: x.v: is negative [out_of_range]",
        "row 3: $: has 1 cells, the header 2 [shape]",
        "row 6: x.v: is negative [out_of_range]",
    ]
    assert err.splitlines()[-1] == f"rejected 3 rows (2 out_of_range, 1 shape); written to {rejects}"
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [one["row"] for one in kept] == [2, 3, 6]
    assert kept[0]["event"]["x"] == {"v": -1, "w": 0}
    assert kept[1]["event"] is None


def test_many_rejected_rows_are_counted_not_listed(make, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(make(*range(-40, 0)), Service()) == 1
    err = capsys.readouterr().err
    assert err.count("row ") == 10
    assert "… and 30 more" in err
    assert "rejected 40 rows (40 out_of_range); --rejects FILE keeps them" in err


def test_a_batch_of_bad_rows_alone_is_not_posted(make) -> None:
    service = Service()
    assert run(make("1", "2", "3", "4", 5), service) == 1
    assert service.values == [5]


def test_a_lost_service_says_where_to_go_on_and_that_works(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, first, second, rejects = make(-1, *range(1, 10), -2), Service(fails_after=2), Service(), tmp_path / "r"
    assert run(source, first, rejects=rejects) == 1
    err = capsys.readouterr().err
    assert "error: stopped after row 8: the service is away" in err
    assert "run the same command with --skip 8" in err
    assert run(source, second, skip=8, rejects=rejects) == 1
    assert first.values + second.values == [-1, *range(1, 10), -2]
    assert [json.loads(line)["row"] for line in rejects.read_text().splitlines()] == [1, 11]


def test_what_stops_before_the_first_row_has_nowhere_to_go_on(make, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(make(*range(10)), Service(fails_after=0)) == 1
    assert capsys.readouterr().err == "error: stopped after row 0: the service is away\n"


def test_an_interruption_says_where_to_go_on(make, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(make(*range(10)), Service(1, KeyboardInterrupt())) == 130
    assert "stopped after row 4: interrupted" in capsys.readouterr().err


def test_the_rate_is_kept_on_average_and_batches_are_no_longer_than_a_second(make) -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    service = Service()
    assert run(make(*range(9)), service, rate=2.0, size=500, pace=Pace(2.0, lambda: now[0], sleep)) == 0
    assert list(map(len, service.batches)) == [2, 2, 2, 2, 1]
    assert now[0] - 100 == pytest.approx(4.0)
    assert slept == pytest.approx([1, 1, 1, 1])


def test_time_lost_elsewhere_is_made_up() -> None:
    now, slept = [0.0], list[float]()
    pace = Pace(10, lambda: now[0], slept.append)
    for _ in range(3):
        pace.wait(10)
        now[0] += 2.0
    assert slept == []
