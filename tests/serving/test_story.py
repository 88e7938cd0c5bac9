"""A case's story from its document: of every kind of case and ending, and of documents that older builds wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamlearn.serving.story import detectors, histogram, story

MEMBERS = [
    "opened", "alarm", "windows", "losses", "test", "diagnosis", "features", "decision", "retrain", "trial", "verdict",
]  # fmt: skip
POLICY = {
    "policy": "cost", "gated": True, "retrain": True, "total": 12.5, "threshold": 10.0, "why": "12.5 of 10 lost",
    "settled": False, "sum": 12.5, "kappa": 10.0, "batches": 3, "labelled": 300,
}  # fmt: skip
COST = {"retrain": 5.0, "loss": 0.5, "unit": "EUR", "kappa": 10.0}
SHIFT = {
    "name": "<b>", "type": "number", "test": "ks", "p": 1e-9, "e": 5.0, "psi": 0.4, "missing": [0.0, 0.1],
    "other_type": [0.0, 0.0], "unseen": 0.0, "outside": 0.5, "differs": True, "since": 15.0,
    "histogram": {"edges": [0.0, 1.0], "reference": [5], "recent": [7]},
}  # fmt: skip
TEST = {
    "p": 0.0004, "level": 0.03, "alpha": 0.05, "k": 1, "look": 0.2, "harm": 0.01, "ref_n": 1000, "fresh_n": 100,
    "ref_mean": 0.1, "fresh_mean": 0.4, "lcb_fresh": 0.3, "ucb_ref": 0.12, "from_n": 5001, "to_n": 5100,
    "losses": {"loss": "binary", "before": [900, 100], "after": [60, 40]},
}  # fmt: skip


def step(kind: str, at: float, version: int | None = None, /, **numbers: Any) -> dict[str, Any]:
    return {
        "kind": kind, "at": at, "n": 5, "offset": 0, "version": version, "by": "control", "why": f"why {kind}",
        "numbers": numbers, "control": int(at),
    }  # fmt: skip


def case(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "m-1", "model": "m", "kind": "drift", "open": True, "outcome": None, "opened_at": 10.0, "closed_at": None,
        "version": None, "progress": None, "trial": None, "growth": None, "alarms": None, "search": None, "steps": list(steps),
    } | fields  # fmt: skip


OPENED = step(
    "case_opened", 10, kind="drift", detector="adwin+ddm", shard=2, change_offset=40, change_n=30, alarm_n=35, ref_n=1000,
    ref_mean=0.1, recent_mean=0.3,
)  # fmt: skip
CONFIRMED = step(
    "confirmed", 20, **TEST, diagnosis={"kind": "feature_drift", "why": "'<b>' changed", "features": ["<b>"]}, features=[SHIFT]
)
FITS = [
    step("retrain_started", 30, 2, run=1, attempt=1, starts={"0": 40}, until={"0": 90}, policy=POLICY, cost=COST),
    step("retrain_failed", 32, 2, run=1, attempt=1, reason="memory", final=False),
    step("retrain_started", 35, 2, run=2, attempt=2, starts={"0": 40}, until={"0": 95}),
    step("retrained", 40, 2, run=2, trained_to={"0": 99}, took_s=5.0),
]
GROWTH = {"events": [10, 20], "e": [1.0, 40.0], "mean": [0.1, 0.2], "low": [-1.0, 0.1], "high": [1.0, 0.3]}
NOW = {"e": 40.0, "peak": 41.0, "threshold": 33.0, "events": 20, "mean_difference": 0.2, "interval": [0.1, 0.3]}


def test_a_whole_drift() -> None:
    trial = [step("trial_started", 41, 2, k=1, alpha=0.05, tolerance=0.01, slices=["carrier"]), step("trial_won", 50, 2, **NOW)]
    ending = [step("promoted", 51, 2), step("recovered", 60, 2)]
    told = story(case(
        OPENED, CONFIRMED, *FITS, *trial, *ending, outcome="recovered", closed_at=60.0, version=2, trial=NOW, growth=GROWTH,
        alarms={"items": [{"detector": "ddm", "shard": 1, "at": 12.0, "n": 7, "change_offset": 3}], "in_all": 1},
    ))  # fmt: skip
    assert list(told) == MEMBERS
    assert (told["opened"]["kind"], told["opened"]["control"]) == ("drift", 10)
    assert (told["alarm"]["detectors"], told["alarm"]["shard"], told["alarm"]["n"]) == (["adwin", "ddm"], 2, 35)
    assert told["alarm"]["further"] == [{"detectors": ["ddm"], "shard": 1, "at": 12.0, "n": 7, "change_offset": 3}]
    assert told["windows"] == {
        "before": {"n": 1000, "mean": 0.1}, "after": {"n": 100, "mean": 0.4, "from_n": 5001, "to_n": 5100},
    }  # fmt: skip
    assert told["losses"] == {"values": ["0", "1"], "before": [900, 100], "after": [60, 40]}
    test = told["test"]
    assert (test["name"], test["p"], test["level"], test["k"], test["look"]) == ("fisher", 0.0004, 0.03, 1, 0.2)
    assert test["effect"] == pytest.approx(0.3)
    assert (test["confirmed"], test["survived"], test["hindsight"]) == (True, False, None)
    assert told["diagnosis"] == {"kind": "feature_drift", "why": "'<b>' changed", "features": ["<b>"], "broken": False}
    [feature] = told["features"]
    assert feature == SHIFT | {"histogram": {"edges": [0.0, 1.0], "before": [5], "after": [7]}}
    decision = told["decision"]
    assert (decision["policy"], decision["sum"], decision["threshold"], decision["costs"]) == ("cost", 12.5, 10.0, COST)
    assert decision["numbers"] == {"batches": 3, "labelled": 300}
    assert [(one["attempt"], one["ended"], one["reason"], one["took_s"]) for one in told["retrain"]["attempts"]] == [
        (1, "retrain_failed", "memory", None), (2, "retrained", None, 5.0),
    ]  # fmt: skip
    assert (told["retrain"]["trained_to"], told["retrain"]["version"]) == ({"0": 99}, 2)
    assert (told["trial"]["low"], told["trial"]["high"], told["trial"]["mean"]) == (0.1, 0.3, 0.2)
    assert (told["trial"]["ended"], told["trial"]["threshold"], told["trial"]["growth"]) == ("trial_won", 33.0, GROWTH)
    assert told["trial"]["slices"] is None
    assert (told["verdict"]["kind"], told["verdict"]["at"], told["verdict"]["version"]) == ("recovered", 60, 2)
    msgspec.json.encode(told)


def test_losses_of_numbers_have_edges() -> None:
    losses = {"loss": "bounded", "before": [5, 3, 0, 1], "after": [1, 1, 4, 6]}
    told = story(case(OPENED, step("rejected", 20, **TEST | {"losses": losses}), outcome="rejected", closed_at=20.0))
    assert told["losses"] == {"edges": [0.0, 0.25, 0.5, 0.75, 1.0], "before": [5, 3, 0, 1], "after": [1, 1, 4, 6]}
    assert (told["test"]["name"], told["test"]["confirmed"], told["verdict"]["kind"]) == ("permutation", False, "rejected")
    assert (told["decision"], told["retrain"], told["trial"]) == (None, None, None)


def test_a_drift_that_the_live_model_has_unlearned() -> None:
    told = {"p": 0.001, "level": 0.03, "ref_mean": 0.1, "fresh_mean": 0.5, "checkpoint": 7, "fresh_n": 500}
    confirmed = step("confirmed", 20, **TEST, survived=True, hindsight=told)
    whole = story(case(OPENED, confirmed, outcome="survived", closed_at=20.0))
    assert whole["test"]["survived"]
    assert whole["test"]["hindsight"] == {"p": 0.001, "level": 0.03, "checkpoint": 7, "before": 0.1, "after": 0.5}
    assert (whole["verdict"]["kind"], whole["verdict"]["control"]) == ("survived", 20)
    unknown = story(case(OPENED, step("rejected", 20, **TEST, hindsight="no checkpoint is kept"), outcome="rejected"))
    assert unknown["test"]["hindsight"] == {"why": "no checkpoint is kept"}


def test_a_policy_that_keeps_the_model() -> None:
    kept = step("retrain_kept", 25, final=False, policies=[POLICY | {"retrain": False, "total": 3.0}], cost=COST)
    told = story(case(OPENED, CONFIRMED, kept))
    assert (told["decision"]["retrain"], told["decision"]["sum"], told["decision"]["costs"]) == (False, 3.0, COST)
    assert told["decision"]["kept"][0]["policies"] == [
        {"policy": "cost", "retrain": False, "threshold": 10.0, "why": "12.5 of 10 lost", "sum": 3.0}
    ]
    later = story(case(OPENED, CONFIRMED, kept, *FITS))
    assert (later["decision"]["retrain"], later["decision"]["sum"], len(later["decision"]["kept"])) == (True, 12.5, 1)


def test_a_case_of_a_policy_names_it() -> None:
    told = story(case(step("case_opened", 10, kind="policy", policy=POLICY, cost=COST), FITS[2], kind="policy"))
    assert (told["alarm"], told["decision"]["policy"], told["decision"]["costs"]) == (None, "cost", COST)


def test_a_case_by_hand_has_no_policy() -> None:
    told = story(case(step("case_opened", 10, kind="manual"), FITS[2], kind="manual", progress={"done": 3, "total": 9}))
    assert (told["decision"]["policy"], told["decision"]["sum"], told["decision"]["costs"]) == (None, None, None)
    assert told["retrain"]["progress"] == {"done": 3, "total": 9}
    assert told["retrain"]["attempts"][0]["ended"] is None
    assert told["verdict"] is None


def test_a_canary_and_a_promotion_that_is_being_watched() -> None:
    steps = [
        step("trial_started", 41, 2, k=1, alpha=0.05, tolerance=0.0), step("canary_started", 45, 2, step=2, shares=[0.1, 0.5]),
    ]  # fmt: skip
    told = story(case(OPENED, CONFIRMED, *FITS, *steps, trial=NOW | {"canary": {"events": 60}}))
    assert told["trial"]["canary"] == {"share": 0.5, "step": 2, "shares": [0.1, 0.5], "began_at": 45, "events": 60}
    assert told["trial"]["ended"] is None
    watched = story(case(OPENED, CONFIRMED, *FITS, *steps, step("trial_won", 50, 2), step("promoted", 51, 2), trial=NOW))
    assert watched["verdict"]["kind"] == "promoted"


def test_a_second_trial_is_told_by_itself() -> None:
    first = [step("trial_started", 41, 2, k=1, alpha=0.05, tolerance=0.0), step("retrain_failed", 42, 2, final=False)]
    told = story(case(OPENED, CONFIRMED, *FITS, *first, step("trial_lost", 43, 2, **NOW), step("trial_started", 60, 3, k=2)))
    assert (told["trial"]["version"], told["trial"]["ended"], told["trial"]["k"]) == (3, None, 2)


@pytest.mark.parametrize(
    ("outcome", "last", "kind"),
    [
        ("rolled_back", step("rollback_started", 70, 1), "rolled_back"), ("expired", step("expired", 70), "expired"),
        ("replaced", step("confirmed", 70), "replaced"), ("broken_input", step("broken_input", 70), "broken_input"),
    ],
)  # fmt: skip
def test_endings(outcome: str, last: dict[str, Any], kind: str) -> None:
    told = story(case(OPENED, last, outcome=outcome, closed_at=70.0))
    assert (told["verdict"]["kind"], told["verdict"]["at"]) == (kind, 70.0)


def test_broken_input_is_diagnosed_as_such() -> None:
    diagnosis = {"kind": "null_jump", "why": "'a' is missing", "features": ["a"]}
    told = story(case(OPENED, step("broken_input", 70, diagnosis=diagnosis), outcome="broken_input"))
    assert told["diagnosis"] == diagnosis | {"broken": True}


def test_what_an_older_build_did_not_record_is_null() -> None:
    old = {"p": 0.01, "level": 0.03, "ref_n": 1000, "fresh_n": 100, "ref_mean": 0.1, "fresh_mean": 0.4}
    bare = {"id": "m-1", "model": "m", "kind": "drift", "open": True, "outcome": None, "closed_at": None}
    told = story(bare | {"steps": [step("case_opened", 10, kind="drift"), step("confirmed", 20, **old)]})
    assert (told["losses"], told["features"], told["diagnosis"]) == (None, [], None)
    assert (told["test"]["name"], told["test"]["alpha"], told["alarm"]["detectors"]) == (None, None, [])
    trial = story(bare | {"steps": [step("trial_started", 41, 2)]})["trial"]
    assert trial["growth"] == {"events": [], "e": [], "mean": [], "low": [], "high": []}
    assert list(story(bare)) == MEMBERS


def test_small_things() -> None:
    assert detectors("adwin on score+ddm") == ["adwin on score", "ddm"]
    assert histogram({"values": ["x"], "reference": [1], "recent": [2]}) == {"values": ["x"], "before": [1], "after": [2]}
    assert histogram(None) is None
