"""A checkpoint holds the whole state: cut anywhere, in any process, a learner goes on as if nothing had happened."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_bench import KEYS, LABELS, Stage, answers, scene

from streamlearn.drift.watch import DriftWatch
from streamlearn.errors import BadSignature, Corrupt, Unexpected
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.learning import checkpoint
from streamlearn.learning.canary import Canary
from streamlearn.learning.learner import Learner
from streamlearn.store import codec

SUPPORT = Path(__file__).parent / "support"

# Task, recipe, and which labels `scene` gives.
KINDS = [
    ("binary", "logistic", "binary"),
    ("binary", "hoeffding_adaptive_tree", "yesno"),
    ("binary", "naive_bayes", "binary"),
    ("multiclass", "softmax", "str"),
    ("multiclass", "naive_bayes", "int"),
    ("multiclass", "hoeffding_tree", "bool"),
    ("regression", "linear", "float"),
    ("regression", "hoeffding_adaptive_tree", "float"),
]
HEAVY = [
    ("binary", "adaptive_random_forest", "binary"),
    ("multiclass", "adaptive_random_forest", "str"),
    ("binary", "passive_aggressive", "binary"),
    ("multiclass", "leveraging_bagging", "int"),
    ("regression", "nearest_neighbours", "float"),
    ("multiclass", "streaming_random_patches", "str"),
]
DRIFT = {"window": 30, "gap": 5, "min_reference": 30, "max_reference": 500}


def busy(task: str, pipeline: str, labels: str, count: int = 120, **more: Any) -> Stage:
    """A log with a bit of everything, a trial and a promotion."""
    if labels == "yesno":
        more["labels"] = ["no", "yes"]
    stage = Stage(task, pipeline, {"allowed_lateness_s": 3}, label_wait_s=42, drift=DRIFT, trial={"min_block": 5}, **more)
    scene(stage, count, labels, 1)
    stage.fit(2, start=stage.end // 3)
    stage.command("try", version=2, trained_to={"0": stage.end})
    stage.command("canary", version=2, share=0.3, salt="m@2")
    for n in range(30):
        stage.served(f"e{count + n}", LABELS.get(labels, [0.5])[0], 1 + n % 2, x={"a": 0.1, "b": "u"})
    scene(stage, count, labels, 2, first=count - 20)
    stage.command("promote", version=2)
    scene(stage, count // 2, labels, 3, first=2 * count - 40)
    return stage


@pytest.mark.parametrize(("task", "pipeline", "labels"), KINDS)
def test_equal_logs_give_equal_learners_whatever_the_batches_and_the_cut(task: str, pipeline: str, labels: str) -> None:
    check_cuts(busy(task, pipeline, labels), examples=6)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "pipeline", "labels"), HEAVY)
def test_equal_logs_give_equal_ensembles_whatever_the_batches_and_the_cut(task: str, pipeline: str, labels: str) -> None:
    check_cuts(busy(task, pipeline, labels), examples=3)


def check_cuts(stage: Stage, examples: int) -> None:
    whole = stage.learn()
    words = (list(stage.signals), list(stage.dead))
    assert whole.version == 2
    blocks = [signal.data for signal in stage.signals if signal.kind == "block"]
    served = sum(data["canary"]["challenger"][0] for data in blocks if "canary" in data)
    assert blocks
    assert served > 0 or stage.settings.models["m"].task == "regression"  # whose losses have no scale yet
    said, want = list(answers(stage, whole)), checkpoint.digest(whole)

    @settings(max_examples=examples, database=None, derandomize=True)
    @given(st.integers(0, stage.end), st.sampled_from([1, 7, 500]))
    def cut(at: int, batch: int) -> None:
        stage.signals.clear()
        stage.dead.clear()
        pieces = stage.again(stage.learn(until=at, batch=batch))
        stage.learn(pieces, batch=batch)
        assert checkpoint.digest(pieces) == want
        assert list(answers(stage, pieces)) == said
        assert (stage.signals, stage.dead) == words

    cut()


PROGRAM = """
import json, sys
from learning_bench import Stage, answers, scene
from streamlearn.learning import checkpoint
for task, pipeline, labels in json.loads(sys.argv[1]):
    more = {"labels": ["no", "yes"]} if labels == "yesno" else {}
    stage = Stage(task, pipeline, label_wait_s=60, default_label=None, **more)
    scene(stage, 150, labels)
    learner = stage.learn()
    print(json.dumps([checkpoint.digest(learner), *answers(stage, learner)]))
"""
ELSEWHERE = [KINDS[0], KINDS[3], KINDS[7], HEAVY[0], HEAVY[3]]


@functools.cache
def elsewhere(hash_seed: int) -> list[list[str]]:
    """Digest and answers of each scene, in another process under that PYTHONHASHSEED."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-c", PROGRAM, json.dumps(ELSEWHERE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(ELSEWHERE)), ids=["-".join(kind) for kind in ELSEWHERE])
def test_another_process_under_another_hash_seed_gives_the_same(place: int) -> None:
    task, pipeline, labels = ELSEWHERE[place]
    stage = Stage(task, pipeline, label_wait_s=60, **({"labels": ["no", "yes"]} if labels == "yesno" else {}))
    scene(stage, 150, labels)
    learner = stage.learn()
    here = [checkpoint.digest(learner), *answers(stage, learner)]
    # The log's identity is not part of a learner, so all three learned from equal records.
    assert elsewhere(1)[place] == elsewhere(4242)[place] == here


def learned(**more: Any) -> tuple[Stage, Learner]:
    stage = Stage(pipeline="logistic", **more)
    scene(stage, 60, "binary")
    return stage, stage.learn()


def test_a_digest_tells_any_two_states_apart() -> None:
    stage, learner = learned()
    seen = {checkpoint.digest(learner)}
    changes: list[tuple[str, Any]] = [
        ("n", 10**6), ("version", 9), ("held", "why"), ("signal_seq", 77), ("last_command", 5), ("odd_in_a_row", 1),
        ("outcomes", {1: [1.0, 0.0]}), ("held_ranges", [(1, 2)]),
        ("canary", Canary(2, 0.05, "m@2", 7, 1)),
    ]  # fmt: skip
    for name, value in changes:
        other = stage.again(learner)
        setattr(other, name, value)
        seen.add(checkpoint.digest(other))
    for change in (
        lambda other: other.join.counters.update(more=1),
        lambda other: other.champion.accept({"new": "number"}),
        lambda other: other.scores.add(True, True, 0.5, None, None),
        lambda other: other.watch.update(1.0, 5, 5),
        lambda other: other.baselines.learn(True),
        lambda other: other.champion.learn({"a": 1.0}, True),
        lambda other: setattr(other.join, "position", 0),
    ):
        other = stage.again(learner)
        change(other)
        seen.add(checkpoint.digest(other))
    assert len(seen) == len(changes) + 8


def test_a_restart_is_not_seen_in_the_digest_nor_in_a_second_restart() -> None:
    stage, learner = learned(default_label=False, label_wait_s=20)
    one = stage.again(learner)
    assert checkpoint.digest(one) == checkpoint.digest(learner)
    assert checkpoint.parts(stage.again(one))["rest"] == checkpoint.parts(learner)["rest"]


def test_only_models_and_the_watch_are_pickles() -> None:
    _, learner = learned()
    parts = checkpoint.parts(learner)
    assert set(parts) == {"join", "scores", "watch", "rest", "read", "champion"}
    for name in ("join", "scores", "watch", "rest", "read"):
        msgspec.msgpack.decode(parts[name])


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "multiclass", "pipeline": "softmax"},
        {"task": "binary", "pipeline": "logistic", "labels": ["no", "yes"]},
    ],
)
def test_a_model_whose_task_or_labels_changed_is_told_to_take_a_new_name(changed: dict[str, Any]) -> None:
    _, learner = learned()
    with pytest.raises(Unexpected, match="new name"):
        checkpoint.load(Stage(**changed).new(), checkpoint.parts(learner), DriftWatch)


class Gone:
    """A step of a pipeline whose class will be gone."""


def test_what_cannot_be_brought_back_is_corrupt_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, learner = learned()
    parts = checkpoint.parts(learner)
    for name in ("join", "scores", "watch", "rest", "read", "champion"):
        with pytest.raises(Corrupt, match="m: "):
            checkpoint.load(stage.new(), {**parts, name: b"\xc1"}, DriftWatch)
        with pytest.raises(Corrupt):
            checkpoint.load(stage.new(), {key: part for key, part in parts.items() if key != name or name == "champion"} | (
                {"champion": b""} if name == "champion" else {}
            ), DriftWatch)  # fmt: skip
    kept = pickle.dumps(Gone())
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    with pytest.raises(Corrupt, match="Gone"):
        checkpoint.load(stage.new(), {**parts, "champion": kept}, DriftWatch)


def test_a_kept_model_obeys_the_limits_of_today() -> None:
    stage, learner = learned()
    stage.settings = stage.settings.model_copy(
        update={"limits": stage.settings.limits.model_copy(update={"max_features": 2, "max_string": 5})}
    )
    again = stage.again(learner)
    assert (again.champion.max_features, again.champion.max_string) == (2, 5)


def sealed(stage: Stage, learner: Learner, keys: KeyRing = KEYS) -> bytes:
    return codec.encode(
        kind="checkpoint",
        model="m",
        version=1,
        shard=0,
        generation=0,
        positions=[Position(stage.log.identity("s"), "s", 0, learner.position)],
        created=0.0,
        parts=checkpoint.parts(learner),
        keys=keys,
    )


def test_the_ledger_accounts_for_every_id_without_opening_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(label_wait_s=10)
    stage.xy("learned", False)
    stage.x("expired")
    stage.x("waits", 20)
    stage.y("early", True, 20)
    stage.put(b"junk")
    learner = stage.learn()
    blob = sealed(stage, learner)
    monkeypatch.setattr(pickle, "loads", None)
    ledger = checkpoint.ledger(blob, KEYS, "m", 0)
    assert ledger.labels == {"learned": False, "expired": None, "waits": None}
    assert (ledger.position, ledger.learned, ledger.pending, ledger.early) == (5, 1, 1, 1)
    assert ledger.counters == {"expired": 1, "malformed": 1}


def test_the_ledger_reads_only_what_was_signed_for_the_model_and_shard() -> None:
    stage, learner = learned()
    blob = sealed(stage, learner)
    with pytest.raises(Unexpected):
        checkpoint.ledger(blob, KEYS, "another", 0)
    with pytest.raises(Unexpected):
        checkpoint.ledger(blob, KEYS, "m", 1)
    with pytest.raises(BadSignature):
        checkpoint.ledger(blob, KeyRing({"other": b"0123456789abcdef"}), "m", 0)
    with pytest.raises(Corrupt):
        checkpoint.ledger(blob[:-1], KEYS, "m", 0)


def test_a_checkpoint_from_before_there_were_canaries_still_loads() -> None:
    stage, learner = learned()
    kept = checkpoint.parts(learner)
    rest = msgspec.msgpack.decode(kept["rest"])
    del rest["canary"]
    other = stage.new()
    checkpoint.load(other, {**kept, "rest": msgspec.msgpack.encode(rest)}, DriftWatch)
    assert other.canary is None
    assert checkpoint.digest(other) == checkpoint.digest(learner)
