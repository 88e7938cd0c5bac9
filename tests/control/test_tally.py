"""Decisions and fits are counted from the control log, and so are the same after a restart."""

from __future__ import annotations

from collections import Counter
from typing import Any


def test_a_drift_is_counted_step_by_step_and_its_trial_is_shown(stage: Any) -> None:
    stage.learner.alarm()
    stage.until("case_opened")
    stage.turn()
    opened = stage.view("model", "m")
    assert opened["decisions"]["case_opened"] == 1
    assert opened["case_opened_at"] == stage.view("case", "m-1")["opened_at"]
    assert (opened["trial"], opened["fits_s"]) == (None, None)
    stage.learner.window()
    stage.until("trial_started")
    stage.turn()
    trial = stage.view("model", "m")["trial"]
    assert trial.keys() == {"e", "peak", "threshold", "events"}
    assert trial["threshold"] > 1
    stage.until("recovered")
    stage.turn()
    after = stage.view("model", "m")
    assert after["decisions"] == dict(Counter(stage.kinds()))
    assert sum(after["fits_s"]["counts"]) == after["decisions"]["retrained"] == 1
    assert (after["trial"], after["case_opened_at"]) == (None, None)
    stage.kill()
    stage.turn()
    assert stage.view("model", "m")["decisions"] == after["decisions"]
    assert stage.view("model", "m")["fits_s"] == after["fits_s"]


def test_who_leads_is_told(stage: Any) -> None:
    stage.turn()
    alive = stage.view("role", "control")
    assert ":" in alive["holder"]
    assert alive["failures"] == 0
