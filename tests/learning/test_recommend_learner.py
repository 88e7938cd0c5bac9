"""A recommender's learner with the real recommender: replay, restart, hold, trial by user, and what it says of itself."""

from __future__ import annotations

import random
from typing import Any

import pytest
from learning_bench import Stage
from shop_bench import WINDOW, catalogue, shop, visits

from streamlearn.events import Kind, Prediction, ShownItem, encode, unit_of
from streamlearn.learning import checkpoint, publication
from streamlearn.learning.digest import digest
from streamlearn.learning.interactions import Interactions
from streamlearn.learning.learner import Learner
from streamlearn.learning.recommend_learner import RecommendLearner
from streamlearn.learning.recommending import RecommendModel
from streamlearn.learning.report import status
from streamlearn.recommend.state import Ask

SALT = "m@2"


def filled(labels: str = "wait", count: int = 150, **recommend: Any) -> Stage:
    stage = shop(labels, **recommend)
    catalogue(stage)
    visits(stage, count)
    return stage


def recommended(learner: Learner, user: str = "u1", k: int = 5) -> list[str]:
    ask = Ask(user, 1e9, {}, k)
    return [one.item for one in learner.champion.estimator.recommend(ask, random.Random(1)).items]


@pytest.mark.parametrize("labels", ["wait", "at_once"])
def test_a_replay_and_a_restart_end_the_same(labels: str) -> None:
    stage = filled(labels)
    learner = stage.learn(batch=7)
    assert isinstance(learner, RecommendLearner)
    assert learner.n > 75
    assert learner.taught > 80
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(learner)
    half = stage.again(stage.learn(until=stage.end // 2))
    assert checkpoint.digest(stage.learn(half)) == checkpoint.digest(learner)
    assert {letter.reason for letter in stage.dead} == {"malformed", "shape"}


def test_it_learns_what_users_like() -> None:
    learner = filled(count=600).learn()
    cumulative = learner.view()["cumulative"]
    assert cumulative["hit_rate"] > 0.25  # of 40 items, 20 liked, those seen left out
    loved = sum(int(item[1:]) % 2 for item in recommended(learner, "u1", 10)), sum(
        int(item[1:]) % 2 for item in recommended(learner, "u2", 10)
    )
    assert loved[0] != loved[1] or loved[0] in (0, 10)


def test_what_it_ranks_is_scored_watched_and_never_the_future() -> None:
    stage = filled(count=100)
    learner = stage.learn()
    view = learner.view()
    assert view["n"] == learner.n
    assert 0 < view["cumulative"]["ndcg"] < 1
    assert set(view["baselines"]) == {"no_change", "majority"}
    first = stage.learn(until=len(stage.log.read("s", 0, 0, 1000)) - 1)
    assert first.n <= learner.n
    assert learner.loss(1, 1) == 0.0
    assert learner.loss(1, 3) == pytest.approx(0.5)
    assert (learner.loss(1, 0), learner.loss(1, 11), learner.loss(1, None)) == (1.0, 1.0, None)


def test_slates_are_judged_by_the_version_that_made_them() -> None:
    stage = shop()
    catalogue(stage)
    for index, (version, action) in enumerate([(1, "buy"), (1, None), (2, "click"), (7, None)]):
        served = Prediction("s", f"p{index}", "m", version, user=f"u{index}", items=[ShownItem("i1", 1, 1.0, 0.5)])
        stage.event("x", 0.0, user="x", item="i2", action="view")
        stage.put(encode(served), Kind.PREDICTION)
        if action:
            stage.event(f"p{index}", 1.0, user=f"u{index}", item="i1", action=action)
    stage.event("end", WINDOW + 10, user="x", item="i3", action="view")
    learner = stage.learn()
    assert learner.outcomes == {1: [2.0, 1.0], 2: [1.0, pytest.approx(0.8)], 7: [1.0, 1.0]}
    told = learner.view()
    assert told["impressions"]["n"] == 4
    assert told["impressions"]["reward"] == pytest.approx(0.3)
    assert told["calibration"][0]["count"] == 4
    assert told["delay"]["clicked"] == pytest.approx(0.5)
    assert told["state"]["items"] == 40


def test_a_status_tells_of_delays_and_of_what_was_let_go() -> None:
    stage = filled(count=150, max_users=10, max_items=20)
    learner = stage.learn()
    told = status(
        learner, generation=1, log="l", end=learner.position, at=0.0, stopped=None, rate=0.0, ages=[], pauses={},
        checkpoint_at=None,
    )  # fmt: skip
    assert told.scores["state"]["users"] <= 10
    assert told.scores["state"]["users_evicted_lru"] > 0
    assert 0 < told.delay["p50_s"] <= told.delay["p90_s"] <= WINDOW
    assert told.pending == len(learner.join.pending) > 0
    assert encode(told)


def test_the_same_state_is_published_again_once_an_item_is_gone() -> None:
    stage = filled(count=50)
    learner = stage.learn()
    before = publication.standing(learner)
    gone = recommended(learner)[0]
    stage.event(None, 60.0, item=gone, action="$set", x={"available": False})
    stage.learn(learner)
    assert learner.n == before[0]
    assert publication.standing(learner) != before
    assert gone not in recommended(learner, k=40)


def test_while_held_it_takes_facts_and_nothing_else() -> None:
    stage = filled(count=100)
    learner = stage.learn()
    stage.command("hold", reason="asked")
    stage.learn(learner)
    before, n, slates = digest(learner.champion.estimator), learner.n, learner.view()["impressions"]["n"]
    published = publication.standing(learner)
    visits(stage, 150, first=100, users=30, seed=5)
    held = stage.learn(stage.again(learner))
    assert held.n > n
    assert held.view()["impressions"]["n"] > slates
    ranker = held.champion.estimator.ranker
    assert digest(ranker) == digest(learner.champion.estimator.ranker)
    stage.event(None, 260.0, item="i3", action="$set", x={"available": False})
    stage.learn(held)
    assert "i3" not in recommended(held, k=40)
    assert not publication.stands_still(held, published)
    assert digest(learner.champion.estimator) == before
    stage.command("resume")
    stage.learn(held)
    assert held.held is None
    assert len(held.held_ranges) == 1
    assert held.join.counters["skipped_impressions"] > 0
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(held)


def test_a_held_range_can_be_learned_after_all() -> None:
    def story(*verbs: tuple[str, dict[str, Any]]) -> Stage:
        stage = shop()
        catalogue(stage)
        visits(stage, 100)
        for verb, more in verbs[:1]:
            stage.command(verb, **more)
        visits(stage, 60, first=100)
        for verb, more in verbs[1:]:
            stage.command(verb, **more)
        return stage

    plain = story().learn()
    stage = story(("hold", {"reason": "asked"}), ("resume", {"mode": "learn"}))
    learner = stage.learn()
    assert stage.kinds()[-1] == "applied"
    assert digest(learner.champion.estimator.ranker) == digest(plain.champion.estimator.ranker)
    assert learner.champion.estimator.counts() == plain.champion.estimator.counts()
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(learner)


def test_a_held_range_can_be_repaired() -> None:
    stage = shop()
    catalogue(stage)
    stage.command("hold", reason="asked")
    visits(stage, 40)
    stage.command("resume", mode="repair")
    learner = stage.learn()
    n = learner.n
    visits(stage, 40)  # the same again
    stage.learn(learner)
    assert learner.n > n
    assert isinstance(learner.join, Interactions)


def on_trial(share: float = 0.5, labels: str = "wait") -> tuple[Stage, Learner]:
    """A challenger fitted to what came, on trial with half of the users."""
    stage = filled(labels, 100)
    read_to = stage.fit(2)
    stage.command("try", version=2, trained_to={"0": read_to}, share=share, salt=SALT)
    learner = stage.learn()
    assert stage.kinds()[-1] == "applied"
    return stage, learner


@pytest.mark.parametrize("labels", ["wait", "at_once"])
def test_a_trial_is_of_users_and_told_in_blocks(labels: str) -> None:
    stage, learner = on_trial(labels=labels)
    assert learner.shadow is not None
    assert digest(learner.shadow.estimator.ranker) is not None
    assert learner.blocks is None
    assert learner.arms is not None
    assert learner.canary is not None
    assert learner.canary.extra == {"version": 2, "share": 0.5, "salt": SALT}
    assert set(publication.parts(learner)) == {"model", "challenger"}
    stage.signals.clear()
    visits(stage, 350, first=100, users=60, share=0.5, salt=SALT, hits={1: 0.0, 2: 1.0})
    stage.learn(learner, batch=50)
    blocks = [signal.data for signal in stage.signals if signal.kind == "block"]
    assert [block["block"] for block in blocks] == list(range(len(blocks)))
    assert len(blocks) >= 3
    assert {block["trial"] for block in blocks} == {stage.seq}
    champion, challenger = (sum(block[side] for block in blocks) for side in ("champion", "challenger"))
    assert challenger < champion
    told = status(
        learner, generation=1, log="l", end=0, at=0.0, stopped=None, rate=0.0, ages=[], pauses={}, checkpoint_at=None
    )  # fmt: skip
    assert told.shadow_scores["n"] == sum(block["n"] for block in blocks)
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(learner)
    assert checkpoint.digest(stage.again(learner)) == checkpoint.digest(learner)


def test_the_challenger_learns_all_that_the_champion_learns() -> None:
    stage, learner = on_trial()
    visits(stage, 60, first=100)
    stage.learn(learner)
    assert learner.shadow is not None
    assert learner.shadow.estimator.counts() == learner.champion.estimator.counts()


def test_after_a_promotion_the_old_champion_answers_for_the_guard_s_share() -> None:
    stage, learner = on_trial()
    stage.command("promote", version=2, share=0.2, salt="m@1>2")
    stage.learn(learner)
    assert (learner.version, learner.shadow_version, learner.shadow_was_champion) == (2, 1, True)
    assert learner.canary is not None
    assert learner.canary.extra == {"version": 1, "share": 0.2, "salt": "m@1>2"}
    assert learner.arms is not None
    assert learner.arms.versions == (2, 1)
    stage.signals.clear()
    visits(stage, 200, first=100, users=60, champion=2, challenger=1, share=0.2, salt="m@1>2")
    stage.learn(learner)
    assert "block" in stage.kinds()
    stage.command("rollback", version=1)
    stage.learn(learner)
    assert (learner.version, learner.arms, learner.canary, learner.shadow) == (1, None, None, None)
    assert checkpoint.digest(stage.replay()) == checkpoint.digest(learner)


@pytest.mark.parametrize("ends", ["detach", "promote", "failure"])
def test_arms_end_with_the_trial(ends: str) -> None:
    stage, learner = on_trial()
    if ends == "failure":
        assert isinstance(learner.shadow, RecommendModel)
        learner.shadow.estimator = None
        visits(stage, 30, first=100)
    else:
        stage.command(ends, version=2)
    stage.learn(learner)
    assert (learner.arms, learner.canary) == (None, None)
    assert ("shadow_failed" in stage.kinds()) == (ends == "failure")


@pytest.mark.parametrize(("share", "reason"), [(1.0, "bad_share"), (-0.5, "bad_share")])
def test_a_share_that_is_none_is_refused(share: float, reason: str) -> None:
    stage = filled(count=60)
    read_to = stage.fit(2)
    stage.command("try", version=2, trained_to={"0": read_to}, share=share, salt=SALT)
    learner = stage.learn()
    assert stage.signals[-1].data["reason"] == reason
    assert (learner.shadow, learner.arms) == (None, None)


def test_a_version_that_a_person_decided_on_is_brought_in_without_arms() -> None:
    stage = filled(count=60)
    read_to = stage.fit(2)
    stage.command("try", version=2, trained_to={"0": read_to})
    learner = stage.learn()
    assert learner.shadow_version == 2
    assert (learner.arms, learner.canary, learner.blocks) == (None, None, None)


def test_what_cannot_be_learned_is_a_dead_letter() -> None:
    stage = filled(count=30)
    learner = stage.learn()
    stage.dead.clear()

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    learner.champion.estimator = Broken()
    stage.event("e", 40.0, user="u1", item="i1", action="click")
    stage.event("f", 40.0, user="u1", item="i1", action="dislike")
    stage.event("p", 40.0, user="u1", items=["i1"])
    stage.learn(learner)
    assert [letter.reason for letter in stage.dead] == ["unlearnable"] * 3
    assert "learning (opened) raised ZeroDivisionError" in stage.dead[2].detail


def test_the_types_of_a_context_are_free_but_its_size_is_not() -> None:
    stage = shop()
    stage.event("a", 0.0, user="u", item="i", action="click", x={"page": "home", "n": 1.5, "new": True, "nothing": None})
    stage.event("b", 0.0, user="u", item="j", action="click", x={"page": 7})
    stage.event("c", 0.0, user="u", item="k", action="click", x={f"f{n}": 1 for n in range(1001)})
    learner = stage.learn()
    assert learner.n == 2
    assert [letter.reason for letter in stage.dead] == ["too_many_features"]


def test_users_are_drawn_as_the_publication_says() -> None:
    _, learner = on_trial(share=0.3)
    said = publication.extra(learner)["canary"]
    assert said == {"version": 2, "share": 0.3, "salt": SALT}
    assert 0.2 < sum(unit_of(said["salt"], f"u{n}") < said["share"] for n in range(1000)) / 1000 < 0.4
