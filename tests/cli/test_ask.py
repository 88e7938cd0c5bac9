"""Asking for a retrain or a rollback, and following what comes of it in the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.cli import ask
from streamlearn.cli.ask import follow
from streamlearn.errors import ConfigError, Refused
from streamlearn.wire import Page

REQUEST = 100


def decision(offset: int, kind: str, case: str = "m-4", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": f"{offset:020d}", "offset": 0, "type": "decision", "model": "m", "kind": kind, "at": 0.0, "case": case,
        "version": None, "why": f"because of {kind}", "numbers": {},
    }  # fmt: skip
    return {**values, **changes}


OLD = [
    decision(90, "promoted", "m-3"),
    decision(91, "rolled_back", "m-3"),
    {"id": f"{REQUEST:020d}", "offset": 0, "type": "request", "model": "m", "case": ""},
    {"id": f"{REQUEST + 1:020d}", "offset": 0, "type": "claim", "model": "m"},
    decision(102, "case_opened", "other-9", model="other"),
]


class Service:
    """A service whose audit trail grows by one entry each time that the follower sleeps; pages hold `page` entries."""

    def __init__(self, *coming: dict[str, Any], case: dict[str, Any] | None = None, page: int = 2) -> None:
        self.trail, self.coming, self.found, self.page = list(OLD), list(coming), case, page
        self.slept = 0
        self.forgets_at: int | None = None

    def audit(self, limit: int, after: str | None) -> Page:
        if self.forgets_at is not None and self.slept >= self.forgets_at:
            self.forgets_at = None
            raise Refused(422, {"title": "rejected"})
        rest = [item for item in self.trail if after is None or item["id"] > after]
        return Page(rest[: self.page], rest[self.page - 1]["id"] if len(rest) > self.page else None)

    def case(self, id: str) -> dict[str, Any]:
        assert id == "m-4"
        if self.found is None or self.coming:
            raise Refused(404, {})
        return self.found

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        assert self.slept < 50, "it never ends"
        if self.coming:
            self.trail.append(self.coming.pop(0))


def closed(outcome: str) -> dict[str, Any]:
    return {"open": False, "outcome": outcome, "progress": None, "trial": None, "steps": [{"kind": outcome}]}


def told(service: Service, action: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = follow(service, "m", action, REQUEST, service.sleep)  # type: ignore[arg-type]  # stands in for a Client
    return code, [line[10:] if line[2] == ":" else line for line in capsys.readouterr().out.splitlines()]


def test_a_retrain_is_followed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(
        decision(103, "case_opened", numbers={"request": REQUEST}),
        decision(104, "confirmed", "m-5"),
        decision(105, "retrain_started", version=2),
        decision(106, "trial_started", version=2),
        decision(107, "promoted", version=2, why=""),
        decision(108, "recovered"),
        case=closed("recovered"),
    )
    assert told(service, "retrain", capsys) == (
        0,
        [
            "case opened: because of case_opened",
            "retrain started version 2: because of retrain_started",
            "trial started version 2: because of trial_started",
            "promoted version 2: no reason given",
            "recovered: because of recovered",
            "ended: the new version serves, and has proven itself",
        ],
    )


@pytest.mark.parametrize("outcome", ["trial_lost", "retrain_failed", "not_recovered", "expired"])
def test_a_retrain_that_does_not_serve_in_the_end_fails(outcome: str, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(decision(103, "case_opened", numbers={"request": REQUEST}), decision(104, outcome), case=closed(outcome))
    code, lines = told(service, "retrain", capsys)
    assert code == 1
    assert lines[-1] == f"ended: {ask.ENDINGS[outcome]}"


@pytest.mark.parametrize("action", ["retrain", "rollback"])
def test_a_refused_request_says_why(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused = decision(103, "request_refused", "", numbers={"request": REQUEST}, why="there is nothing to go back to")
    assert told(Service(refused), action, capsys) == (1, ["request refused: there is nothing to go back to"])


def test_a_rollback_ends_with_its_own_decision_not_with_an_older_one(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(
        decision(103, "rollback_started", version=1, numbers={"request": REQUEST}), decision(104, "rolled_back", "", version=1)
    )
    code, lines = told(service, "rollback", capsys)
    assert code == 0
    assert lines[-2:] == ["rolled back version 1: because of rolled_back", "ended: the version before serves again"]
    assert len(lines) == 3


def test_a_trail_made_anew_is_read_from_its_start_and_nothing_is_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(
        decision(103, "rollback_started", numbers={"request": REQUEST}), decision(104, "rolled_back"), page=3
    )
    service.forgets_at = 3
    code, lines = told(service, "rollback", capsys)
    assert code == 0
    assert [line.split(":")[0] for line in lines] == ["rollback started", "rolled back", "ended"]


def test_another_refusal_is_not_swallowed() -> None:
    class Broken(Service):
        def audit(self, limit: int, after: str | None) -> Page:
            raise Refused(401, {"title": "unauthorized"})

    service = Broken()
    with pytest.raises(Refused, match="401"):
        follow(service, "m", "retrain", REQUEST, service.sleep)  # type: ignore[arg-type]  # stands in for a Client


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ({"progress": {"done": 500, "total": 2000}}, "retraining: 500 of 2,000 records (25 %)"),
        ({"progress": {"done": 0, "total": 0}}, "retraining: 0 of 1 records (0 %)"),
        ({"progress": None, "trial": {"e": 12.3456, "events": 700, "why": "x"}}, "on trial: e 12.3, events 700"),
        ({"steps": [{"kind": "case_opened"}, {"kind": "retrain_started"}]}, "retrain started"),
    ],
)
def test_what_goes_on_right_now_is_one_line(case: dict[str, Any], line: str) -> None:
    assert ask._present(Service(case=case), "m-4") == line  # type: ignore[arg-type]  # stands in for a Client


def test_a_case_that_is_not_shown_yet() -> None:
    present: Callable[..., str] = ask._present
    assert present(Service(), "m-4") == "waiting for control"


@pytest.mark.parametrize(
    ("span", "wanted"), [("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("1.5 d", 129_600.0), ("0", 0.0), ("0h", 0.0)]
)
def test_a_span_is_written_with_its_unit(span: str, wanted: float) -> None:
    assert ask.seconds(span) == wanted


@pytest.mark.parametrize("span", ["", "2", "h", "-1h", "2 weeks", "31d", "nan"])
def test_a_span_that_is_none_says_how_to_write_one(span: str) -> None:
    with pytest.raises(ConfigError, match=r"--for: .*Write"):
        ask.seconds(span)


def test_a_silence_is_done_with_its_decision(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(decision(104, "silenced", "", numbers={"request": REQUEST, "until": 7200.0}))
    assert follow(service, "m", "silence", REQUEST, service.sleep) == 0  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines()[-1].startswith("ended: nobody is notified until then")
