"""When a retrain is worth its price: what the policies say becomes decisions, each with its numbers, and survives a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamlearn.control import course
from streamlearn.control.choosing import Panel
from streamlearn.retrain.policy import Choice, Seen

from .conftest import SETTINGS, WINDOW, Stage

asked: list[str] = []


class Mine:
    """A policy of a user's own."""

    name, gated, evidence, sample = "mine", False, True, 0

    def __init__(self, above: float) -> None:
        self.above = above

    def params(self) -> dict[str, Any]:
        return {"above": self.above}

    def decide(self, seen: Seen) -> Choice:
        asked.append("mine")
        total = sum(batch.n * batch.loss for batch in seen.batches)
        return Choice(total > self.above, total, self.above, f"{total:.1f} lost of {self.above:g}")


OWN = f"{__name__}:Mine"


class Broken(Mine):
    """One that raises, or says what no document can hold."""

    gated = True

    def decide(self, seen: Seen) -> Choice:
        if self.above:
            raise ZeroDivisionError("no events")
        return Choice(True, 0.0, 0.0, "a set", numbers={"odd": {object()}})


BROKEN = f"{__name__}:Broken"


def retrain(*policies: dict[str, Any], kappa: float = 20.0) -> dict[str, Any]:
    return {**SETTINGS["models"]["m"]["retrain"], "policies": list(policies), "cost": {"retrain": kappa, "unit": "EUR"}}


def confirmed(make_stage: Callable[..., Stage], *policies: dict[str, Any], kappa: float = 20.0) -> Stage:
    """A drift is confirmed: 0.1 → 0.5 since 500 labelled events, some 200 lost events."""
    stage = make_stage(retrain=retrain(*policies, kappa=kappa))
    stage.settle()
    stage.learner.drift()
    stage.until("confirmed")
    return stage


class TestAConfirmedDrift:
    def test_is_retrained_when_its_debt_is_above_the_price(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"})
        begun = stage.until("retrain_started")
        policy = begun.numbers["policy"]
        assert policy["policy"] == "debt"
        assert policy["retrain"] is True
        assert policy["total"] > policy["threshold"] == 20.0
        assert "debt" in begun.why

    def test_is_kept_while_its_debt_is_below_and_retrained_when_it_has_grown(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=500.0)
        kept = stage.until("retrain_kept")
        assert kept.numbers["final"] is False
        assert kept.numbers["policies"][0]["total"] < 500.0
        assert kept.numbers["cost"] == {"retrain": 500.0, "loss": 1.0, "unit": "EUR", "kappa": 500.0}
        assert stage.view("model")["state"] == "confirmed"
        assert stage.view("model")["degraded"]
        assert stage.view("case", "m-1")["outcome"] is None
        stage.settle()
        assert stage.kinds().count("retrain_kept") == 1
        for _ in range(10):
            stage.learner.batch(0.5)
            stage.turn()
        begun = stage.until("retrain_started")
        assert begun.numbers["policy"]["total"] > 500.0

    def test_that_is_over_by_itself_is_closed(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=500.0)
        stage.until("retrain_kept")
        for _ in range(30):
            stage.learner.batch(0.02)
            stage.turn()
        kept = stage.until("retrain_kept")
        assert kept.numbers["final"] is True
        assert kept.numbers["settled"] is True
        stage.settle()
        assert "retrain_started" not in stage.kinds()
        assert stage.view("model")["state"] == "steady"
        assert stage.view("model")["degraded"] is None
        assert stage.view("case", "m-1")["outcome"] == "retrain_kept"
        assert [verb for verb, _ in stage.learner.answered] == ["reset"]

    def test_that_nobody_answers_is_closed_and_stays_degraded(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "labels", "params": {"events": 10**9}})
        kept = stage.until("retrain_kept")
        assert kept.numbers["final"] is True
        assert "no policy" in kept.why
        stage.settle()
        assert stage.view("model")["state"] == "steady"
        assert stage.view("model")["degraded"]

    def test_is_retrained_when_a_person_asks(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=1e6)
        stage.until("retrain_kept")
        settled = stage.ask("retrain")
        assert settled.kind == "retrain_asked"
        assert settled.by == "ann"
        begun = stage.until("retrain_started")
        assert begun.case == "m-1"
        assert "policy" not in begun.numbers
        assert stage.until("recovered").version == 2

    def test_is_let_go_when_a_person_cancels(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=1e6)
        stage.until("retrain_kept")
        assert stage.ask("cancel").kind == "retrain_failed"
        stage.settle()
        assert stage.view("model")["state"] == "steady"

    def test_that_is_kept_survives_a_restart(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=500.0)
        stage.until("retrain_kept")
        stage.learner.batch(0.5)
        stage.turn()
        before = stage.state().case
        stage.kill()
        stage.turn()
        after = stage.state().case
        assert (after.kept, after.confirmed, after.batches) == (True, before.confirmed, before.batches)
        assert after.batches
        for _ in range(10):
            stage.learner.batch(0.5)
            stage.turn()
        stage.until("retrain_started")

    def test_that_is_kept_does_not_put_off_the_other_policies(self, make_stage: Callable[..., Stage]) -> None:
        cron = {"name": "cron", "params": {"schedule": "0 * * * *"}}
        stage = confirmed(make_stage, {"name": "debt"}, cron, kappa=1e6)
        kept = stage.until("retrain_kept")
        assert kept.numbers["final"] is False
        assert [one["policy"] for one in kept.numbers["policies"]] == ["debt", "cron"]
        stage.advance(3600.0)
        begun = stage.until("retrain_started")
        assert (begun.case, begun.numbers["policy"]["policy"]) == ("m-1", "cron")
        stage.until("recovered")
        stage.settle()
        assert stage.kinds().count("case_opened") == 1  # the moment is spent

    def test_that_is_kept_is_told_with_the_reason(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=1e6)
        stage.until("retrain_kept")
        stage.settle()
        assert "not more than a retrain costs (1e+06)" in stage.view("model")["kept"]
        stage.ask("retrain")
        stage.until("recovered")
        stage.settle()
        assert stage.view("model")["kept"] == ""

    def test_is_kept_when_its_policy_fails(self, make_stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
        for above, said in ((1, "ZeroDivisionError('no events')"), (0, "TypeError")):
            stage = confirmed(make_stage, {"name": BROKEN, "params": {"above": above}})
            kept = stage.until("retrain_kept")
            assert kept.numbers["final"] is False
            assert said in kept.why
            stage.advance(10.0)
            stage.settle()
            assert [record.message for record in caplog.records].count("a retrain policy failed") == 1
            caplog.clear()

    def test_that_waits_is_remembered_within_bounds(
        self, make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(course, "MOST", 64)
        stage = confirmed(make_stage, {"name": "debt"}, kappa=1e9)
        stage.until("retrain_kept")
        for _ in range(course.MOST + 5):
            stage.learner.batch(0.5, 10)
        stage.settle()
        case = stage.state().case
        assert len(case.batches) <= course.MOST
        assert sum(batch.n for batch in case.batches) == 10 * (course.MOST + 5)

    def test_counts_no_event_of_its_window_twice(self, make_stage: Callable[..., Stage]) -> None:
        stage = confirmed(make_stage, {"name": "debt"}, kappa=1e6)
        stage.until("retrain_kept")
        case = stage.state().case
        before = stage.learner.n - case.confirmed_n
        stage.learner.tell("batch", n=300, loss=0.5)  # it began before the drift was confirmed
        stage.learner.batch(0.5, 40)
        stage.settle()
        assert [batch.n for batch in case.batches] == [*([before] if before else []), 40]

    def test_is_asked_about_once_whatever_its_fit_does(self, make_stage: Callable[..., Stage]) -> None:
        from streamlearn.errors import RetrainError

        stage = make_stage(retrain=retrain({"name": "debt"}))
        stage.jobs.errors = [RetrainError("memory", "needed more")]
        stage.settle()
        stage.learner.drift()
        stage.until("retrain_failed")
        again = stage.until("retrain_started")
        assert again.numbers["attempt"] == 2
        assert "policy" not in again.numbers


class TestASteadyModel:
    def test_is_retrained_for_a_policy_of_ones_own(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": OWN, "params": {"above": 50.0}}))
        stage.settle()
        stage.learner.batch(0.4)
        stage.settle()
        assert stage.kinds() == ["registered"]
        assert stage.view("model")["policies"][0]["total"] == pytest.approx(40.0)
        stage.learner.batch(0.4)
        opened = stage.until("case_opened")
        assert opened.numbers["kind"] == "policy"
        assert opened.numbers["policy"]["total"] == pytest.approx(80.0)
        assert opened.numbers["cost"]["unit"] == "EUR"
        assert "mine" in opened.why
        assert stage.until("trial_started").numbers["tolerance"] == 0.01  # it has seen losses: not worse is enough
        stage.until("promoted")
        stage.settle()
        assert stage.kinds().count("case_opened") == 1  # the sum began anew

    def test_a_clock_has_seen_no_loss_and_its_version_must_be_better(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": "cron", "params": {"schedule": "0 * * * *"}}))
        stage.settle()
        stage.advance(3600.0)
        opened = stage.until("case_opened")
        assert opened.numbers["evidence"] is False
        assert stage.until("trial_started").numbers["tolerance"] == 0.0

    def test_new_labels_are_counted_from_the_last_retrain_on(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": "labels", "params": {"events": 300}}))
        stage.settle()
        for _ in range(3):
            stage.learner.batch(0.1)
        stage.until("case_opened")
        stage.until("promoted")
        stage.settle()
        for _ in range(2):
            stage.learner.batch(0.1)
        stage.settle()
        assert stage.kinds().count("case_opened") == 1
        stage.learner.batch(0.1)
        stage.until("case_opened")

    def test_waits_until_each_shard_can_be_fitted(self, make_stage: Callable[..., Stage]) -> None:
        settings = retrain({"name": OWN, "params": {"above": 50.0}})
        stage = make_stage(2, retrain={**settings, "min_events": 20_000})
        stage.settle()
        stage.learners[0].batch(0.9, 45_000)
        stage.settle()
        assert "case_opened" not in stage.kinds()
        stage.learners[1].batch(0.9, 20_000)
        stage.until("case_opened")
        assert "from the last confirmed change, or where the model begins" in stage.until("retrain_started").why

    def test_a_lost_trial_does_not_set_off_another_at_once(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": OWN, "params": {"above": 50.0}}))
        stage.learner.gain = -0.3
        stage.settle()
        stage.learner.batch(0.9)
        stage.until("trial_lost")
        stage.settle()
        assert stage.kinds().count("case_opened") == 1

    def test_is_left_alone_while_it_is_held_or_too_young(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": OWN, "params": {"above": 5.0}}))
        stage.settle()
        stage.request("hold")
        stage.settle()
        stage.learner.batch(0.9)
        stage.settle()
        assert "case_opened" not in stage.kinds()
        stage.request("resume")
        stage.until("case_opened")

    def test_losses_of_another_version_are_not_its_own(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": OWN, "params": {"above": 5.0}}))
        stage.settle()
        stage.learner.version = 7
        stage.learner.batch(0.9)
        stage.learner.version = 1
        stage.settle()
        assert stage.kinds() == ["registered"]

    def test_several_shards_are_one_model(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(2, retrain=retrain({"name": OWN, "params": {"above": 50.0}}))
        stage.settle()
        for learner in stage.learners:
            learner.batch(0.3)
        assert stage.until("case_opened").numbers["policy"]["total"] == pytest.approx(60.0)


class TestPanel:
    def test_a_policy_is_asked_once_for_a_batch(self, make_stage: Callable[..., Stage]) -> None:
        stage = make_stage(retrain=retrain({"name": OWN, "params": {"above": 1e9}}))
        stage.settle()
        state, panel = stage.state(), Panel(stage.settings)
        asked.clear()
        for _ in range(5):
            panel.ask(state, 10.0)
        assert len(asked) == 1
        panel.ask(state, 11.0)
        state.course.take({"n": 10, "loss": 0.5}, 1.0)
        panel.ask(state, 11.5)
        assert len(asked) == 3


def test_the_window_of_the_drift_is_part_of_its_debt(make_stage: Callable[..., Stage]) -> None:
    stage = confirmed(make_stage, {"name": "debt"})
    case = stage.state().case
    assert case.confirmed.n >= WINDOW
    assert case.confirmed.fresh == pytest.approx(0.5)
    assert case.confirmed.reference == pytest.approx(0.1)
