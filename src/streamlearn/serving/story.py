"""A case's story in order, for people: a pure function of control's document of the case. Nothing is stored for it.

`story(case)` gives these members, in the order in which things happen. What has not happened, or is not known since an older
build recorded it, is null; lists are then empty. Times are Unix seconds, `n` counts labelled events, offsets lie in the log's
partition of the shard, `control` is the place in the control log (the audit's record of it).

opened    {kind, at, n, by, why, control, changes}
          kind: drift | manual | policy | changed | contract | rewind | restore; changes, for the kind contract:
          [{feature, what, was, is}]
alarm     null | {detectors: [text], shard, at, n, change_offset, change_n, ref_n, ref_mean, recent_mean,
          further: [{detectors, shard, at, n, change_offset}], further_in_all}       further: alarms while the case was open
windows   null | {before: {n, mean}, after: {n, mean, from_n, to_n}}         the losses compared: before the change, since alarm
losses    null | histogram                 of the loss: "0" and "1" of a class, or 20 bins of [0, 1] of a number
test      null | {name: fisher | permutation | null, p, level, alpha, k, look: share of the window, harm, effect, lcb_after,
          ucb_before, confirmed, survived, why, at, control, hindsight}
          effect: after − before; hindsight, the model as it was before the change, asked too:
          null | {p, level, before, after, checkpoint} | {why}
diagnosis null | {kind, why, features: [name], broken}
features  [{name, type, test, p, e, psi, missing: [before, now], other_type: [before, now], unseen, outside, differs, since,
          histogram: null | histogram}]    those that the diagnosis names, at most ten
decision  null | {retrain, policy, sum, threshold, kappa, costs, numbers: {…}, why, at, by, control, kept}
          costs: null | {retrain, loss, unit, kappa}
          kept: [{at, why, final, policies: [{policy, retrain, sum, threshold, why}]}]
retrain   null | {version, attempts, progress: null | {done, total}, search: null | {…}, trained_to, took_s}
          attempts, of which a catch-up is one too: [{at, attempt, run, why, window: {starts, until}, times, strategy,
          ended: null | retrained | retrain_failed, ended_at, reason, took_s}]; by shard: window, times, trained_to
trial     null | {version, began_at, k, threshold, tolerance, alpha, e, peak, events, low, high, mean, champion_loss,
          challenger_loss, recent, guardrails: [{…}], slices: null | {…}, ended: null | trial_won | trial_lost, ended_at,
          why, canary: null | {share, step, shares, began_at, …}, arms, growth: {events, e, mean, low, high}}
          arms: null | the share of the users, drawn at random, for whom a recommender's challenger answers: then pairs of
          users are compared, and losses are rewards missed
          growth: five lists of one length, at most 201 points, the last one where the trial stands
verdict   null | {kind, at, by, why, version, control}
          kind: rejected, expired, broken_input, retrain_failed, retrain_kept, trial_lost, recovered, not_recovered,
          rolled_back, survived, replaced; promoted while that is being watched

histogram {edges: [bars + 1 numbers], before: [counts], after: [counts]} of numbers, or
          {values: [names of the bars], before: [counts], after: [counts]} of categories
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Doc = dict[str, Any]
Step = Mapping[str, Any]

BROKEN: Final = ("schema_break", "null_jump")
JUDGED: Final = ("confirmed", "rejected")
SHIFT: Final = (
    "name", "type", "test", "p", "e", "psi", "missing", "other_type", "unseen", "outside", "differs", "since",
)  # fmt: skip
TRIED: Final = ("k", "threshold", "tolerance", "e", "peak", "events", "champion_loss", "challenger_loss", "recent")
GROWTH: Final = ("events", "e", "mean", "low", "high")
COLLECTED: Final = frozenset({"policy", "gated", "retrain", "total", "threshold", "why", "settled", "sum", "kappa"})
TESTS: Final = {"binary": "fisher", "bounded": "permutation"}


def story(case: Mapping[str, Any]) -> Doc:
    """The story of a case by its document, see above."""
    steps: Sequence[Step] = case.get("steps", ())
    opened, judged = _last(steps, "case_opened"), _last(steps, *JUDGED)
    diagnosis = _diagnosis(steps)
    return {
        "opened": None if opened is None else _opened(opened),
        "alarm": None if opened is None or opened["numbers"].get("kind") != "drift" else _alarm(case, opened),
        "windows": None if judged is None else _windows(judged["numbers"]),
        "losses": None if judged is None else _losses(judged["numbers"]),
        "test": None if judged is None else _test(judged),
        "diagnosis": diagnosis,
        "features": [] if judged is None else [_feature(one) for one in judged["numbers"].get("features", ())],
        "decision": _decision(steps),
        "retrain": _retrain(case, steps),
        "trial": _trial(case, steps),
        "verdict": _verdict(case, steps),
    }


def histogram(found: Mapping[str, Any] | None) -> Doc | None:
    """A histogram as `drift.compare` makes them, in the words of the API."""
    if not found:
        return None
    bars = {name: found[name] for name in ("edges", "values") if name in found}
    return {**bars, "before": found["reference"], "after": found["recent"]}


def detectors(told: Any) -> list[str]:
    """The detectors that an alarm names: more than one where a quorum had to agree."""
    return str(told).split("+") if told else []


def _opened(step: Step) -> Doc:
    numbers = step["numbers"]
    return {
        "kind": numbers.get("kind", ""),
        **_named(step, "at", "n", "by", "why", "control"),
        "changes": numbers.get("changes", []),
    }


def _alarm(case: Mapping[str, Any], step: Step) -> Doc:
    numbers, further = step["numbers"], case.get("alarms") or {}
    return {
        "detectors": detectors(numbers.get("detector")), "at": step["at"], "n": numbers.get("alarm_n"),
        **_of(numbers, "shard", "change_offset", "change_n", "ref_n", "ref_mean", "recent_mean"),
        "further": [
            {"detectors": detectors(one["detector"]), **_of(one, "shard", "at", "n", "change_offset")}
            for one in further.get("items", ())
        ],
        "further_in_all": further.get("in_all", 0),
    }  # fmt: skip


def _windows(numbers: Mapping[str, Any]) -> Doc:
    before = {"n": numbers.get("ref_n"), "mean": numbers.get("ref_mean")}
    after = {"n": numbers.get("fresh_n"), "mean": numbers.get("fresh_mean"), **_of(numbers, "from_n", "to_n")}
    return {"before": before, "after": after}


def _losses(numbers: Mapping[str, Any]) -> Doc | None:
    losses = numbers.get("losses")
    if losses is None:
        return None
    before, after = losses["before"], losses["after"]
    if losses["loss"] == "binary":
        return {"values": ["0", "1"], "before": before, "after": after}
    return {"edges": [bar / len(before) for bar in range(len(before) + 1)], "before": before, "after": after}


def _test(step: Step) -> Doc:
    numbers = step["numbers"]
    before, after = numbers.get("ref_mean"), numbers.get("fresh_mean")
    return {
        "name": TESTS.get((numbers.get("losses") or {}).get("loss", "")),
        **_of(numbers, "p", "level", "alpha", "k", "look", "harm"),
        "effect": None if before is None or after is None else after - before,
        "lcb_after": numbers.get("lcb_fresh"), "ucb_before": numbers.get("ucb_ref"), "confirmed": step["kind"] == "confirmed",
        "survived": bool(numbers.get("survived")), **_named(step, "why", "at", "control"),
        "hindsight": _hindsight(numbers.get("hindsight")),
    }  # fmt: skip


def _hindsight(told: Any) -> Doc | None:
    if told is None:
        return None
    if not isinstance(told, Mapping):
        return {"why": told}
    return {**_of(told, "p", "level", "checkpoint"), "before": told.get("ref_mean"), "after": told.get("fresh_mean")}


def _diagnosis(steps: Sequence[Step]) -> Doc | None:
    found = next((step["numbers"]["diagnosis"] for step in reversed(steps) if step["numbers"].get("diagnosis")), None)
    if found is None:
        return None
    return {**_of(found, "kind", "why"), "features": found.get("features", []), "broken": found.get("kind") in BROKEN}


def _feature(told: Mapping[str, Any]) -> Doc:
    return {**_of(told, *SHIFT), "histogram": histogram(told.get("histogram"))}


def _decision(steps: Sequence[Step]) -> Doc | None:
    """What the policies made of it, or who else decided that there is a retrain."""
    begun = next((step for step in steps if step["kind"] == "retrain_started"), None)
    kept = [step for step in steps if step["kind"] == "retrain_kept"]
    asked = next((step for step in steps if step["kind"] == "case_opened" and "policy" in step["numbers"]), None)
    if begun is None and not kept:
        return None
    last = begun if begun is not None else kept[-1]
    said = last["numbers"].get("policy") or (asked or last)["numbers"].get("policy")
    if said is None:
        policies = last["numbers"].get("policies") or [{}]
        said = policies[0]
    priced = [step for step in (last, *kept, *([asked] if asked else ())) if "cost" in step["numbers"]]
    return {
        "retrain": begun is not None, "policy": said.get("policy"), "sum": said.get("total"), **_of(said, "threshold", "kappa"),
        "costs": priced[0]["numbers"]["cost"] if priced else None,
        "numbers": {name: value for name, value in said.items() if name not in COLLECTED},
        **_named(last, "why", "at", "by", "control"),
        "kept": [
            {
                **_named(step, "at", "why"), "final": bool(step["numbers"].get("final")),
                "policies": [
                    {**_of(one, "policy", "retrain", "threshold", "why"), "sum": one.get("total")}
                    for one in step["numbers"].get("policies", ())
                ],
            }
            for step in kept
        ],
    }  # fmt: skip


def _retrain(case: Mapping[str, Any], steps: Sequence[Step]) -> Doc | None:
    attempts: list[Doc] = []
    for step in steps:
        numbers = step["numbers"]
        if step["kind"] == "retrain_started":
            attempts.append({
                **_named(step, "at", "why"), **_of(numbers, "attempt", "run", "times", "strategy"),
                "window": _of(numbers, "starts", "until"), "ended": None, "ended_at": None, "reason": None, "took_s": None,
            })  # fmt: skip
        elif step["kind"] in ("retrained", "retrain_failed") and attempts:
            attempts[-1] |= {"ended": step["kind"], "ended_at": step["at"], **_of(numbers, "reason", "took_s")}
    if not attempts:
        return None
    done = _last(steps, "retrained")
    made = {} if done is None else done["numbers"]
    return {
        "version": case.get("version"), "attempts": attempts, "progress": case.get("progress"), "search": case.get("search"),
        **_of(made, "trained_to", "took_s"),
    }  # fmt: skip


def _trial(case: Mapping[str, Any], steps: Sequence[Step]) -> Doc | None:
    begun = _last(steps, "trial_started")
    if begun is None:
        return None
    after = [step for step in steps if step["control"] > begun["control"]]
    ended = _last(after, "trial_won", "trial_lost")
    numbers = case.get("trial") or ({} if ended is None else ended["numbers"])
    low, high = numbers.get("interval") or (None, None)
    begins = begun["numbers"]
    return {
        "version": begun["version"], "began_at": begun["at"], "alpha": begins.get("alpha"),
        **_of({**begins, **numbers}, *TRIED), "low": low, "high": high, "mean": numbers.get("mean_difference"),
        "guardrails": numbers.get("guardrails", []), "slices": numbers.get("slices"),
        "ended": None if ended is None else ended["kind"], "ended_at": None if ended is None else ended["at"],
        "why": (begun if ended is None else ended)["why"], "canary": _canary(after, numbers),
        "arms": begins.get("arms"),
        "growth": {name: list((case.get("growth") or {}).get(name, ())) for name in GROWTH},
    }  # fmt: skip


def _canary(after: Sequence[Step], numbers: Mapping[str, Any]) -> Doc | None:
    step = _last(after, "canary_started")
    if step is None:
        return None
    begun = step["numbers"]
    share = begun["shares"][begun["step"] - 1]
    return {"share": share, **_of(begun, "step", "shares"), "began_at": step["at"], **(numbers.get("canary") or {})}


def _verdict(case: Mapping[str, Any], steps: Sequence[Step]) -> Doc | None:
    """The step that the case's outcome names; while a promotion is watched, the promotion."""
    outcome = case.get("outcome")
    if outcome is None:
        step = _last(steps, "promoted")
    elif outcome == "survived":
        step = _last(steps, "confirmed")
    elif outcome == "rolled_back":
        step = _last(steps, "rolled_back", "rollback_started")
    else:
        step = _last(steps, outcome)
    if step is not None:
        return {"kind": outcome or step["kind"], **_named(step, "at", "by", "why", "version", "control")}
    if outcome is None:
        return None
    unknown = dict.fromkeys(("by", "why", "version", "control"))
    return {"kind": outcome, "at": case.get("closed_at"), **unknown}


def _last(steps: Sequence[Step], *kinds: str) -> Step | None:
    return next((step for step in reversed(steps) if step["kind"] in kinds), None)


def _named(step: Step, *names: str) -> Doc:
    return {name: step[name] for name in names}


def _of(numbers: Mapping[str, Any], *names: str) -> Doc:
    return {name: numbers.get(name) for name in names}
