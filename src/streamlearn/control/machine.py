"""The judge of one model: given its state and the world, the next decision, or None. It records and changes nothing.

    steady ─alarm▶ confirm ─window▶ confirmed ▶ retraining ▶ fitted ▶ trial ▶ canary ▶ promoting ▶ recovering ▶ steady
                      │                 ▲ ▲ backoff │ │ too far behind│  │       │         │
                      └▶ rejected,      └─┴─────────┘ └───────────────┘  └▶ closing: detach, then reset ▶ steady
                         expired: reset

A case that a person has decided (`rewind`) begins at confirmed, and is promoted as soon as every shard has tried its version.

The caller records the decision, folds it back in from the log, and asks again until there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..config import ModelSettings
from ..drift.confirm import recovered
from ..lineage import ASKED, recipe_of
from ..records import Decision
from ..retrain.rewind import as_json
from .arms import by_users, split
from .canary import judge_canary, judge_promotion, win_trial
from .changes import answer_rebuild, open_change
from .choosing import judge_drift, open_policy
from .confirming import GRACE_S, WINDOWS, came, judge_alarm
from .contract import explains, types_now
from .facts import by_shard, knows, made_with, shards_of, strategy_told, window_times
from .fold import RESETS
from .inputs import judge_inputs
from .requests import judge_request
from .rewind import bases, give_up, lost, passed_over, promote_at_once, record_skipped
from .state import Case, Phase, State
from .steps import EMPTY_S, PATIENCE_S, decision, labelled, lose_trial, retrain_failed, told
from .windows import kept, making
from .world import Outcome, World

NOT_WORSE: Final = ("drift", "changed", "contract")  # kinds of cases whose version need not be better
TRIAL_MEMORY_S: Final = 90 * 86_400.0  # seconds for which a trial counts against the budget of the next


def decide(state: State, world: World) -> Decision | None:
    """The next step of the model's story, or None while there is nothing to decide. Raises LogError from `world`."""
    settings = state.settings
    if settings is None:
        return judge_request(state, world)
    if not state.registered:
        return _register(state, world, settings)
    if state.held_by_learner is not None and state.held is None:
        return decision(state, world, "held", why=state.held_by_learner, by="learner")
    if state.to_skip:
        return record_skipped(state, world)
    requested = judge_request(state, world)
    if requested is not None:
        return requested
    judged = answer_rebuild(state, world) or judge_inputs(state, world, settings) or judge_promotion(state, world)
    return judged or _step(state, world, settings) or _let_go(state, world, settings)


def _step(state: State, world: World, settings: ModelSettings) -> Decision | None:
    if state.phase == Phase.STEADY:
        return _open(state, world) or open_change(state, world, settings) or open_policy(state, world, settings)
    if state.phase == Phase.ROLLING_BACK:
        return _roll_back(state, world)
    case = state.case
    assert case is not None
    match state.phase:
        case Phase.CONFIRM:
            return judge_alarm(state, case, world, settings)
        case Phase.CONFIRMED:
            return _begin(state, case, world, settings) if _due(state, case, world, settings) else None
        case Phase.RETRAINING:
            return _fitted(state, case, world, settings)
        case Phase.FITTED:
            return _try(state, case, world, settings)
        case Phase.TRIAL:
            return _judge_trial(state, case, world, settings)
        case Phase.CANARY:
            return judge_canary(state, case, world, settings)
        case Phase.PROMOTING:
            return _promote(state, case, world)
        case Phase.RECOVERING:
            return _recover(state, case, world, settings)
    return _finish(state, case, world)


def _register(state: State, world: World, settings: ModelSettings) -> Decision:
    table = settings.model_dump(mode="json")
    numbers = {
        "stream": settings.stream, "task": settings.task, "pipeline": settings.pipeline, "partitions": state.partitions,
        "settings": table, "made_with": made_with(table),
    }  # fmt: skip
    return decision(state, world, "registered", version=1, why="the model was first seen in the configuration", numbers=numbers)


def _open(state: State, world: World) -> Decision | None:
    waiting = [alarm for shard, alarm in state.alarms.items() if not state.pending(shard, *RESETS)]
    if not waiting or state.broken is not None:  # a loss that rose on broken input is no news
        return None
    if state.settings is not None and explains(state, world.inputs, state.settings):
        return None
    alarm = min(waiting, key=lambda alarm: alarm.log_offset)
    signal, data = alarm.signal, alarm.signal.data
    numbers = {
        **data, "kind": "drift", "shard": signal.shard, "change_offset": data["change_offset"], "alarm_n": signal.n,
        "alarm": alarm.log_offset,
    }  # fmt: skip
    detector, since = data.get("detector", "a detector"), data["change_offset"]
    why = f"{detector} on shard {signal.shard} sees the loss rise since offset {since}"
    return decision(state, world, "case_opened", case=f"{state.name}-{state.cases + 1}", why=why, numbers=numbers)


def _due(state: State, case: Case, world: World, settings: ModelSettings) -> bool:
    """Whether a fit may begin: not while it is backed off, nor before its events can be there, unless those do not come."""
    if world.now < case.not_before:
        return False
    patient = world.now - state.since <= EMPTY_S + settings.label_wait_s
    return came(state, case, world, settings.retrain.min_events) or (world.up_to_date and not patient)


def _begin(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    """The fit of the case, unless the policies keep the model for now."""
    judged = judge_drift(state, case, world, settings)
    return _retrain(state, case, world, settings, because=judged) if isinstance(judged, dict) else judged


def _retrain(
    state: State, case: Case, world: World, settings: ModelSettings, why: str = "", because: Mapping[str, Any] | None = None
) -> Decision:
    """Fit the case's version: for the first time, again after a failure, or, with a `why`, again to catch up.

    `because`: numbers of what decided it.
    """
    found = bases(state, case, world)
    if case.decided and (gone := lost(case, found, world)):
        return give_up(state, case, world, gone)
    made = making(state, case, world, settings, found)
    starts, until = kept(state, world, made.starts), {shard: world.bounds(shard)[1] for shard in state.shards}
    version = case.version or state.last_version + 1
    retrain, wanted = settings.retrain, settings.model_dump(mode="json")
    searched = {} if case.decided else case.searched
    table = {**wanted, **searched}
    fit = {
        "model": state.name, "version": version, "stream": settings.stream, "seed": table["seed"],
        "epochs": 1 if case.decided else retrain.epochs,
        "catch_up_records": retrain.catch_up_records, "settings": table,
        "stream_settings": dict(world.stream_settings), "limits": dict(world.limits), **made.fit,
    }  # fmt: skip
    if types := types_now(state, world.inputs, settings):
        fit["types"] = types
    numbers = {
        "run": case.run + 1, "attempt": case.attempt + (not why), "catch_ups": case.catch_ups + bool(why), "fit": fit,
        "starts": {str(shard): offset for shard, offset in starts.items()},
        "until": by_shard(until), "times": window_times(world, starts, until), "made_with": made_with(table),
        "bases": by_shard(made.bases), "skip": as_json(passed_over(state, case)), **made.numbers,
    }  # fmt: skip
    if searched:
        numbers[ASKED] = recipe_of(wanted)
    if not why:
        why = f"attempt {case.attempt + 1} of {retrain.attempts}: fit version {version} from {made.words}"
    if because:
        numbers |= because
        why = f"{why}; {because['policy']['policy']}: {because['policy']['why']}"
    return decision(state, world, "retrain_started", version=version, why=why, numbers=numbers)


def _fitted(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    outcome: Outcome | None = world.outcome
    if outcome is None or (outcome.case, outcome.run) != (case.id, case.run):
        return None
    if outcome.reason:
        return retrain_failed(state, case, world, settings, outcome.reason, outcome.detail)
    trained_to = {str(shard): offset for shard, offset in sorted(outcome.trained_to.items())}
    numbers = {"run": case.run, "trained_to": trained_to, "took_s": world.now - state.since, **shards_of(outcome.facts)}
    why = "the fit ended near the log's head" + strategy_told(outcome.facts)
    if outcome.search is not None:
        numbers["search"] = dict(outcome.search)
        report = outcome.search["report"]
        why = f"the search chose {report['winner']}: {report['why']}; {why}"
    return decision(state, world, "retrained", version=case.version, why=why, numbers=numbers)


def _try(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    if state.watch_from is not None:
        return _detach(state, world, "the old champion makes room for the next challenger")
    if any(state.pending(shard, "detach") for shard in state.shards):
        return None
    retrain, trial = settings.retrain, settings.trial
    gaps = {shard: world.bounds(shard)[1] - case.trained_to[shard] for shard in state.shards}
    if max(gaps.values()) > retrain.max_gap_records:
        why = f"the log's head is {max(gaps.values())} records ahead, more than {retrain.max_gap_records}"
        if case.catch_ups < retrain.attempts:
            return _retrain(state, case, world, settings, f"{why}: catch up")
        return retrain_failed(state, case, world, settings, "behind", f"{why}, after {case.catch_ups} catch-ups")
    k = 1 + min(len(state.trials), sum(world.now - at <= TRIAL_MEMORY_S for at in state.trials))
    trained_to = {str(shard): offset for shard, offset in case.trained_to.items()}
    specs = {str(shard): case.spec(shard) for shard in case.trained_to}
    command = {"verb": "try", "version": case.version, "trained_to": trained_to, "specs": specs}
    if apart := by_users(settings) and not case.decided:
        command |= split(state.name, case.version, settings)
    may_equal = case.kind in NOT_WORSE or bool(case.evidence)
    numbers = {
        "k": k, "alpha": trial.alpha, "gaps": {str(shard): gap for shard, gap in gaps.items()}, "command": command,
        "tolerance": trial.tolerance if may_equal and not apart else 0.0,  # else it must be better
        "guardrails": trial.table, "slices": list(trial.slices),
    }  # fmt: skip
    why = f"version {case.version} against version {state.version} on the same events, challenger {k} since the last promotion"
    if apart:
        numbers["arms"] = command["share"]
        why = (
            f"version {case.version} answers for {command['share']:.3g} of the users, drawn at random, and is compared with "
            f"version {state.version} by what they do, challenger {k} since the last promotion"
        )
    if case.decided:
        why = f"version {case.version} is brought beside version {state.version}, to be promoted without a trial"
    return decision(state, world, "trial_started", version=case.version, why=why, numbers=numbers)


def _judge_trial(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    order, trial = state.orders[case.trial_seq], case.trial
    assert trial is not None
    if case.shadow_failed:
        return lose_trial(state, case, world, f"the challenger failed: {case.shadow_failed}")
    if order.refused and not order.waiting:
        return retrain_failed(state, case, world, settings, "refused", told(order), to_detach=order.applied)
    if case.decided and not order.waiting:
        return promote_at_once(state, case, world)
    if not order.waiting and not state.held_by_diagnosis:
        stepwise = settings.trial.canary and not by_users(settings)
        least = settings.trial.canary_events if stepwise else settings.trial.min_events
        bounds = min(least, settings.trial.min_events), settings.trial.horizon_events
        verdict = trial.verdict(*bounds)
        if verdict == "promote":
            return win_trial(state, case, world, settings, trial.why(*bounds))
        if verdict == "reject":
            return lose_trial(state, case, world, trial.why(*bounds))
        if needless := _needless(state, case, settings):
            return lose_trial(state, case, world, needless)
    if case.blocks.events >= 2 * settings.trial.horizon_events:
        return lose_trial(state, case, world, "a shard has closed no blocks while the others passed twice the horizon")
    if world.up_to_date and world.now - state.since > PATIENCE_S + 2 * settings.label_wait_s:
        return lose_trial(state, case, world, f"undecided after {world.now - state.since:.0f} s")
    return None


def _needless(state: State, case: Case, settings: ModelSettings) -> str:
    """Why a trial need not go on, "" when it must: the champion has recovered by itself, and the two have become equal.

    Such a pair may stay undecided for long, and while it does no other case is opened. A recommender's blocks tell of rewards,
    and its reference of ranks, so of it only a challenger that is the worse one is seen.
    """
    trial, least = case.trial, settings.trial.min_events
    gain = None if trial is None else trial.gain_at_most(least)
    if trial is None or gain is None:
        return ""
    if by_users(settings):
        return f"users are served worse: in the last half of the trial rewards rose by {gain:.4f} at most" if gain < 0 else ""
    fresh = case.champion_window()
    if state.reference is None or case.kind != "drift":
        return ""
    if gain > settings.trial.tolerance or fresh["n"] < settings.drift.window:
        return ""
    reference, drift = state.reference[1], settings.drift
    seed = settings.seed + state.cases
    if not recovered(reference["loss"], reference, fresh, alpha=drift.alpha, harm=drift.harm, seed=seed):
        return ""
    means = f"{fresh['sum'] / fresh['n']:.4f} of late, {reference['sum'] / reference['n']:.4f} before the drift"
    return (
        f"the champion has recovered by itself (mean loss {means}), and in the last half of the trial the challenger's loss is "
        f"lower by {max(gain, 0.0):.4f} at most"
    )


def _promote(state: State, case: Case, world: World) -> Decision | None:
    order = state.orders[state.order]
    if order.waiting:
        return None
    if order.refused:
        return lose_trial(state, case, world, f"the promotion was refused: {told(order)}", promoted=order.applied)
    scores = {shard: world.scores(shard) for shard in state.shards}
    numbers = {"previous": state.version, "at": by_shard(order.at), "scores": by_shard(scores), **knows(order.knew)}
    return decision(state, world, "promoted", version=case.version, why="every shard serves it", numbers=numbers)


def _recover(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    if state.reference is None:
        if not state.recoveries:
            return _give_up_recovery(state, case, world, settings)
        fresh = next(iter(state.recoveries.values()))["fresh"]
        numbers = {"fresh_n": fresh["n"], "fresh_mean": fresh["sum"] / fresh["n"]}
        return decision(state, world, "recovered", version=state.version, why="no drift was confirmed before", numbers=numbers)
    shard, reference = state.reference
    window = state.recoveries.get(shard)
    if window is None:
        return _give_up_recovery(state, case, world, settings)
    fresh, drift = window["fresh"], settings.drift
    numbers = {
        "shard": shard, "ref_n": reference["n"], "ref_mean": reference["sum"] / reference["n"], "fresh_n": fresh["n"],
        "fresh_mean": fresh["sum"] / fresh["n"],
    }  # fmt: skip
    means = f"mean loss {numbers['fresh_mean']:.4f} after the promotion, {numbers['ref_mean']:.4f} before the drift"
    if recovered(reference["loss"], reference, fresh, alpha=drift.alpha, harm=drift.harm, seed=settings.seed + state.cases):
        return decision(state, world, "recovered", version=state.version, why=means, numbers=numbers)
    why = f"version {state.version} was promoted in case {case.id}, but has not recovered: {means}"
    return decision(state, world, "not_recovered", version=state.version, why=why, numbers=numbers)


def _give_up_recovery(state: State, case: Case, world: World, settings: ModelSettings) -> Decision | None:
    if not world.up_to_date:
        return None
    waited, since = world.now - state.since, labelled(state, world) - case.promoted_n
    lost = waited > GRACE_S and since > WINDOWS * settings.drift.window * state.partitions
    if not lost and waited <= PATIENCE_S + 2 * settings.label_wait_s:
        return None
    numbers = {"waited_s": waited, "labelled": since}
    why = f"no recovery window came after the promotion of version {state.version}, in {since} labelled events"
    return decision(state, world, "not_recovered", version=state.version, why=why, numbers=numbers)


def _finish(state: State, case: Case, world: World) -> Decision | None:
    order = state.orders[state.order]
    if order.waiting:
        return None
    why, numbers = "the case is closed", {"left": len(case.then), "command": case.then[0]}
    if order.verb == "rollback" and order.refused:  # only people can mend that: they must hear of it
        why = f"the shards do not agree: some serve version {case.version} and would not go back from it: {told(order)}"
        numbers["stuck"] = sorted(order.refused)
    return decision(state, world, "detached", version=case.version, why=why, numbers=numbers)


def _roll_back(state: State, world: World) -> Decision | None:
    order = state.orders[state.order]
    if order.waiting:
        return None
    if order.refused:
        why = f"the rollback was refused: {told(order)}"
        reset = {"verb": "reset", "confirmed": False}
        numbers: dict[str, Any] = {"applied": order.applied, "command": reset}
        if state.rolling_back_for < 0:
            return decision(state, world, "rollback_failed", case=state.story, version=state.previous, why=why, numbers=numbers)
        numbers["request"] = state.rolling_back_for
        return decision(state, world, "request_refused", case=state.story, why=why, numbers=numbers)
    back: dict[str, Any] = {"from": state.version, "at": by_shard(order.at), **knows(order.knew)}
    why = f"version {state.previous} serves again instead of version {state.version}"
    return decision(state, world, "rolled_back", case=state.story, version=state.previous, why=why, numbers=back)


def _let_go(state: State, world: World, settings: ModelSettings) -> Decision | None:
    """The old champion leaves the shadow when it has been watched for long enough, or has failed there."""
    if state.watch_from is None or state.phase in (Phase.ROLLING_BACK, Phase.PROMOTING, Phase.CLOSING):
        return None
    if state.shadow_lost:
        return _detach(state, world, f"the old champion failed: {state.shadow_lost}")
    watched = labelled(state, world) - state.watch_from
    if watched < settings.trial.watch_events:
        return None
    return _detach(state, world, f"the old champion was kept beside the new one for {watched} labelled events")


def _detach(state: State, world: World, why: str) -> Decision:
    numbers = {"lost": bool(state.shadow_lost), "command": {"verb": "detach"}}
    return decision(state, world, "detached", case=state.story, version=state.shadow, why=why, numbers=numbers)
