"""The reckoning: what was posted against what the learner knows, and the summary that tells it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from streamlearn.cli.demo_report import DRIFT, Account, Report, account, number, scores_of, summary
from streamlearn.cli.demo_story import Step

LABELS = {"a": True, "b": False, "c": True}
KNOWN: dict[str, Any] = {"a": True, "b": False, "c": True, "d": None}
NONE_DEAD: frozenset[tuple[str, str]] = frozenset()


def reckoned(known: dict[str, Any], taught: int, dead: frozenset[tuple[str, str]] = NONE_DEAD) -> Account:
    """Of four departures and three landings."""
    return account({"a", "b", "c", "d"}, LABELS, known, taught, dead)


def without(*ids: str) -> dict[str, Any]:
    return {id: label for id, label in KNOWN.items() if id not in ids}


def test_all_is_learned() -> None:
    assert reckoned(KNOWN, 3) == Account(posted=7, learned=7, lost=0, duplicated=0, dead=0)


def test_a_departure_that_the_learner_does_not_know_is_lost() -> None:
    assert reckoned(without("d"), 3) == Account(7, 6, lost=1, duplicated=0, dead=0)


def test_a_flight_of_which_nothing_is_known_is_two_lost_events() -> None:
    assert reckoned(without("a"), 2) == Account(7, 5, lost=2, duplicated=0, dead=0)


def test_a_label_that_was_not_learned_is_lost() -> None:
    assert reckoned(KNOWN | {"a": None}, 2) == Account(7, 6, lost=1, duplicated=0, dead=0)


@pytest.mark.parametrize("wrong", [False, "true"])
def test_a_label_that_was_learned_as_another_is_lost(wrong: object) -> None:
    assert reckoned(KNOWN | {"a": wrong}, 3) == Account(7, 6, lost=1, duplicated=0, dead=0)


def test_a_false_label_is_a_label() -> None:
    assert reckoned(KNOWN | {"b": None}, 2).lost == 1
    assert reckoned(KNOWN, 3).lost == 0


def test_what_lies_with_the_dead_letters_is_not_lost() -> None:
    assert reckoned(KNOWN | {"a": None}, 2, frozenset({("a", "y")})) == Account(7, 6, lost=0, duplicated=0, dead=1)
    assert reckoned(without("d"), 3, frozenset({("d", "x")})) == Account(7, 6, lost=0, duplicated=0, dead=1)
    assert reckoned(without("d"), 3, frozenset({("d", "y")})).lost == 1, "the dead letter is of another event"


def test_a_label_learned_twice_is_counted() -> None:
    assert reckoned(KNOWN, 5) == Account(7, 7, lost=0, duplicated=2, dead=0)


def test_what_was_never_posted_counts_as_learned_too_often() -> None:
    assert reckoned(KNOWN | {"x": True, "y": None}, 4) == Account(7, 7, lost=0, duplicated=2, dead=0)


def test_a_loss_does_not_hide_a_repeat() -> None:
    both = reckoned(KNOWN | {"a": None}, 3)
    assert (both.lost, both.duplicated) == (1, 1)


def test_nothing_posted_nothing_known() -> None:
    assert account(set(), {}, {}, 0, frozenset()) == Account(0, 0, 0, 0, 0)


VIEW = {
    "n": 100,
    "cumulative": {"accuracy": 0.75, "kappa": 0.4, "roc_auc": 0.8, "log_loss": 0.5},
    "window": {"accuracy": 0.1},
    "baselines": {
        "no_change": {"accuracy": 0.6, "kappa": 0.2, "roc_auc": 0.59, "window_accuracy": 0.5},
        "majority": {"accuracy": 0.58, "kappa": 0.0, "roc_auc": None},
    },
}


def test_scores_are_the_cumulative_ones_beside_the_baselines() -> None:
    assert scores_of(VIEW) == {
        "model": {"accuracy": 0.75, "kappa": 0.4, "roc_auc": 0.8},
        "no_change": {"accuracy": 0.6, "kappa": 0.2, "roc_auc": 0.59},
        "majority": {"accuracy": 0.58, "kappa": 0.0, "roc_auc": None},
    }


def test_a_learner_without_scores_has_none() -> None:
    none = dict.fromkeys(("accuracy", "kappa", "roc_auc"))
    assert scores_of({}) == {"model": none, "no_change": none, "majority": none}


SOUND = Account(7, 7, 0, 0, 0)


def report(events: Account = SOUND, **drift: Step | None) -> Report:
    steps = {name: Step(name, 100 * index, 10.0 + index / 3, f"{name} it was") for index, name in enumerate(DRIFT)}
    return Report(events, 61.2345, 1436.57, scores_of(VIEW), {"p50": 204.84, "p99": None}, steps | drift, (1, 2))


def test_the_document_has_every_key_that_is_promised() -> None:
    document = json.loads(json.dumps(report().document()))
    assert document == {
        "events": {"posted": 7, "learned": 7, "lost": 0, "duplicated": 0, "dead": 0},
        "seconds": 61.23,
        "events_per_s": 1436.6,
        "scores": scores_of(VIEW),
        "freshness_ms": {"p50": 204.8, "p99": None},
        "drift": {
            "injected": {"events": 0, "second": 10.0},
            "alarm": {"events": 100, "second": 10.33},
            "confirmed": {"events": 200, "second": 10.67},
            "retrained": {"events": 300, "second": 11.0},
            "promoted": {"events": 400, "second": 11.33},
            "recovered": {"events": 500, "second": 11.67},
        },
        "versions": {"before": 1, "after": 2},
    }


def test_what_was_not_reached_is_null() -> None:
    unfinished = report(recovered=None)
    assert unfinished.document()["drift"]["recovered"] is None
    assert not unfinished.told
    assert report().told


def test_a_run_is_sound_when_nothing_was_lost_and_nothing_learned_twice() -> None:
    assert report().sound
    assert report(Account(7, 6, 0, 0, 1)).sound
    assert not report(Account(7, 6, 1, 0, 0)).sound
    assert not report(Account(7, 7, 0, 1, 0)).sound


def rendered(told: Report, width: int = 120) -> str:
    screen = Console(width=width, color_system=None, file=io.StringIO())
    with screen.capture() as captured:
        screen.print(summary(told))
    return captured.get()


def test_the_summary_shows_all_of_it() -> None:
    text = rendered(report(Account(71_919, 71_917, 2, 3, 4), promoted=None))
    assert "71,919" in text
    assert "71,917" in text
    assert "1,437 a second" in text
    for line in ("lost                2", "learned twice       3", "dead letters        4"):
        assert line in text
    for line in ("the model                  0.750  0.400    0.800", "majority                   0.580  0.000        –"):
        assert line in text
    assert "p50 205 ms, p99 –" in text
    assert "version 1 → 2" in text
    for name in DRIFT:
        assert f"{name} it was" in text or name == "promoted"
    assert "not reached" in text


def test_a_number_that_is_missing_is_a_dash() -> None:
    assert (number(None), number(0.12345), number(0.0)) == ("–", "0.123", "0.000")
