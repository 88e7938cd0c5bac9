"""`streamlearn rewind`, `hold` and `resume`: what is told before, what is asked for, and how it is followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import ask, rewind
from streamlearn.cli.main import app
from streamlearn.errors import Refused
from streamlearn.wire import Asked, Page, RewindPlan, RewindShard

PLAN = RewindPlan(
    "m",
    [
        RewindShard(0, 4000, 17, 1_767_225_600.0, 3, 3200, 9000, 5500, [(4000, 4300)]),
        RewindShard(1, 4100, None, None, None, 0, 9100, 9100, []),
    ],
)


class Service:
    """Takes requests down; its audit trail tells that each was done."""

    def __init__(self, *kinds: str, plan: RewindPlan | Refused = PLAN) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.kinds, self.plan = kinds, plan

    def rewind_plan(self, model: str, to: Any, skip: Any) -> RewindPlan:
        self.asked.append(("plan", model, to, skip))
        if isinstance(self.plan, Refused):
            raise self.plan
        return self.plan

    def rewind(self, model: str, to: Any, skip: Any, reason: str) -> Asked:
        return self.request(model, "rewind", reason, to, skip)

    def resume(self, model: str, mode: str, reason: str) -> Asked:
        return self.request(model, "resume", reason, mode)

    def request(self, model: str, action: str, *more: Any) -> Asked:
        self.asked.append((action, model, *more))
        return Asked("r", model, action, "ann", 0.0, 100)

    def audit(self, limit: int, after: str | None) -> Page:
        items = [
            {
                "id": f"{101 + index:020d}", "type": "decision", "model": "m", "kind": kind, "at": 0.0, "case": "m-1",
                "version": None, "why": "so", "numbers": {"request": 100} if index == 0 else {},
            }
            for index, kind in enumerate(self.kinds)
        ]  # fmt: skip
        return Page(items if after is None else [])

    def case(self, id: str) -> dict[str, Any]:
        return {"open": "retrain_failed" not in self.kinds, "outcome": "retrain_failed", "steps": []}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def started(service: Service, *arguments: str, code: int = 0, answer: str = "") -> Result:
        @contextmanager
        def connected(*_: Any) -> Iterator[Service]:
            yield service

        for module in (ask, rewind):
            monkeypatch.setattr(module, "connected", connected)
        result = CliRunner().invoke(app, list(arguments), input=answer)
        assert result.exit_code == code, result.output
        return result

    return started


REWIND = ("rewind", "m", "--to", "2026-01-01T00:00:00Z", "--skip", "0/4000:0/4300")


def test_it_tells_what_will_be_done_asks_and_follows_to_the_promotion(run: Any) -> None:
    service = Service("case_opened", "retrain_started", "trial_won", "promoted")
    out = run(service, *REWIND, "--reason", "a sensor", answer="y\n").stdout
    assert "checkpoint 17" in out
    assert "version 3), at offset 3200" in out
    assert "5,500 records" in out
    assert "4000 to 4300" in out
    assert "no checkpoint is as old" in out
    assert "Rewind? [y/N]" in out
    assert out.splitlines()[-1] == "ended: the new version serves; the one before can be rolled back to"
    assert service.asked == [
        ("plan", "m", ["2026-01-01T00:00:00Z"], ["0/4000:0/4300"]),
        ("rewind", "m", "a sensor", ["0/4000", "1/4100"], ["0/4000:0/4300"]),
    ]


def test_a_no_asks_for_nothing(run: Any) -> None:
    service = Service()
    run(service, *REWIND, answer="n\n", code=1)
    assert [what for what, *_ in service.asked] == ["plan"]


def test_neither_asking_nor_waiting(run: Any) -> None:
    service = Service()
    out = run(service, *REWIND, "--yes", "--no-wait").stdout
    assert "Rewind?" not in out
    assert "asked for a rewind of m" in out
    assert "streamlearn status" in out


def test_a_rewind_that_fails_or_is_refused_exits_with_1(run: Any) -> None:
    run(Service("case_opened", "retrain_failed"), *REWIND, "--yes", code=1)
    run(Service("request_refused"), *REWIND, "--yes", code=1)


def test_a_plan_that_cannot_be_is_told_and_nothing_is_asked(run: Any) -> None:
    service = Service(plan=Refused(422, {"title": "Not acceptable", "detail": "skip: '9:7' ends before it begins"}))
    result = run(service, *REWIND, "--yes", code=1)
    assert "ends before it begins" in result.output
    assert [what for what, *_ in service.asked] == ["plan"]


@pytest.mark.parametrize("missing", ["--to", "--skip"])
def test_both_places_are_needed(run: Any, missing: str) -> None:
    at = REWIND.index(missing)
    assert missing in run(Service(), *REWIND[:at], *REWIND[at + 2 :], code=2).output


def test_hold_and_resume(run: Any) -> None:
    service = Service("held")
    assert "ended: it learns nothing until it is resumed" in run(service, "hold", "m", "--reason", "odd", "--wait").stdout
    assert service.asked == [("hold", "m", "odd", None)]
    service = Service("resumed")
    assert "ended: it learns again" in run(service, "resume", "m", "--mode", "learn", "--wait").stdout
    assert service.asked == [("resume", "m", "", "learn")]
    service = Service()
    run(service, "resume", "m")
    assert service.asked == [("resume", "m", "", "skip")]
