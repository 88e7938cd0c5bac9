"""How the demo looks: the live picture as text, and the plain lines, from made-up snapshots."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from streamlearn.cli.demo_story import Step, Story
from streamlearn.cli.demo_view import Lines, Snapshot, injection, line, picture

SCORES: dict[str, Any] = {
    "cumulative": {"accuracy": 0.749, "kappa": 0.439, "roc_auc": 0.818},
    "window": {"accuracy": 0.386, "kappa": 0.011, "roc_auc": 0.501},
    "baselines": {
        "no_change": {"accuracy": 0.617, "kappa": 0.194, "roc_auc": 0.595, "window_accuracy": 0.515},
        "majority": {"accuracy": 0.589, "kappa": 0.0, "roc_auc": 0.5, "window_accuracy": 0.387},
    },
}
STORM = Story(
    "delay-1",
    [Step("case_opened", 5465, 26.7, "page_hinkley: loss"), Step("rejected", 6465, 28.1, "loss 0.22 → 0.27: no lasting harm")],
    False, None, None,
)  # fmt: skip
STEPS = [
    Step("case_opened", 18_036, 44.3, "page_hinkley: loss 0.19 before"),
    Step("confirmed", 19_036, 45.7, "loss 0.19 → 0.61"),
    Step("retrain_started", 19_036, 45.8, "version 2 from the change point"),
    Step("retrained", 19_993, 47.9, "version 2 fitted in 2.2 s"),
    Step("trial_started", 19_994, 48.0, "the same flights"),
    Step("canary_started", 23_100, 51.6, "version 2 answers for 5 %"),
    Step("canary_started", 24_000, 52.6, "version 2 answers for 25 %"),
    Step("trial_won", 24_873, 53.7, "not worse in the canary"),
    Step("promoted", 24_879, 53.8, "version 2 serves"),
    Step("recovered", 25_942, 55.4, "loss 0.11"),
]
TRIAL = {"e": 12.34, "threshold": 32.9, "events": 2400, "blocks": 18}
NOW = Snapshot(
    50.1, "flights depart and land", 22_216, 32_000, event_time=1_297_254_480.0, posted=44_000, learned=21_467, rate=1496.4,
    lag=120, asked=700, dead=3, freshness_ms={"p50": 194.4, "p99": 400.0}, version=1, state="trial",
    degraded=["drift confirmed in case delay-3"], scores=SCORES, injected=injection(44.0, 17_862), stories=[STORM],
)  # fmt: skip


def story(steps: int, progress: tuple[int, int] | None = None, trial: dict[str, Any] | None = None) -> Story:
    return Story("delay-3", STEPS[:steps], steps < len(STEPS), progress, trial)


def seen(now: Snapshot, width: int = 110) -> str:
    screen = Console(width=width, color_system=None, file=io.StringIO())
    with screen.capture() as captured:
        screen.print(picture(now))
    return captured.get()


def row(text: str, *words: str) -> str:
    """The only line that holds all the words."""
    [found] = [one for one in text.splitlines() if all(word in one for word in words)]
    return found


def test_how_far_it_is() -> None:
    text = seen(NOW)
    assert "Wed 09 Feb 2011 12:28" in text
    assert "22,216 of 32,000 flights" in text
    assert "50 s · flights depart and land" in text


def test_events_and_freshness() -> None:
    text = seen(NOW)
    assert "posted 44,000 · learned 21,467 labels · 1,496 events/s · lag 120 · dead 3" in text
    assert "p50 194 ms, p99 400 ms · 700 predictions" in text


def test_scores_stand_beside_both_baselines() -> None:
    text = seen(NOW)
    assert row(text, "the model").split()[3:9] == ["0.749", "0.386", "0.439", "0.011", "0.818", "0.501"]
    assert row(text, "no change").split()[3:9] == ["0.617", "0.515", "0.194", "–", "0.595", "–"]
    assert row(text, "majority").split()[2:8] == ["0.589", "0.387", "0.000", "–", "0.500", "–"]


def test_what_serves_and_why_it_is_degraded() -> None:
    assert "version 1 · trial · degraded: drift confirmed in case delay-3" in seen(NOW)
    assert "degraded" not in seen(replace(NOW, degraded=()))


def test_a_dismissed_alarm_is_one_line() -> None:
    text = seen(NOW)
    assert "alarm       rejected: loss 0.22 → 0.27: no lasting harm" in row(text, "26.7 s", "5,465")
    assert "28.1 s" not in text


def test_the_injection_is_announced() -> None:
    told = row(seen(NOW), "44.0 s", "17,862")
    assert "INJECTED" in told
    assert "flights over 500 miles land late" in told
    assert "INJECTED" not in seen(replace(NOW, injected=None))


def test_every_step_with_its_time_its_count_and_its_numbers() -> None:
    text = seen(replace(NOW, stories=[story(10)]))
    names = [
        "alarm", "confirmed", "retraining", "retrained", "trial", "canary", "canary", "trial won", "promoted", "recovered",
    ]  # fmt: skip
    for step, name in zip(STEPS, names, strict=True):
        assert f"{name:<11} {step.text}" in row(text, f"{step.second:5.1f} s", f"{step.events:,}", step.text)


def test_steps_are_shown_in_the_order_of_time() -> None:
    text = seen(replace(NOW, stories=[STORM, story(10)]))
    found = [text.index(f"{second} s") for second in (26.7, 44.0, 44.3, 45.7, 45.8, 47.9, 48.0, 51.6, 52.6, 53.7, 53.8, 55.4)]
    assert found == sorted(found)


def test_a_fit_has_a_bar() -> None:
    assert "1,316 of 2,632 records" in row(seen(replace(NOW, stories=[story(3, progress=(1316, 2632))])), "fitting")
    assert "0 of 0 records" in seen(replace(NOW, stories=[story(3, progress=(0, 0))]))
    assert "fitting" not in seen(replace(NOW, stories=[story(3)]))


def test_a_trial_has_a_bar() -> None:
    assert "12.3 of 33, 2,400 labels" in row(seen(replace(NOW, stories=[story(5, trial=TRIAL)])), "evidence")
    assert "evidence" not in seen(replace(NOW, stories=[story(5)]))
    assert "99.0 of 33" in seen(replace(NOW, stories=[story(5, trial=TRIAL | {"e": 99.0})]))


def test_a_canary_has_a_bar() -> None:
    canary = {"step": 2, "steps": 2, "share": 0.25, "events": 120}
    assert "120 labels at 25 %" in row(seen(replace(NOW, stories=[story(7, trial=TRIAL | {"canary": canary})])), "120 labels")


@pytest.mark.parametrize("steps", range(11))
def test_it_fits_a_small_terminal(steps: int) -> None:
    stories = [STORM, STORM, *([story(steps, (5, 9) if steps < 8 else None)] if steps else [])]
    text = seen(replace(NOW, stories=stories), width=80)
    assert max(map(len, text.splitlines())) == 80
    assert len(text.splitlines()) <= 24


def test_before_there_is_anything_to_see() -> None:
    text = seen(Snapshot(0.5, "three processes start", 0, 32_000))
    assert "0 of 32,000 flights" in text
    assert row(text, "the model").count("–") == 6
    assert "version –" in text


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.plain = Lines(self.lines.append, every_s=5.0)

    def show(self, now: Snapshot) -> list[str]:
        """What is new."""
        before = len(self.lines)
        self.plain.show(now)
        return self.lines[before:]


def test_plain_lines_say_each_step_once() -> None:
    said = Said()
    first = said.show(replace(NOW, stories=[STORM, story(2)]))
    assert [one.split("  ")[-1].split(":")[0] for one in first] == [
        "flights depart and land", "INJECTED", "case delay-1, alarm", "case delay-1, rejected", "case delay-3, alarm",
        "case delay-3, confirmed", "Wed 09 Feb 2011 12",
    ]  # fmt: skip
    assert said.show(replace(NOW, second=50.4, stories=[STORM, story(2)])) == []
    assert said.show(replace(NOW, second=50.7, stories=[STORM, story(3)])) == [
        "  45.8 s  case delay-3, retraining: version 2 from the change point (label 19,036)"
    ]


def test_plain_lines_say_where_things_stand_now_and_then() -> None:
    said = Said()
    assert said.show(Snapshot(1.0, "starting", 0, 10)) == ["   1.0 s  starting"]
    assert len(said.show(replace(NOW, second=2.0, injected=None, stories=[]))) == 2
    assert said.show(replace(NOW, second=6.9, injected=None, stories=[])) == []
    assert said.show(replace(NOW, second=7.1, injected=None, stories=[])) == [f"   7.1 s  {line(NOW)}"]


def test_a_line_has_what_matters() -> None:
    assert line(NOW) == (
        "Wed 09 Feb 2011 12:28: 22,216 of 32,000 flights, 21,467 labels learned, 1,496 events/s, last 1,000: accuracy 0.386 "
        "(no change 0.515, majority 0.387), posted → served 194 ms, version 1"
    )
    bare = line(Snapshot(1.0, "starting", 5, 10))
    assert "accuracy – (no change –, majority –), posted → served –, version –" in bare
