from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from streamlearn.config_recommend import SOURCES, RecommendSettings
from streamlearn.recommend.candidates import MORE, Candidates
from streamlearn.recommend.slates import STRENGTH, WIDEST, arrange, deviations, expose, sources_of


def rules(**changed: Any) -> RecommendSettings:
    return RecommendSettings(**{"explore": "none", **changed})


FIELDS = [{"genre": "a", "x": 1}, {"genre": "a|b"}, {"genre": "a"}, {"genre": "b"}, {}]


def arranged(settings: RecommendSettings, k: int = 3, vectors: np.ndarray | None = None) -> list[int]:
    some = np.eye(5, dtype=np.float32) if vectors is None else vectors
    return arrange(range(5), np.arange(5, 0, -1.0), k, settings, lambda at: FIELDS[at], lambda at: some[list(at)])


def test_without_rules_the_order_stays_and_nothing_is_asked_for() -> None:
    def never(_: Any) -> Any:
        raise AssertionError

    assert arrange([2, 0, 1], np.zeros(3), 3, rules(), never, never) == [2, 0, 1]


def test_a_cap_leaves_out_what_is_too_many_of_a_category() -> None:
    assert arranged(rules(cap_field="genre", cap=1)) == [0, 3, 4]
    assert arranged(rules(cap_field="genre", cap=2)) == [0, 1, 3, 4]


def test_values_of_several_words_are_one_category() -> None:
    fields = [{"genre": "dark comedy"}, {"genre": "dark crime|dark comedy"}, {"genre": "dark crime"}]
    kept = arrange(range(3), np.arange(3, 0, -1.0), 3, rules(cap_field="genre", cap=1), lambda at: fields[at], lambda at: None)
    assert kept == [0, 2]


def test_diversity_reorders_the_head_and_loses_nothing() -> None:
    order = arranged(rules(diversity=0.6))
    assert order[:2] == [0, 3]
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert arranged(rules(diversity=0.01)) == [0, 1, 2, 3, 4]


def test_diversity_is_by_the_declared_fields_alone() -> None:
    assert arranged(rules(diversity=0.6, item_fields=("none",)))[:3] == [0, 1, 2]  # no tokens, and factors all unlike
    alike = np.ones((5, 2), np.float32)
    alike[4] = 1, -1
    assert arranged(rules(diversity=0.9, item_fields=("none",)), vectors=alike)[:2] == [0, 4]


@pytest.mark.parametrize(("explore", "k"), [("none", 3), ("epsilon", 3), ("thompson", 3), ("none", 9)])
def test_each_way_of_exploring_shows_k_with_their_propensities(explore: str, k: int) -> None:
    settings = rules(explore=explore, epsilon=1.0)
    shown, chances = expose(np.zeros(5), np.zeros(5), k, settings, random.Random(1))
    assert len(set(shown)) == len(chances) == min(k, 5)
    expected = 1.0 if explore == "none" else 0.2  # all alike: each as probable as any other
    assert chances == pytest.approx([expected] * len(chances), abs=1e-6)


def test_the_more_an_item_was_shown_the_surer_its_score() -> None:
    wide, narrow, certain, faint = deviations(np.array([0.0, 0.0, 30.0, -30.0]), np.array([0.0, 980.0, 0.0, 0.0]))
    assert wide == pytest.approx(1 / np.sqrt(0.25 * STRENGTH))
    assert narrow == pytest.approx(1 / np.sqrt(0.25 * 1000))
    assert certain == faint == WIDEST


def test_an_item_s_source_is_the_one_in_which_it_stood_highest() -> None:
    scores = np.zeros((4, len(SOURCES)), np.float32)
    scores[:, 0], scores[:, 2] = [4, 3, 2, 0], [1, 2, 3, 0]
    named = scores > 0
    named[3] = False
    candidates = Candidates(np.arange(4, dtype=np.int32), scores, named, np.zeros((4, len(MORE)), np.float32))
    assert sources_of(candidates, [2, 0, 3]) == ["covisit", "popular", "available"]
    nobody_named = Candidates(candidates.rows, scores, np.zeros_like(named), candidates.more)
    assert sources_of(nobody_named, [2, 1]) == ["covisit", "popular"]
    assert sources_of(candidates, []) == []
