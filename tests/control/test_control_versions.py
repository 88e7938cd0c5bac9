"""The registry: a version's whole story and what served when, folded from the control log alone."""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn import __version__
from streamlearn.control.facts import settings_digest
from streamlearn.control.versions import enter
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision
from streamlearn.store.codec import river_version


def served(stage: Any, **about: Any) -> list[tuple[Any, ...]]:
    """(version, since by control's log, until) of each stretch."""
    items = stage.view("history", **about)["items"]
    return [(item["version"], item["since"]["control"], item["until"] and item["until"]["control"]) for item in items]


def offset_of(stage: Any, kind: str) -> int:
    """Where the last decision of this kind lies."""
    values = stage.log.read(CONTROL, 0, 0, 100_000)
    return max(record.offset for record in values if f'"kind":"{kind}"'.encode() in record.value)


def test_a_version_says_what_made_it(stage: Any) -> None:
    stage.learner.alarm(change_offset=800)
    stage.learner.window()
    stage.until("recovered")
    stage.turn()
    table = stage.settings.models["m"].model_dump(mode="json")
    made = {"streamlearn": __version__, "river": river_version(), "python": platform.python_version()}
    for version in (1, 2):
        doc = stage.view("version", f"m@{version}")
        assert doc["settings"] == table
        assert doc["made_with"] == made | {"settings_sha256": settings_digest(table)}
    assert doc["window"] == {"starts": {"0": 800}, "until": {"0": doc["window"]["until"]["0"]}}
    times = doc["times"]
    assert times["starts"]["0"] <= times["until"]["0"]
    assert times["trained_to"] == {"0": 0.0}  # the append time in the blob's header


def test_a_version_says_what_its_fit_gave(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.turn()
    doc, blob = stage.view("version", "m@2"), stage.store.version("m", 2, 0)
    assert doc["blobs"]["0"]["sha256"] == hashlib.sha256(blob).hexdigest()
    assert (doc["blobs"]["0"]["bytes"], doc["learned"], doc["skipped"]) == (len(blob), 800, 3)
    assert doc["fit_s"] == doc["fitted_at"] - stage.decisions()[3].at > 0


def test_a_version_says_how_it_was_tried_and_who_decided(stage: Any) -> None:
    stage.status(stage.learner, scores={"window": {"accuracy": 0.9}, "calibration": []})
    stage.learner.drift()
    won = stage.until("trial_won")
    stage.until("recovered")
    stage.turn()
    doc = stage.view("version", "m@2")
    trial = doc["trial"]
    assert (trial["e"], trial["interval"], trial["ended"]) == (won.numbers["e"], won.numbers["interval"], "trial_won")
    assert trial["champion_loss"] - trial["challenger_loss"] == pytest.approx(trial["mean_difference"])
    assert trial["champion_loss"] == pytest.approx(0.5)
    assert (doc["promoted"]["by"], doc["promoted"]["why"]) == ("control", won.why)
    assert doc["promoted"]["instead_of"] == 1
    assert doc["promoted"]["positions"]["0"] > 1000
    assert doc["promoted"]["scores"]["0"]["n"] > 0
    kinds = [told["kind"] for told in doc["decisions"]]
    assert kinds == ["retrain_started", "retrained", "trial_started", "trial_won", "promoted"]


def test_a_promotion_by_hand_is_told_as_the_persons(stage: Any) -> None:
    stage.learner.gain = 0.0
    stage.ask("retrain")
    stage.until("trial_started")
    stage.turn()
    stage.ask("promote", reason="it is needed now")
    stage.until("promoted")
    stage.turn()
    doc = stage.view("version", "m@2")
    assert doc["promoted"]["by"] == "ann"
    assert "it is needed now" in doc["promoted"]["why"]
    assert stage.view("history")["items"][-1]["by"] == "ann"


def test_what_served_when(stage: Any) -> None:
    stage.settle()
    first = stage.view("history")["items"][0]
    assert (first["version"], first["until"], first["why"]) == (1, None, "the model was first seen in the configuration")
    stage.learner.drift()
    stage.until("recovered")
    promoted = offset_of(stage, "promoted")
    stage.ask("rollback", reason="too slow")
    stage.until("rolled_back")
    stage.turn()
    back = offset_of(stage, "rolled_back")
    assert served(stage) == [(1, 0, promoted), (2, promoted, back), (1, back, None)]
    last = stage.view("history")["items"][-1]
    assert (last["by"], last["case"]) == ("ann", "m-1")
    assert "too slow" in last["why"]
    assert last["since"]["positions"] == {"0": stage.learner.position}
    assert stage.view("version", "m@2")["fate"] == "rolled_back"
    assert stage.view("version", "m@1")["fate"] == "champion"


def test_a_lost_trial_served_nothing(stage: Any) -> None:
    stage.learner.gain = 0.0
    stage.learner.drift()
    stage.until("trial_started")
    stage.ask("cancel")
    stage.settle()
    doc = stage.view("version", "m@2")
    assert (doc["fate"], doc["promoted"], doc["trial"]["ended"]) == ("lost", None, "trial_lost")
    assert len(stage.view("history")["items"]) == 1


def test_shards_swap_at_positions_of_their_own(make_stage: Any) -> None:
    stage = make_stage(shards=2)
    stage.learners[1].post(70)
    for learner in stage.learners:
        learner.drift()
    stage.until("promoted")
    stage.turn()
    positions = stage.view("history")["items"][-1]["since"]["positions"]
    assert set(positions) == {"0", "1"}
    assert positions["1"] - positions["0"] == 70


def test_the_registry_is_made_again_from_the_log(stage: Any) -> None:
    stage.learner.drift()
    stage.until("recovered")
    stage.ask("rollback")
    stage.until("rolled_back")
    stage.settle()
    before = {key: doc for key, doc in stage.views().items() if key[0] in ("version", "history")}
    assert len(before) == 3
    stage.store.empty()
    stage.kill()
    stage.settle()
    assert {key: doc for key, doc in stage.views().items() if key[0] in ("version", "history")} == before


def test_decisions_of_before_have_less_to_say(stage: Any) -> None:
    """Records of a service that did not write these facts down yet."""
    for kind, version, numbers in (
        ("registered", 1, {"stream": "clicks", "task": "binary", "pipeline": "logistic", "partitions": 1}),
        ("case_opened", None, {"kind": "manual"}),
        ("retrain_started", 2, {"run": 1, "attempt": 1, "catch_ups": 0, "fit": {}, "starts": {"0": 0}, "until": {"0": 9}}),
        ("retrained", 2, {"run": 1, "trained_to": {"0": 9}, "took_s": 1.5}),
    ):
        old = Decision("m", kind, 1.0, "" if kind == "registered" else "m-1", version, numbers=numbers)
        stage.log.append(CONTROL, [Entry(b"", msgspec.json.encode(old), partition=0)]).result()
    stage.control._fold()
    docs = {key: msgspec.json.decode(doc) for key, doc in stage.control._book.changed().items()}
    doc = docs["version", "m@2"]
    assert (doc["fate"], doc["trained_to"], doc["made_with"], doc["settings"], doc["learned"]) == (
        "fitted", {"0": 9}, None, None, None,
    )  # fmt: skip
    assert docs["history", "m"]["items"][0]["since"]["positions"] == {}


def test_a_version_promoted_without_a_trial_was_decided_by_who_opened_the_case() -> None:
    class Standing:
        name, version, previous, settings = "m", 5, 4, None

    docs: dict[Any, Any] = {
        ("case", "m-3"): {"kind": "restore", "steps": [{"by": "ann", "why": "it knew the summer"}]},
        ("version", "m@5"): {"decisions": [{"by": "control", "why": "no trial", "command": "promote"}]},
    }
    after = dict(enter(docs, 9, Decision("m", "promoted", 1.0, "m-3", 5), Standing))  # type: ignore[arg-type]  # all that is looked at
    assert after["version", "m@5"]["promoted"]["by"] == "ann"
    assert after["history", "m"]["items"][-1]["why"] == "it knew the summer"


def test_a_version_that_grew_from_another_has_it_as_its_parent() -> None:
    class Standing:
        name, version, previous = "m", 5, 4

    docs: dict[Any, Any] = {("case", "m-3"): {"kind": "restore", "steps": []}}
    numbers = {"starts": {"0": 1}, "until": {"0": 2}, "bases": {"0": {"kind": "version", "id": 2}}, "skip": {"0": [[1, 2]]}}
    started = Decision("m", "retrain_started", 1.0, "m-3", 6, numbers=numbers)
    doc = dict(enter(docs, 9, started, Standing))["version", "m@6"]  # type: ignore[arg-type]  # all that is looked at
    assert (doc["parent"], doc["reason"], doc["case"]) == (2, "restore", "m-3")
    assert (doc["bases"], doc["skip"]) == (numbers["bases"], numbers["skip"])


@given(st.lists(st.sampled_from(["promoted", "rolled_back"]), max_size=12))
def test_stretches_never_leave_a_gap(kinds: list[str]) -> None:
    class Standing:
        name, version, previous = "m", 1, None

    docs: dict[Any, Any] = {}
    for offset, kind in enumerate(["registered", *kinds]):
        decision = Decision("m", kind, float(offset), version=offset + 1, numbers={"from": 0, "at": {"0": offset}})
        docs |= dict(enter(docs, offset, decision, Standing))  # type: ignore[arg-type]  # all that is looked at
    items = docs["history", "m"]["items"]
    assert len(items) == len(kinds) + 1
    assert [item["until"] for item in items] == [*(item["since"] for item in items[1:]), None]
    assert [item["version"] for item in items] == list(range(1, len(items) + 1))


def test_a_version_says_which_features_it_knows(make_stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was fitted, over all shards; and once it no longer serves, as the learners told when they let it go."""
    summaries = {
        0: {"features": 2, "types": {"a": "number", "z": "string"}},
        1: {"features": 3, "types": {"a": "string", "b": "number"}},
    }
    stage = make_stage(shards=2)
    fitted = fits_that_say(stage, summaries, monkeypatch)
    for learner in stage.learners:
        told = learner.tell
        knew = {"features": 7, "types": {"a": "number", f"own{learner.shard}": "string"}}

        def tell(kind: str, told: Any = told, knew: Any = knew, **data: Any) -> None:
            told(kind, **data, **({"knew": knew} if data.get("verb") in ("promote", "rollback") else {}))

        monkeypatch.setattr(learner, "tell", tell)
    stage.turn()
    assert (stage.view("version", "m@1")["features"], stage.view("version", "m@1")["features_in_all"]) == (None, None)
    stage.learner.drift()
    stage.until("recovered")
    stage.turn()
    one, two = stage.view("version", "m@1"), stage.view("version", "m@2")
    assert sorted(fitted) == [0, 1]
    assert (two["features"], two["features_in_all"]) == ({"a": "number", "b": "number", "z": "string"}, 3)
    assert all("types" not in blob for blob in two["blobs"].values())
    assert (one["features"], one["features_in_all"]) == ({"a": "number", "own0": "string", "own1": "string"}, 7)
    stage.ask("rollback")
    stage.until("rolled_back")
    stage.turn()
    assert stage.view("version", "m@2")["features"] == one["features"]
    views = stage.views()
    stage.store.clear_views()
    stage.kill()
    stage.settle()
    assert {key: doc for key, doc in stage.views().items() if key[0] == "version"} == {
        key: doc for key, doc in views.items() if key[0] == "version"
    }


def fits_that_say(stage: Any, summaries: dict[int, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the fake fits write these summaries; the shards for which they did."""
    seen: list[int] = []
    module = sys.modules[type(stage.jobs).__module__]
    plain = module.encode

    def encode(**fields: Any) -> Any:
        seen.append(fields["shard"])
        return plain(**fields | {"extra": {**fields["extra"], "summary": summaries[fields["shard"]]}})

    monkeypatch.setattr(module, "encode", encode)
    return seen
