"""A canary in a learner: its command, what ends it, what it tells of served answers, and what is published of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from learning_bench import Stage

from streamlearn.learning import checkpoint, publication
from streamlearn.learning.canary import Canary
from streamlearn.learning.learner import ODD_IN_A_ROW, Learner

CANARY = {"version": 2, "share": 0.25, "salt": "m@2"}


def on_trial(size: int = 2, **model: Any) -> tuple[Stage, Learner]:
    stage = Stage(trial={"min_block": size}, **model)
    for id in ("a", "b", "c"):
        stage.xy(id)
    stage.command("try", version=2, trained_to={"0": stage.fit(2, start=1)})
    return stage, stage.learn()


def on_canary(size: int = 2, **model: Any) -> tuple[Stage, Learner]:
    stage, learner = on_trial(size, **model)
    stage.command("canary", **CANARY)
    return stage, stage.learn(learner)


def told(stage: Stage) -> list[Any]:
    """What the block signals say of served answers, None where they say nothing."""
    return [signal.data.get("canary") for signal in stage.signals if signal.kind == "block"]


def test_the_command_sets_the_share_and_is_answered() -> None:
    stage, learner = on_canary()
    assert learner.canary is not None
    assert learner.canary.extra == CANARY
    assert (learner.canary.step, learner.canary.since) == (stage.seq, 0)
    assert stage.signals[-1].kind == "applied"
    assert stage.signals[-1].data["verb"] == "canary"
    assert (learner.version, learner.shadow_version) == (1, 2)


def test_a_larger_share_begins_another_step() -> None:
    stage, learner = on_canary()
    stage.command("canary", version=2, share=0.5, salt="m@2")
    stage.learn(learner)
    assert learner.canary is not None
    assert (learner.canary.share, learner.canary.step) == (0.5, stage.seq)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"version": 3}, "not_in_trial"), ({"version": None}, "not_in_trial"), ({"share": 0.0}, "bad_share"),
        ({"share": 1.0}, "bad_share"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_canary_is_refused(more: dict[str, Any], reason: str) -> None:
    stage, learner = on_trial()
    stage.command("canary", **(CANARY | more))
    stage.learn(learner)
    assert (stage.signals[-1].kind, stage.signals[-1].data["reason"]) == ("refused", reason)
    assert learner.canary is None


def test_without_a_trial_or_after_the_promotion_there_is_none() -> None:
    stage = Stage()
    stage.command("canary", **CANARY)
    assert stage.learn().canary is None
    assert stage.signals[-1].data["reason"] == "not_in_trial"
    stage, learner = on_trial()
    stage.command("promote", version=2)
    stage.command("canary", version=1, share=0.25, salt="m@1")
    stage.learn(learner)
    assert stage.signals[-1].data["reason"] == "not_in_trial"


@pytest.mark.parametrize("end", ["detach", "promote", "rollback", "try", "failure"])
def test_it_ends_with_what_ends_the_trial(end: str) -> None:
    stage, learner = on_canary()
    if end == "failure":
        learner.drop_shadow("by chance")
    elif end == "rollback":
        learner.parked, learner.parked_version = learner.champion, 0
        stage.command("rollback", version=0)
    elif end == "try":
        stage.command("try", version=3, trained_to={"0": stage.fit(3)})
    else:
        stage.command(end, version=2)
    stage.learn(learner)
    assert learner.canary is None
    assert publication.standing(learner)[-1] == publication.NO_CANARY


def test_served_answers_are_told_by_version_and_block_as_differences_to_the_champions_own() -> None:
    stage, learner = on_canary(pipeline="learning_bench:always")  # both sides always say True
    for n, (version, shown, y) in enumerate([(1, True, True), (2, False, True), (2, True, True), (2, True, False)]):
        stage.x(f"e{n}")
        stage.served(f"e{n}", shown, version)
        stage.y(f"e{n}", y)
    stage.learn(learner)
    step = stage.seq
    assert told(stage) == [
        {"step": step, "champion": [1, 0.0, 0.0], "challenger": [1, 1.0, 1.0]},  # it was wrong where the champion is right
        {"step": step, "champion": [0, 0.0, 0.0], "challenger": [2, 0.0, 0.0]},  # right, then as wrong as the champion
    ]
    assert learner.outcomes == {1: [1.0, 0.0], 2: [3.0, 2.0]}
    assert learner.canary is not None
    assert not learner.canary.open


def test_a_prediction_that_is_itself_the_question_counts() -> None:
    stage, learner = on_canary(size=1, pipeline="learning_bench:always")
    stage.served("q", False, 2, x={"n": "q"})
    stage.y("q")
    stage.learn(learner)
    assert told(stage)[-1]["challenger"] == [1, 1.0, 1.0]


def test_questions_from_before_the_step_are_left_out_with_the_whole_of_their_block() -> None:
    stage, learner = on_trial(size=2, pipeline="learning_bench:always")
    stage.x("before")
    stage.command("canary", **CANARY)
    for id in ("same block", "after", "after too"):
        stage.x(id)
    for id in ("before", "same block", "after", "after too"):
        stage.served(id, True, 2)
        stage.y(id)
    stage.learn(learner)
    assert [None if one is None else one["challenger"][0] for one in told(stage)] == [None, 2]


def test_other_versions_and_missing_labels_are_left_out() -> None:
    stage, learner = on_canary(size=3, pipeline="learning_bench:always", label_wait_s=50)
    for n, version in enumerate((7, 2, 2)):
        stage.x(f"e{n}", n)
        stage.served(f"e{n}", True, version)
    stage.y("e0", True, 1)
    stage.y("e1", True, 1)
    stage.x("later", 100)  # e2 waits no longer
    stage.learn(learner)
    assert told(stage)[-1]["challenger"][0] == 1
    assert told(stage)[-1]["champion"][0] == 0


def test_a_canary_costs_nothing_when_there_is_none() -> None:
    stage, learner = on_trial(size=1)
    stage.xy("d")
    stage.learn(learner)
    assert told(stage) == [None]


def test_it_is_kept_in_the_checkpoint_with_what_is_open() -> None:
    stage, learner = on_canary(size=2, pipeline="learning_bench:always")
    stage.served("q", False, 2, x={"n": "q"})
    stage.y("q")
    stage.learn(learner)
    other = stage.again(learner)
    assert other.canary == learner.canary
    assert other.canary is not None
    assert other.canary.open == {0: [0, 0, 0, 1, 1.0, 1.0]}
    stage.xy("r")
    at, said = learner.position, len(stage.signals)
    stage.learn(learner)
    one = stage.signals[said:]
    del stage.signals[said:]
    assert other.position == at
    stage.learn(other)
    assert stage.signals[said:] == one
    assert checkpoint.digest(other) == checkpoint.digest(learner)


def test_a_block_that_was_closed_by_force_leaves_nothing_behind() -> None:
    canary = Canary(2, 0.5, "s", 9, since=4)
    canary.outcome(3, 1.0, challenger=True)
    assert not canary.open
    assert canary.close(3) == {}
    canary.outcome(4, -0.5, challenger=False)
    assert canary.close(4) == {"canary": {"step": 9, "champion": [1, -0.5, 0.25], "challenger": [0, 0, 0]}}
    assert canary.close(5) == {"canary": {"step": 9, "champion": [0, 0, 0], "challenger": [0, 0, 0]}}


# What is published.


def test_a_publication_has_both_models_while_it_is_on_and_the_champion_alone_else() -> None:
    stage, learner = on_trial()
    assert set(publication.parts(learner)) == {"model"}
    assert publication.extra(learner) == {"n": 3}
    stage.command("canary", **CANARY)
    stage.learn(learner)
    parts = publication.parts(learner)
    assert set(parts) == {"model", "challenger"}
    assert publication.extra(learner) == {"n": 3, "canary": CANARY}
    assert [id for what, id in pickle.loads(parts["challenger"]).estimator.calls if what == "learn"] == ["b", "c"]
    stage.command("promote", version=2)
    stage.learn(learner)
    assert set(publication.parts(learner)) == {"model"}
    assert publication.extra(learner) == {"n": 3}


def test_the_beginning_and_the_end_of_a_canary_are_news_also_for_a_held_model() -> None:
    stage, learner = on_trial()
    stage.command("hold")
    stage.learn(learner)
    before = publication.standing(learner)
    stage.xy("more labels")
    stage.learn(learner)
    assert publication.stands_still(learner, before)
    stage.command("canary", **CANARY)
    stage.learn(learner)
    assert publication.standing(learner) != before
    assert not publication.stands_still(learner, before)
    learner.odd_in_a_row = ODD_IN_A_ROW
    assert publication.stands_still(learner, before)
