"""Control with the real learner, watch, fit and trial: a world that turns over is noticed, learned anew, and won back."""

from __future__ import annotations

import functools
import pickle
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamlearn.config import parse
from streamlearn.control.loop import Control
from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import RetrainError
from streamlearn.events import Position
from streamlearn.learning import checkpoint
from streamlearn.learning.digest import digest
from streamlearn.learning.replay import advance, new_learner, replay
from streamlearn.log import CONTROL, SIGNALS, Entry
from streamlearn.records import Command, Decision, Request, Status, decode_control
from streamlearn.retrain.job import FitSpec, base_blob, fit
from streamlearn.retrain.scoring import ScoreSpec, score
from streamlearn.serving.story import story
from streamlearn.store import Retention
from streamlearn.store.codec import encode, open_blob
from streamlearn.store.links import Kept, kept_version
from streamlearn.testing import DoneJob, FakeClock, MemoryLog, MemoryStore

TREE: dict[str, Any] = {
    "control": {"heartbeat_s": 0.0},
    "streams": {"clicks": {}},
    "models": {
        "m": {
            "stream": "clicks",
            "task": "binary",
            "pipeline": "logistic",
            "drift": {"window": 200, "gap": 50, "min_reference": 200},
            "trial": {"min_events": 300, "watch_events": 1000},
            "retrain": {"min_events": 100, "catch_up_records": 50},
        }
    },
}


class World:
    """A log, a real learner over it, and control; events come by the hundred."""

    def __init__(self, keys: Any, **model: Any) -> None:
        tree = {**TREE, "models": {"m": {**TREE["models"]["m"], **model}}}
        self.keys, self.settings, self.clock = keys, parse(tree, {}), FakeClock()
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore(clock=self.clock)
        self.control = self.restarted()
        self.learner = new_learner(self.settings, "m", 0, 0, DriftWatch)
        self.random = random.Random(7)
        self.flipped = False
        self.mangle: Callable[[dict[str, Any]], dict[str, Any]] = lambda x: x
        self.count = 0
        self.scored: list[str] = []

    def restarted(self) -> Control:
        return Control(self.settings, self.log.reopen(), self.store.reopen(), self.keys, self, self.clock, timer=self.clock)

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        try:
            return DoneJob(self.fitted(spec))
        except RetrainError as error:
            return DoneJob(error)

    def fitted(self, spec: FitSpec) -> bytes:
        return fit(spec, self.log.reopen, self.keys, lambda done, total: None, functools.partial(base_blob, self.store))

    def score(self, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> DoneJob:
        self.scored.append(spec.settings["pipeline"])
        try:
            return DoneJob(score(spec, self.log.reopen, lambda done, total: None))
        except RetrainError as error:
            return DoneJob(error)

    def resolve(self, command: Command, shard: int) -> Kept:
        kept = kept_version(self.store, "m", command.version or 0, shard)
        assert kept is not None
        return kept

    def made_again(self, command: Command, shard: int) -> Kept:
        """The version of a store that has lost it, from the spec in the command alone."""
        spec = FitSpec.from_bytes(msgspec.json.encode(command.spec))
        return Kept(self.fitted(msgspec.structs.replace(spec, stop=command.trained_to[str(shard)])))

    def checkpoint(self) -> None:
        place = Position(self.log.identity("clicks"), "clicks", 0, self.learner.position)
        blob = encode(
            kind="checkpoint", model="m", version=self.learner.version, shard=0, generation=0, positions=[place],
            created=self.clock(), parts=checkpoint.parts(self.learner), keys=self.keys,
        )  # fmt: skip
        self.store.put_checkpoint("m", 0, 0, blob, Retention(100, 0, 0))

    def turn(self) -> None:
        entries = []
        for _ in range(100):
            a, b = self.random.uniform(-1, 1), self.random.uniform(-1, 1)
            y = (a > 0) ^ self.flipped ^ (self.random.random() < 0.05)
            self.count += 1
            event = {"stream": "clicks", "id": f"e{self.count}", "x": self.mangle({"a": a, "b": b}), "y": bool(y)}
            entries.append(Entry(f"e{self.count}".encode(), msgspec.json.encode(event)))
        self.log.append("clicks", entries).result()
        self.clock.advance(1.0)
        self.read()
        self.control.tick()
        self.read()

    def read(self) -> None:
        learner = self.learner
        records = self.log.read("clicks", 0, learner.position, 10_000)
        advance(learner, records, self.settings, self.log, self.keys, self.resolve)
        told = [Entry(b"m", msgspec.json.encode(signal), partition=0) for signal in learner.signals]
        learner.signals.clear()
        if told:
            self.log.append(SIGNALS, told).result()
        end = learner.position
        identity = self.log.identity("clicks")
        counters = dict(learner.counters)
        status = Status("m", 0, 0, learner.version, None, end, end, identity, 0.0, learner.n, None, None, counters, 0, 0, {})
        self.store.put_status("m", 0, 0, msgspec.json.encode(status))

    def decisions(self) -> list[Decision]:
        records = [decode_control(record.value) for record in self.log.read(CONTROL, 0, 0, 10_000)]
        return [record for record in records if isinstance(record, Decision)]

    def until(self, kind: str, turns: int = 150) -> Decision:
        for _ in range(turns):
            found = [decision for decision in self.decisions() if decision.kind == kind]
            if found:
                return found[-1]
            self.turn()
        raise AssertionError(f"no {kind} after {[decision.kind for decision in self.decisions()]}")

    def view(self, kind: str, id: str) -> Any:
        return msgspec.json.decode(self.store.views(kind, [id])[id])

    def until_kind_of_case(self, kind: str) -> Decision:
        for _ in range(50):
            for decision in self.decisions():
                if decision.kind == "case_opened" and decision.numbers["kind"] == kind:
                    return decision
            self.turn()
        raise AssertionError(f"no case of the kind {kind}")


def assert_replayed(world: World) -> None:
    """A replay of the log, commands and all, gives the learner's whole state again."""
    again = replay(world.settings, "m", 0, world.log, world.keys, DriftWatch, world.resolve, world.learner.position)
    assert (again.version, again.n, again.signal_seq) == (world.learner.version, world.learner.n, world.learner.signal_seq)
    assert checkpoint.digest(again) == checkpoint.digest(world.learner)


def test_the_whole_story_with_the_real_parts(keys: Any) -> None:
    world = World(keys, pipeline="naive_bayes")
    for _ in range(20):
        world.turn()
    assert [decision.kind for decision in world.decisions()] == ["registered"]
    world.flipped = True
    start = world.until("retrain_started").numbers["starts"]["0"]
    assert 1900 <= start <= 2100
    world.control = world.restarted()
    world.until("promoted")
    world.until("recovered")
    world.control = world.restarted()
    world.until("detached")
    assert [decision.kind for decision in world.decisions()] == [
        "registered", "case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "canary_started",
        "canary_started", "trial_won", "promoted", "recovered", "detached",
    ]  # fmt: skip
    assert (world.learner.version, world.learner.parked_version, world.learner.shadow_version) == (2, 1, None)
    request = Request("r1", "m", "rollback", "ann", world.clock())
    world.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()
    world.until("rolled_back")
    world.turn()
    assert world.learner.version == 1
    assert_replayed(world)


def test_a_champion_that_recovers_by_itself_keeps_serving(keys: Any) -> None:
    """Logistic regression unlearns: soon neither is better, and the trial must not keep the next case waiting."""
    world = World(keys)
    for _ in range(20):
        world.turn()
    world.flipped = True
    lost = world.until("trial_lost")
    assert lost.why.startswith("the champion has recovered by itself (mean loss 0.")
    assert "the challenger's loss is lower by 0.0" in lost.why
    assert 600 <= lost.numbers["events"] < 5000
    world.until("detached")
    for _ in range(10):
        world.turn()
    world.flipped = False
    for _ in range(5):
        world.turn()
    assert world.learner.version == 1
    assert kinds(world).count("confirmed") == 2, "the next change is not missed"


def test_a_version_that_turns_bad_after_its_promotion_is_rolled_back_by_control(keys: Any) -> None:
    """The world turns back: the old champion, which never forgets, was right all along, and the new one is not."""
    canary = {"canary": [0.25], "canary_events": 100}
    world = World(keys, pipeline="naive_bayes", trial={"min_events": 300, "watch_events": 8000, **canary})
    for _ in range(40):
        world.turn()
    world.flipped = True
    world.until("recovered")
    assert world.learner.version == 2
    world.flipped = False
    started = world.until("rollback_started", turns=70)
    assert (started.by, started.version) == ("control", 1)
    assert started.numbers["peak"] >= started.numbers["threshold"]
    assert started.numbers["mean_difference"] > 0
    world.until("rolled_back", turns=5)
    assert (world.learner.version, world.learner.parked_version, world.learner.shadow_version) == (1, 2, None)
    assert_replayed(world)


SLOW: dict[str, Any] = {"pipeline": "logistic", "params": {"learning_rate": 0.002}}


def test_a_champion_that_unlearns_slowly_is_helped_on_by_a_warm_start(keys: Any) -> None:
    """A copy of it passes over the window some times more, and both its making and the story can be done again."""
    strategy = {"how": "warm", "half_life": 2000.0}
    world = World(keys, **SLOW, retrain={"min_events": 100, "catch_up_records": 50, "epochs": 8, "strategy": strategy})
    for _ in range(20):
        world.turn()
        world.checkpoint()
    world.flipped = True
    position = world.learner.position
    world.until("confirmed")
    world.checkpoint()
    started = world.until("retrain_started")
    assert started.numbers["strategy"] == {"how": "warm", "window": "change", "half_life": 2000.0}
    assert started.numbers["bases"]["0"]["version"] == 1
    assert started.numbers["starts"]["0"] < position + 300
    assert "by a copy of version 1 as it was at offset" in started.why
    fitted = world.until("retrained")
    assert "labelled events were thinned out for their age" in fitted.why
    assert 0 < fitted.numbers["shards"]["0"]["thinned"] < fitted.numbers["shards"]["0"]["learned"]
    world.control = world.restarted()
    world.until("promoted")
    world.until("recovered")
    assert_replayed(world)
    again = replay(world.settings, "m", 0, world.log, world.keys, DriftWatch, world.made_again, world.learner.position)
    assert checkpoint.digest(again) == checkpoint.digest(world.learner)


FEATURES: dict[str, Any] = {
    "drift": {**TREE["models"]["m"]["drift"], "features": {"window": 200, "reference": 1000, "every_s": 1.0}}
}


def weights(world: World) -> str:
    """What the champion has learned."""
    return digest(world.learner.champion.estimator)


def kinds(world: World) -> list[str]:
    return [decision.kind for decision in world.decisions()]


def test_nulls_break_in_and_the_model_is_held_until_they_are_gone(keys: Any) -> None:
    world = World(keys, **FEATURES)
    for _ in range(20):
        world.turn()
    world.mangle = lambda x: {**x, "a": None}
    start = world.learner.position
    held = world.until("held", turns=6)
    diagnosis = held.numbers["diagnosis"]
    assert (held.by, diagnosis["kind"], diagnosis["features"]) == ("diagnosis", "null_jump", ["a"])
    assert "'a' is missing in 0% of the events before" in held.why
    world.read()
    assert world.learner.held is not None
    assert world.learner.held_from - start <= 600
    frozen, learned = weights(world), world.learner.n
    for _ in range(10):
        world.turn()
    world.control = world.restarted()  # what is held heals all the same
    for _ in range(10):
        world.turn()
    assert weights(world) == frozen
    assert world.learner.n == learned + 2000
    world.mangle = lambda x: x
    resumed = world.until("resumed", turns=15)
    assert (resumed.by, resumed.numbers["healed"]) == ("diagnosis", True)
    assert world.learner.held is None
    assert world.learner.held_ranges[-1][1] - world.learner.held_ranges[-1][0] > 2000
    for _ in range(20):
        world.turn()
    assert weights(world) != frozen
    assert kinds(world) == [
        "registered", "case_opened", "confirmed", "held", "broken_input", "resumed", "detectors_reset", "range_skipped"
    ]  # fmt: skip
    assert world.control.states()["m"].skipped[0] == world.learner.held_ranges  # and no retrain will learn it


def test_a_feature_that_becomes_a_string_breaks_the_schema(keys: Any) -> None:
    world = World(keys, **FEATURES)
    for _ in range(20):
        world.turn()
    world.mangle = lambda x: {**x, "b": f"{x['b']:.3f}"}
    held = world.until("held", turns=6)
    assert held.numbers["diagnosis"]["kind"] == "schema_break"
    assert "b" in held.numbers["diagnosis"]["features"]
    for _ in range(5):
        world.turn()
    world.mangle = lambda x: x
    world.until("resumed", turns=20)
    world.turn()
    assert world.learner.held is None


def test_features_that_move_without_harm_are_told_of_once_and_change_nothing(keys: Any) -> None:
    world = World(keys, **FEATURES)
    for _ in range(20):
        world.turn()
    world.mangle = lambda x: {**x, "b": x["b"] + 3.0}  # the label does not depend on it
    told = world.until("feature_drift", turns=20)
    assert [feature["name"] for feature in told.numbers["features"]] == ["b"]
    world.control = world.restarted()
    for _ in range(30):
        world.turn()
    assert kinds(world) == ["registered", "feature_drift"]
    view = msgspec.json.decode(world.store.views("model")["m"])
    assert (list(view["features"]["drifted"]), view["held"], view["features"]["seen"]["flagged"]) == (["b"], None, ["b"])


def test_a_loss_that_rises_alone_is_a_concept_drift_and_is_retrained_for(keys: Any) -> None:
    world = World(keys, pipeline="naive_bayes", **FEATURES)
    for _ in range(20):
        world.turn()
    world.flipped = True
    confirmed = world.until("confirmed")
    assert confirmed.numbers["diagnosis"]["kind"] == "concept_drift"
    world.until("promoted")
    assert not {"held", "feature_drift"} & set(kinds(world))


def test_a_drift_tells_its_whole_story(keys: Any) -> None:
    world = World(keys, pipeline="naive_bayes", **FEATURES)
    for _ in range(20):
        world.turn()
    world.flipped = True
    world.mangle = lambda x: {name: value + 3.0 if isinstance(value, float) else value for name, value in x.items()}
    confirmed = world.until("confirmed")
    assert len(msgspec.json.encode(confirmed)) < 3000
    world.until("trial_started")
    world.turn()
    world.control = world.restarted()
    world.until("recovered")
    world.turn()
    told = story(world.view("case", confirmed.case))
    assert [name for name, part in told.items() if not part] == []
    assert told["alarm"]["change_offset"] == pytest.approx(2000, abs=100)
    sides = told["windows"]
    for side in ("before", "after"):
        right, wrong = told["losses"][side]
        assert (right + wrong, wrong / (right + wrong)) == (sides[side]["n"], pytest.approx(sides[side]["mean"]))
    assert told["test"]["p"] <= told["test"]["level"] < told["test"]["alpha"]
    assert {one["name"] for one in told["features"]} == set(told["diagnosis"]["features"])
    assert all(sum(one["histogram"]["after"][:10]) == 0 for one in told["features"])
    assert told["decision"]["sum"] > told["decision"]["threshold"] == told["decision"]["kappa"]
    growth = told["trial"]["growth"]
    assert growth["events"] == sorted(growth["events"])
    assert growth["events"][-1] == told["trial"]["events"]
    assert max(growth["e"]) > told["trial"]["threshold"] > growth["e"][0]
    assert (told["trial"]["ended"], told["verdict"]["kind"]) == ("trial_won", "recovered")


def contract(**features: Any) -> dict[str, Any]:
    """Settings under which features are looked at often."""
    watched = {**FEATURES["drift"]["features"], "reference": 600, **features}
    return {"drift": {**FEATURES["drift"], "features": watched}, "trial": {"min_events": 300, "watch_events": 600}}


def opened(world: World) -> Decision:
    """The one contract case, which is promoted in the end, and then all is quiet."""
    world.until("promoted")
    world.until("recovered")
    for _ in range(40):
        world.turn()
    [case] = [one for one in world.decisions() if one.kind == "case_opened" and one.numbers["kind"] == "contract"]
    assert [one.case for one in world.decisions() if one.kind == "promoted"] == [case.case]
    return case


def dead(world: World) -> list[str]:
    return [letter.reason for letter in world.learner.dead]


def test_a_feature_appears_and_a_version_that_knows_it_comes_into_service(keys: Any) -> None:
    world = World(keys, **contract())
    for _ in range(15):
        world.turn()
    start = world.learner.position
    world.mangle = lambda x: {**x, "c": 2 * x["a"], f"word{world.count % 90}": 1.0}
    case = opened(world)
    assert case.numbers["changes"] == [{"feature": "c", "what": "appeared", "was": "", "is": "number"}]
    assert "'c' came, a number" in case.why
    assert start <= case.numbers["starts"]["0"] <= start + 100
    started = next(one for one in world.decisions() if one.kind == "retrain_started")
    assert started.numbers["starts"] == case.numbers["starts"]
    assert world.learner.version == 2
    assert world.learner.champion.types["c"] == "number"
    documents = {id: msgspec.json.decode(doc) for id, doc in world.store.views("version").items()}
    assert {name: documents["m@2"]["features"][name] for name in "abc"} == dict.fromkeys("abc", "number")
    assert {"a", "b", "c"} <= set(documents["m@1"]["features"]), "it has come to know the name too, before it was let go"
    assert documents["m@2"]["features_in_all"] == len(documents["m@2"]["features"])
    assert dead(world) == []
    assert_replayed(world)


def test_a_type_changes_and_is_followed_without_an_event_refused(keys: Any) -> None:
    world = World(keys, **contract(contract="follow"))
    for _ in range(15):
        world.turn()
    model, before = world.learner.champion, world.learner.n
    world.mangle = lambda x: {**x, "a": "high" if x["a"] > 0 else "low"}
    start = world.learner.position
    world.turn()
    assert world.learner.n == before + 100, "every event was predicted and learned"
    assert world.learner.counters["features_left_out"] == 100
    assert model.answer({"a": "high", "b": 0.5}) == model.answer({"b": 0.5})
    case = opened(world)
    assert case.numbers["changes"] == [{"feature": "a", "what": "type", "was": "number", "is": "string"}]
    assert case.numbers["starts"] == {"0": start}
    assert "held" not in kinds(world)
    assert dead(world) == []
    assert world.learner.champion.types == {"a": "string", "b": "number"}
    answers = [world.learner.champion.answer({"a": a, "b": 0.1}).y for a in ("high", "low")]
    assert answers == [True, False], "the new version has learned from the new type"
    documents = {id: msgspec.json.decode(doc) for id, doc in world.store.views("version").items()}
    assert documents["m@1"]["features"] == {"a": "number", "b": "number"}
    assert documents["m@2"]["features"] == {"a": "string", "b": "number"}
    assert_replayed(world)


def test_a_followed_type_is_learned_wherever_the_window_begins(keys: Any) -> None:
    """Every later fit goes by the types that features have now, also where its window begins with the old ones."""
    world = World(keys, **contract(contract="follow"))
    for _ in range(15):
        world.turn()
    world.mangle = lambda x: {**x, "a": str(x["a"] > 0)}
    opened(world)
    request = Request("r1", "m", "retrain", "ann", world.clock())
    world.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()
    world.turn()
    [spec] = [one.numbers["fit"] for one in world.decisions() if one.kind == "retrain_started" and one.case == "m-2"]
    assert spec["types"] == {"a": "string"}


def test_a_person_accepts_that_a_feature_vanished(keys: Any) -> None:
    world = World(keys, **contract())
    for _ in range(15):
        world.turn()
    world.mangle = lambda x: {"a": x["a"]}
    world.until("held", turns=6)
    for _ in range(5):
        world.turn()
    assert "case_opened" not in kinds(world)[kinds(world).index("held"):]
    ask_to_resume(world)
    case = opened(world)
    assert case.numbers["changes"] == [{"feature": "b", "what": "vanished", "was": "number", "is": ""}]
    assert world.learner.champion.types == {"a": "number"}
    assert world.learner.held is None
    assert_replayed(world)


def test_a_person_accepts_that_a_feature_has_another_type(keys: Any) -> None:
    """The old champion goes on without it, and the new version serves as strictly as before."""
    world = World(keys, **contract())
    for _ in range(15):
        world.turn()
    world.mangle = lambda x: {**x, "a": "high" if x["a"] > 0 else "low"}
    world.until("held", turns=6)
    for _ in range(3):
        world.turn()
    refused, learned = len(dead(world)), world.learner.n
    assert refused >= 300
    ask_to_resume(world)
    world.turn()
    assert world.learner.n >= learned + 100
    case = opened(world)
    assert case.numbers["changes"] == [{"feature": "a", "what": "type", "was": "number", "is": "string"}]
    assert len(dead(world)) <= refused + 100
    champion = world.learner.champion
    assert (champion.types, champion.lenient) == ({"a": "string", "b": "number"}, False)
    assert_replayed(world)


def ask_to_resume(world: World) -> None:
    request = Request("r1", "m", "resume", "ann", world.clock())
    world.log.append(CONTROL, [Entry(b"", msgspec.json.encode(request), partition=0)]).result()
    world.until("resumed", turns=3)
TREE_PATH = "sklearn.tree:DecisionTreeClassifier"
SEARCHING: dict[str, Any] = {
    "min_events": 100,
    "catch_up_records": 50,
    "strategy": {"how": "search"},
    "search": {"candidates": [{"pipeline": TREE_PATH, "params": {"max_depth": 8}}, {"pipeline": "no_such"}]},
}
CROSSED = {"pipeline": "naive_bayes", "params": {}, "seed": 42}  # what the file says


def crossed(x: dict[str, Any]) -> dict[str, Any]:
    """The label, which was the sign of `a`, is now whether `a` and `b` have one sign: no champion of this test learns that."""
    return {"a": x["a"] if x["b"] > 0 else -x["a"], "b": x["b"]}


def searched(keys: Any, **retrain: Any) -> World:
    world = World(keys, pipeline="naive_bayes", retrain={**SEARCHING, **retrain})
    for _ in range(20):
        world.turn()
    world.mangle = crossed
    return world


def test_a_search_finds_another_recipe_which_is_fitted_tried_and_serves(keys: Any) -> None:
    world = searched(keys)
    world.until("retrain_started")
    world.control = world.restarted()  # the search begins again
    retrained = world.until("retrained")
    found = retrained.numbers["search"]
    assert found["recipe"]["pipeline"] == TREE_PATH
    assert retrained.why.startswith(f"the search chose DecisionTreeClassifier(max_depth=8): {found['report']['why']}")
    candidates = {one["pipeline"]: one for one in found["report"]["candidates"]}
    assert candidates["no_such"]["dropped"].startswith("failed: there is no recipe")
    assert candidates["naive_bayes"]["loss"] > candidates[TREE_PATH]["loss"] + 0.1
    world.until("promoted")
    world.until("recovered")
    assert world.learner.champion.estimator.fitted is not None
    assert [decision.kind for decision in world.decisions()].count("case_opened") == 1, "it passed for a changed file"
    state = world.control.states()["m"]
    assert state.recipes[2] == {**found["recipe"], "asked": CROSSED}
    again = world.restarted()
    again.tick()
    assert again.states()["m"].recipes == state.recipes
    views = {kind: world.view(kind, id) for kind, id in (("model", "m"), ("case", "m-1"), ("version", "m@2"))}
    assert views["model"]["differs"] is None
    assert views["case"]["search"] == views["version"]["search"] == found["report"]
    assert views["version"]["settings"]["pipeline"] == TREE_PATH
    assert_replayed(world)


def test_the_spec_of_its_command_makes_the_very_same_version_again(keys: Any) -> None:
    world = searched(keys)
    command = world.until("trial_started").numbers["command"]
    spec = msgspec.convert(command["specs"]["0"], FitSpec)
    assert (spec.settings["pipeline"], spec.stop) == (TREE_PATH, command["trained_to"]["0"])
    made = fit(spec, world.log.reopen, world.keys, lambda done, total: None)
    models = [
        pickle.loads(open_blob(blob, world.keys, kind="version", model="m", shard=0, version=2).part("model"))
        for blob in (made, world.store.version("m", 2, 0))
    ]
    assert digest(models[0]) == digest(models[1])


def test_a_file_that_is_changed_later_is_noticed_for_a_searched_version_too(keys: Any) -> None:
    world = searched(keys)
    world.until("recovered")
    tree = {**TREE, "models": {"m": {**TREE["models"]["m"], "pipeline": "logistic", "retrain": SEARCHING}}}
    world.settings = parse(tree, {})
    world.control = world.restarted()
    world.scored.clear()
    opened = world.until_kind_of_case("changed")
    assert opened.numbers["was"] == CROSSED
    words = "pipeline is 'logistic' in the file and 'naive_bayes' when version 2 was searched for"
    assert words in world.view("model", "m")["differs"]
    while world.until("retrained").version != 3:
        world.turn()
    assert "logistic" in world.scored
    assert world.scored[0] == TREE_PATH, "what serves is among the candidates"
    assert world.control.states()["m"].recipes[3]["asked"]["pipeline"] == "logistic"


def test_catching_up_fits_what_was_found_and_does_not_search_again(keys: Any) -> None:
    world = searched(keys, max_gap_records=60)
    world.until("retrained")
    began = [decision for decision in world.decisions() if decision.kind == "retrain_started"]
    assert began[0].numbers["fit"]["settings"]["pipeline"] == "naive_bayes"
    world.log.append("clicks", [Entry(b"k", b"{}")] * 100).result()  # the head moves on before the trial
    scored = len(world.scored)
    world.control = world.restarted()
    world.until("trial_started")
    again = [decision for decision in world.decisions() if decision.kind == "retrain_started"][1:]
    assert [decision.numbers["fit"]["settings"]["pipeline"] for decision in again] == [TREE_PATH] * len(again)
    assert len(world.scored) == scored
    assert world.control.states()["m"].recipes[2]["asked"] == CROSSED


def test_when_every_candidate_fails_the_retrain_fails_with_the_reasons(keys: Any, monkeypatch: Any) -> None:
    world = searched(keys, attempts=1)
    monkeypatch.setattr(world, "score", lambda *_: DoneJob(RetrainError("memory", "needed more than 1 MiB")))
    failed = world.until("retrain_failed")
    assert "no candidate is left: naive_bayes" in failed.why
    assert "memory: needed more than 1 MiB" in failed.why


def test_a_search_and_a_fit_of_more_events_than_they_may_hold_take_an_even_sample_and_say_so(keys: Any) -> None:
    world = searched(keys, strategy={"how": "search", "max_events": 400}, min_events=500)
    retrained = world.until("retrained")
    report, [shard] = retrained.numbers["search"]["report"], retrained.numbers["shards"].values()
    assert 200 <= report["kept"] <= 400 < report["labelled"]
    assert retrained.numbers["search"]["recipe"]["pipeline"] == TREE_PATH
    assert f"it was fitted to {shard['fitted_to']} of {shard['gathered']} labelled events, evenly spread" in retrained.why
