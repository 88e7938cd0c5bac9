"""The watch: its states, what its notes say, and that two replays agree, with the state saved and restored in between."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.drift import watch as watch_module
from streamlearn.drift.confirm import confirm, look_of, look_sizes
from streamlearn.drift.watch import DriftWatch
from streamlearn.learning.digest import digest
from streamlearn.learning.protocols import Note, WatchMaker

DEFAULT = DriftSettings()
# Page-Hinkley at its default sounds about once in 10,000 losses for nothing: too often for a test about one known change.
QUIET = DEFAULT.model_copy(
    update={"detectors": (DEFAULT.detectors[0], DetectorSettings(name="page_hinkley", params={"threshold": 50.0}))}
)
SMALL = DriftSettings(
    detectors=(
        DetectorSettings(name="adwin", params={"delta": 0.05, "clock": 4}),
        DetectorSettings(name="page_hinkley", params={"threshold": 4.0, "delta": 0.005}),
    ),
    window=30,
    gap=5,
    min_reference=40,
    max_reference=200,
)
EARLY = SMALL.model_copy(update={"window": 100})  # looked at before it is full, too


def flips(seed: int, *stretches: tuple[int, float]) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < share) for count, share in stretches for _ in range(count)]


def feed(watch: DriftWatch, losses: Iterable[float], start: int = 0, stride: int = 1) -> list[tuple[int, Note]]:
    """Every note with the labelled count at which it came; the event of count n has its features at offset n × stride."""
    notes = []
    for n, loss in enumerate(losses, start + 1):
        note = watch.update(loss, n * stride, n)
        if note is not None:
            notes.append((n, note))
    return notes


def closing(notes: Iterable[tuple[int, Note]]) -> list[tuple[int, Note]]:
    """Without the early looks at a window that is not full."""
    return [(n, note) for n, note in notes if note.kind == "alarm" or "look" not in note.data or look_of(note.data).last]


def until_alarm(watch: DriftWatch, losses: Iterable[float]) -> tuple[int, Note]:
    for n, loss in enumerate(losses, 1):
        note = watch.update(loss, n, n)
        if note is not None:
            assert note.kind == "alarm"
            return n, note
    raise AssertionError("no alarm")


def test_the_class_makes_watches() -> None:
    maker: WatchMaker = DriftWatch
    assert isinstance(maker.new(DEFAULT, "binary"), DriftWatch)
    with pytest.raises(ValueError, match="binary, bounded"):
        maker.new(DEFAULT, "squared")


def test_an_alarm_says_what_it_saw() -> None:
    losses = flips(1, (4000, 0.2), (1000, 0.7))
    watch = DriftWatch(QUIET, "binary")
    (alarm_at, alarm), (window_at, window) = closing(feed(watch, losses, stride=3))
    assert alarm.kind == "alarm"
    assert 4000 < alarm_at < 4200
    data = alarm.data
    assert set(data["detector"].split("+")) <= {"adwin", "page_hinkley"}
    assert abs(data["change_n"] - 4001) <= 40
    assert data["change_offset"] == 3 * data["change_n"]
    assert data["ref_n"] == data["change_n"] - 1 - QUIET.gap
    assert data["ref_mean"] == pytest.approx(np.mean(losses[: data["ref_n"]]))
    assert data["recent_mean"] == pytest.approx(np.mean(losses[alarm_at - 100 : alarm_at]))
    assert window_at == alarm_at + QUIET.window
    assert window.kind == "window"
    assert window.data == {
        "tag": "fresh",
        "loss": "binary",
        "from_n": alarm_at + 1,
        "to_n": window_at,
        "look": [200, 500, 500],
        "ref": {"n": data["ref_n"], "sum": sum(losses[: data["ref_n"]])},
        "fresh": {"n": 500, "sum": sum(losses[alarm_at:window_at])},
    }
    assert json.loads(json.dumps([data, window.data])) == [data, window.data]


def test_a_window_is_looked_at_before_it_is_full() -> None:
    losses = flips(1, (4000, 0.2), (1000, 0.7))
    (alarm_at, _), *windows = feed(DriftWatch(QUIET, "binary"), losses)
    assert look_sizes(QUIET.window) == (100, 200, 500)
    assert [at - alarm_at for at, _ in windows] == [100, 200, 500]
    assert [note.data["look"] for _, note in windows] == [[0, 100, 500], [100, 200, 500], [200, 500, 500]]
    for at, note in windows:
        assert (note.data["from_n"], note.data["to_n"]) == (alarm_at + 1, at)
        assert note.data["fresh"] == {"n": at - alarm_at, "sum": sum(losses[alarm_at:at])}
        assert note.data["ref"] == windows[0][1].data["ref"]


def test_a_reset_after_an_early_look_watches_again() -> None:
    watch = DriftWatch(QUIET, "binary")
    assert [note.kind for _, note in feed(watch, flips(1, (4000, 0.2), (180, 0.7)))] == ["alarm", "window"]
    watch.reset(True)
    notes = feed(watch, flips(2, (2000, 0.2), (1000, 0.7)), start=4180)
    assert [note.kind for _, note in notes] == ["alarm", "window", "window", "window"]


def test_detectors_that_fire_together_are_named_together() -> None:
    both = DEFAULT.model_copy(update={"detectors": (DEFAULT.detectors[1], DEFAULT.detectors[1])})
    _, note = until_alarm(DriftWatch(both, "binary"), flips(1, (2000, 0.1), (1000, 0.5)))
    assert note.data["detector"] == "page_hinkley+page_hinkley"


def test_it_is_dormant_until_the_case_is_over() -> None:
    watch = DriftWatch(QUIET, "binary")
    assert len(closing(feed(watch, flips(1, (4000, 0.2), (1000, 0.5))))) == 2
    assert feed(watch, flips(2, (3000, 0.9)), start=5000) == []


def test_a_rejected_case_keeps_the_reference() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (4000, 0.2), (1000, 0.35)))
    watch.reset(False)
    notes = feed(watch, flips(2, (1000, 0.2), (1000, 0.7)), start=5000)
    assert notes[0][1].kind == "alarm"
    assert notes[0][1].data["ref_n"] > 4500


def test_a_confirmed_change_forgets_what_came_before_it() -> None:
    watch = DriftWatch(QUIET, "binary")
    (_, alarm), _ = closing(feed(watch, flips(1, (4000, 0.2), (1000, 0.4))))
    watch.reset(True)
    notes = feed(watch, flips(2, (2000, 0.4), (1000, 0.8)), start=5000)
    second = notes[0][1].data
    assert second["change_n"] > 6900
    assert second["ref_n"] == second["change_n"] - alarm.data["change_n"] - QUIET.gap
    assert second["ref_mean"] == pytest.approx(0.4, abs=0.05)


def test_detectors_know_after_a_case_what_was_usual_in_it() -> None:
    """A trial may be long, and the next change may come with its end: to who begins then it would be what is usual."""
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (4000, 0.2), (3000, 0.4)))
    watch.reset(True)
    alarm_at, alarm = feed(watch, flips(2, (1000, 0.55)), start=7000)[0]
    assert (alarm.kind, alarm.data["ref_mean"]) == ("alarm", pytest.approx(0.4, abs=0.03))
    assert 7000 < alarm_at < 7700
    assert abs(alarm.data["change_n"] - 7001) <= 60


def test_a_loss_that_moves_while_a_case_is_open_is_what_is_usual_after_it() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (4000, 0.2), (1000, 0.4), (2000, 0.7)))
    watch.reset(True)
    assert watch.alarms == 1
    assert feed(watch, flips(2, (1500, 0.7)), start=7000) == []
    assert feed(watch, flips(3, (600, 0.95)), start=8500)[0][1].kind == "alarm"


def test_a_confirmed_reset_without_an_alarm_forgets_everything() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (3000, 0.2)))
    watch.reset(True)
    notes = feed(watch, flips(2, (2000, 0.2), (1000, 0.7)), start=3000)
    assert notes[0][1].data["ref_n"] == notes[0][1].data["change_n"] - 3001 - QUIET.gap


def test_early_alarms_are_dropped_and_counted() -> None:
    watch = DriftWatch(QUIET, "binary")
    assert feed(watch, flips(1, (300, 0.05), (150, 0.9))) == []
    assert watch.early_alarms == 1
    assert watch.alarms == 0


def test_a_loss_that_fell_moves_the_reference_and_raises_nothing() -> None:
    watch = DriftWatch(QUIET, "binary")
    assert feed(watch, flips(1, (2000, 0.6), (3000, 0.1))) == []
    assert watch.improvements >= 1
    _, alarm = feed(watch, flips(2, (1000, 0.3)), start=5000)[0]
    assert alarm.data["ref_mean"] == pytest.approx(0.1, abs=0.04)
    assert abs(alarm.data["change_n"] - 5001) < 100


def test_the_reference_is_bounded() -> None:
    bounded = QUIET.model_copy(update={"max_reference": 1000})
    watch = DriftWatch(bounded, "binary")
    feed(watch, flips(1, (9000, 0.2)))
    assert len(watch._losses) <= 1000 + 200 + 500 + watch_module.SLACK
    assert len(watch.state()) < 60_000
    notes = feed(watch, flips(2, (500, 0.6)), start=9000)
    assert notes[0][1].data["ref_n"] == 1000


def test_the_recovery_window_comes_first_and_becomes_the_reference() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (4000, 0.2), (1000, 0.5)))
    watch.begin_recovery(5000)
    losses = flips(2, (500, 0.25), (2500, 0.2), (1000, 0.6))
    notes = feed(watch, losses, start=5000)
    at, recovery = notes[0]
    assert at == 5500
    assert recovery == Note(
        "window",
        {
            "tag": "recovery",
            "loss": "binary",
            "from_n": 5001,
            "to_n": 5500,
            "fresh": {"n": 500, "sum": sum(losses[:500])},
        },
    )
    _, alarm = notes[1]
    assert alarm.kind == "alarm"
    assert alarm.data["ref_n"] == alarm.data["change_n"] - 5001 - QUIET.gap


def test_alarms_while_recovering_are_dropped() -> None:
    watch = DriftWatch(QUIET, "binary")
    watch.begin_recovery(0)
    notes = feed(watch, flips(3, (250, 0.0), (250, 0.9)))
    assert [note.kind for _, note in notes] == ["window"]
    assert watch.early_alarms >= 1


def test_one_very_late_label_does_not_move_the_offset() -> None:
    losses = flips(1, (4000, 0.2), (1000, 0.5))
    _, plain = until_alarm(DriftWatch(QUIET, "binary"), losses)
    watch = DriftWatch(QUIET, "binary")
    late: Note | None = None
    for n, loss in enumerate(losses, 1):
        late = late or watch.update(loss, 7 if n == plain.data["change_n"] else n, n)
    assert late is not None
    assert abs(late.data["change_offset"] - plain.data["change_offset"]) <= 1


def correlated(seed: int, n: int, mean: float, rho: float) -> list[float]:
    rng, state, losses = random.Random(seed), 0.0, []
    for _ in range(n):
        state = rho * state + math.sqrt(1 - rho * rho) * rng.gauss(0, 1)
        losses.append(min(1.0, max(0.0, mean + 0.1 * state)))
    return losses


@pytest.mark.parametrize(("rho", "shortest", "longest"), [(0.0, 1, 3), (0.7, 14, 25), (0.99, 25, 25)])
def test_bounded_losses_come_in_blocks_of_their_correlation(rho: float, shortest: int, longest: int) -> None:
    sharp = QUIET.model_copy(update={"detectors": (DetectorSettings(name="page_hinkley", params={"threshold": 60.0}),)})
    losses = correlated(1, 2500, 0.25, rho) + correlated(2, 1500, 0.6, rho)
    (alarm_at, alarm), (_, window) = closing(feed(DriftWatch(sharp, "bounded"), losses))
    ref, fresh = window.data["ref"], window.data["fresh"]
    length = fresh["n"] // len(fresh["blocks"])
    assert shortest <= length <= longest
    assert len(ref["blocks"]) == ref["n"] // length <= watch_module.MAX_BLOCKS
    assert ref["n"] == alarm.data["ref_n"]
    assert fresh["sum"] == pytest.approx(sum(losses[alarm_at : alarm_at + 500]))
    assert fresh["blocks"][-1] == pytest.approx(np.mean(losses[alarm_at + 500 - length : alarm_at + 500]))
    assert np.mean(fresh["blocks"]) == pytest.approx(fresh["sum"] / 500, abs=0.02)


def test_bounded_losses_are_counted_by_size_and_binary_ones_need_not_be() -> None:
    losses = correlated(1, 4000, 0.3, 0.5) + correlated(2, 1500, 0.6, 0.5)
    (alarm_at, _), (_, window) = closing(feed(DriftWatch(QUIET, "bounded"), losses))
    size = window.data["fresh"]["n"]
    expected = np.histogram(losses[alarm_at + 1 : alarm_at + 1 + size], 20, (0.0, 1.0))[0].tolist()
    assert window.data["fresh"]["bins"] == expected
    assert sum(window.data["ref"]["bins"]) == window.data["ref"]["n"]
    (_, _), (_, binary) = closing(feed(DriftWatch(QUIET, "binary"), flips(1, (3000, 0.1), (2000, 0.5))))
    assert "bins" not in binary.data["ref"]


def test_a_long_reference_is_put_into_a_bounded_number_of_blocks() -> None:
    losses = correlated(1, 9000, 0.25, 0.0) + correlated(2, 1500, 0.6, 0.0)
    _, (_, window) = closing(feed(DriftWatch(QUIET, "bounded"), losses))
    assert 1000 < len(window.data["ref"]["blocks"]) <= watch_module.MAX_BLOCKS
    assert len(window.data["fresh"]["blocks"]) >= watch_module.MIN_BLOCKS


def test_the_notes_go_straight_into_the_confirmation() -> None:
    for loss, losses in (
        ("binary", flips(1, (4000, 0.2), (1000, 0.5))),
        ("bounded", correlated(1, 4000, 0.3, 0.5) + correlated(2, 1500, 0.5, 0.5)),
    ):
        _, (_, window) = closing(feed(DriftWatch(QUIET, loss), losses))
        data = window.data
        verdict = confirm(data["loss"], data["ref"], data["fresh"], alpha=0.05, harm=0.0, k=1, seed=1)
        assert verdict.confirmed, verdict


def test_false_confirmations_and_delay_on_simulated_streams() -> None:
    """20 % error, 30 streams of 6,000: alarms without a change are rejected; a change to 35 % is confirmed within 1,000."""
    confirmed_false, delays = 0, []
    for seed in range(30):
        watch, case = DriftWatch(DEFAULT, "binary"), 1
        for n, loss in enumerate(flips(seed, (6000, 0.2), (1500, 0.35)), 1):
            note = watch.update(loss, n, n)
            if note is None or note.kind == "alarm":
                continue
            data, look = note.data, look_of(note.data)
            if confirm("binary", data["ref"], data["fresh"], alpha=0.05, harm=0.0, k=case, seed=1, look=look).confirmed:
                if n <= 6000:
                    confirmed_false += 1
                else:
                    delays.append(n - 6000)
                break
            if look.last:
                watch.reset(False)
                case += 1
    assert confirmed_false <= 3
    assert len(delays) >= 27
    assert np.median(delays) < 800


Step = tuple[str, int, float]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("losses"), st.integers(1, 250), st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9])),
        st.tuples(st.sampled_from(["reject", "confirm", "recover"]), st.just(0), st.just(0.0)),
    ),
    min_size=1,
    max_size=12,
)


def run(
    loss: str, plan: Sequence[Step], cuts: frozenset[int], seed: int, settings: DriftSettings = SMALL
) -> tuple[list[tuple[int, Note]], bytes, list[Any]]:
    watch, rng, n, notes = DriftWatch(settings, loss), random.Random(seed), 0, []
    for verb, count, share in plan:
        if verb == "reject":
            watch.reset(False)
        elif verb == "confirm":
            watch.reset(True)
        elif verb == "recover":
            watch.begin_recovery(n)
        for _ in range(count):
            n += 1
            value = rng.random() < share if loss == "binary" else min(1.0, share * rng.random())
            note = watch.update(float(value), 2 * n, n)
            if note is not None:
                notes.append((n, note))
            if n in cuts:
                before = watch.state()
                watch = DriftWatch.restore(settings, loss, before)
                assert watch.state() == before
    numbers = [watch._losses.tolist(), watch._offsets.tolist(), watch._reference, watch._phase, watch._left, watch._change_n]
    return notes, watch.state(), numbers


@pytest.mark.parametrize("settings", [SMALL, EARLY], ids=["small", "early"])
@pytest.mark.parametrize("loss", ["binary", "bounded"])
@examples(max_examples=60, deadline=None)
@given(plan=steps, seed=st.integers(0, 2**16), cuts=st.frozensets(st.integers(1, 1500), max_size=5))
def test_a_round_trip_in_between_changes_nothing(
    loss: str, settings: DriftSettings, plan: list[Step], seed: int, cuts: frozenset[int]
) -> None:
    assert run(loss, plan, frozenset(), seed, settings) == run(loss, plan, cuts, seed, settings)


@pytest.mark.parametrize("loss", ["binary", "bounded"])
def test_every_kind_of_note_survives_many_round_trips(loss: str) -> None:
    plan: list[Step] = [("losses", 200, 0.05), ("losses", 120, 0.9), ("confirm", 0, 0.0), ("recover", 0, 0.0)]
    plan += [("losses", 200, 0.1), ("losses", 100, 0.9)]
    whole = run(loss, plan, frozenset(), 5)
    assert whole == run(loss, plan, frozenset(range(1, 700, 3)), 5)
    assert [(note.kind, note.data.get("tag")) for _, note in whole[0]] == [
        ("alarm", None), ("window", "fresh"), ("window", "recovery"), ("alarm", None), ("window", "fresh"),
    ]  # fmt: skip


@pytest.mark.parametrize("loss", ["binary", "bounded"])
def test_a_round_trip_between_two_looks_changes_nothing(loss: str) -> None:
    plan: list[Step] = [("losses", 200, 0.05), ("losses", 200, 0.9), ("reject", 0, 0.0), ("losses", 100, 0.9)]
    whole = run(loss, plan, frozenset(), 5, EARLY)
    first = [note for _, note in whole[0]][:3]
    assert [note.data.get("look") for note in first] == [None, [0, 40, 100], [40, 100, 100]]
    assert whole == run(loss, plan, frozenset(range(1, 500, 7)), 5, EARLY)


@examples(max_examples=60, deadline=None)
@given(plan=steps, seed=st.integers(0, 2**16))
def test_a_window_holds_only_what_came_after_its_alarm(plan: list[Step], seed: int) -> None:
    notes, *_ = run("binary", plan, frozenset(), seed)
    for (at, earlier), (later_at, later) in pairwise(notes):
        if later.kind == "window" and later.data["tag"] == "fresh":
            assert earlier.kind == "alarm"
            assert later.data["from_n"] == at + 1
            assert later_at == later.data["to_n"] == at + SMALL.window
    for _, note in notes:
        if note.kind == "alarm":
            assert SMALL.min_reference <= note.data["ref_n"] <= SMALL.max_reference
            assert note.data["change_offset"] == 2 * note.data["change_n"]


def test_a_restored_watch_has_the_same_digest() -> None:
    watch = DriftWatch(DEFAULT, "binary")
    feed(watch, flips(1, (3000, 0.2)))
    restored = DriftWatch.restore(DEFAULT, "binary", watch.state())
    assert digest(restored) == digest(watch)
    watch.update(1.0, 3001, 3001)
    assert digest(restored) != digest(watch)
    restored.update(1.0, 3001, 3001)
    assert digest(restored) == digest(watch)


def test_other_detectors_in_the_settings_start_afresh() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (3000, 0.2)))
    other = QUIET.model_copy(update={"detectors": QUIET.detectors[1:]})
    restored = DriftWatch.restore(other, "binary", watch.state())
    notes = feed(restored, flips(2, (1500, 0.2), (500, 0.7)), start=3000)
    assert notes[0][1].data["detector"] == "page_hinkley"
    assert notes[0][1].data["ref_n"] > 4000


def test_a_smaller_memory_in_the_settings_is_kept_to() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (9000, 0.2)))
    smaller = DriftWatch.restore(QUIET.model_copy(update={"max_reference": 500}), "binary", watch.state())
    assert len(smaller._losses) <= 1200


@pytest.mark.parametrize("loss", ["binary", "bounded"])
@pytest.mark.parametrize("other", [40, 100, 400, 5000])
def test_a_window_under_way_keeps_the_size_it_began_with(loss: str, other: int) -> None:
    old = SMALL.model_copy(update={"window": 200, "max_reference": 100, "gap": 0})
    new = old.model_copy(update={"window": other})
    losses = flips(5, (150, 0.05), (6500, 0.9))
    kept = DriftWatch(old, loss)
    at, _ = until_alarm(kept, losses)
    changed = DriftWatch.restore(new, loss, kept.state())
    assert feed(changed, losses[at : at + 50], at) == feed(kept, losses[at : at + 50], at)
    changed = DriftWatch.restore(new, loss, changed.state())
    told = feed(changed, losses[at + 50 : at + 200], at + 50)
    assert told == feed(kept, losses[at + 50 : at + 200], at + 50)
    assert [(n, note.data["from_n"]) for n, note in told] == [(at + 80, at + 1), (at + 200, at + 1)]
    changed.begin_recovery(at + 200)
    [(n, note)] = feed(changed, losses[at + 200 : at + 200 + other], at + 200)
    assert (note.data["tag"], n - note.data["from_n"] + 1) == ("recovery", other)


def test_a_case_after_the_settings_changed_has_the_new_size() -> None:
    watch = DriftWatch(EARLY, "binary")
    at, _ = until_alarm(watch, flips(5, (150, 0.05), (100, 0.9)))
    watch = DriftWatch.restore(SMALL, "binary", watch.state())
    watch.reset(False)
    notes = feed(watch, flips(6, (300, 0.05), (150, 0.9)), at)
    assert [note.data.get("look") for _, note in notes] == [None, [0, 30, 30]]


def test_a_recovery_under_way_keeps_the_size_it_began_with() -> None:
    watch = DriftWatch(EARLY, "bounded")
    watch.begin_recovery(0)
    feed(watch, flips(1, (70, 0.2)))
    watch = DriftWatch.restore(EARLY.model_copy(update={"window": 400}), "bounded", watch.state())
    [(n, note)] = feed(watch, flips(2, (60, 0.2)), 70)
    assert (n, note.data["from_n"], note.data["fresh"]["n"]) == (100, 1, 100)
    assert len(note.data["fresh"]["blocks"]) >= watch_module.MIN_BLOCKS


def test_a_state_from_before_windows_were_told_still_loads() -> None:
    watch = DriftWatch(QUIET, "binary")
    until_alarm(watch, flips(1, (4000, 0.2), (1000, 0.7)))
    old = msgspec.msgpack.decode(watch.state())
    assert old.pop("window") == QUIET.window
    again = DriftWatch.restore(QUIET, "binary", msgspec.msgpack.encode(old))
    assert again.state() == watch.state()


def test_the_state_of_another_kind_of_loss_is_not_used() -> None:
    watch = DriftWatch(QUIET, "binary")
    feed(watch, flips(1, (900, 0.2)))
    assert DriftWatch.restore(QUIET, "bounded", watch.state()).state() == DriftWatch(QUIET, "bounded").state()


class Bell:
    """A detector that fires at the values it is told."""

    def __init__(self, *at: float) -> None:
        self.at, self.drift_detected, self.seen = at, False, 0.0

    def update(self, x: float) -> None:
        self.seen += 1
        self.drift_detected = self.seen in self.at


def belled(quorum: str | int, *bells: Bell, within: int = 50, on: Sequence[str] = ()) -> DriftWatch:
    """A watch of SMALL's kind over these detectors; each on the loss, unless `on` says otherwise."""
    sources = [*on, *["loss"] * (len(bells) - len(on))]
    named = tuple(DetectorSettings.model_validate({"name": "adwin", "on": source}) for source in sources)
    watch = DriftWatch(SMALL.model_copy(update={"detectors": named, "quorum": quorum, "within": within}), "binary")
    watch._detectors = list(bells)
    watch._bind()
    return watch


RISE = flips(1, (90, 0.05), (110, 0.9))


@pytest.mark.parametrize(
    ("quorum", "at"), [("any", 100), (1, 100), ("majority", 120), (2, 120), ("all", 140), (3, 140)]
)
def test_an_alarm_needs_its_quorum(quorum: str | int, at: int) -> None:
    watch = belled(quorum, Bell(100), Bell(120), Bell(140))
    n, note = until_alarm(watch, RISE)
    assert n == at
    assert note.data["detector"] == "+".join(["adwin"] * (1 + (at - 100) // 20))


def test_those_that_fired_too_long_ago_do_not_count() -> None:
    assert not feed(belled("all", Bell(100), Bell(151)), RISE)
    assert feed(belled("all", Bell(100), Bell(149)), RISE)
    assert feed(belled("all", Bell(100, 140), Bell(151)), RISE)[0][0] == 151, "the newest time counts"


def test_one_that_fires_twice_is_one() -> None:
    assert not feed(belled(2, Bell(100, 105, 110), Bell()), RISE)


def test_what_is_observed_beside_the_loss_is_said_with_the_next_loss_and_tested_on_the_loss() -> None:
    watch = belled("any", Bell(3), Bell(), on=["score"])
    assert watch.wants == {"score"}
    assert not feed(watch, flips(1, (150, 0.3)))
    for _ in range(3):
        watch.observe("score", 0.9)
    [(n, note)] = feed(watch, flips(2, (1, 0.3)), start=150)
    assert (n, note.kind, note.data["detector"]) == (151, "alarm", "adwin on score")
    watch.observe("score", 0.1)  # the case is open: nobody listens
    notes = feed(watch, flips(3, (40, 0.3)), start=151)
    assert [note.data["tag"] for _, note in notes] == ["fresh"]


def test_a_quorum_over_different_things_survives_a_restart() -> None:
    settings = SMALL.model_copy(
        update={
            "detectors": (
                DetectorSettings(name="page_hinkley", params={"threshold": 4.0}),
                DetectorSettings(name="page_hinkley", on="score", params={"threshold": 4.0}),
            ),
            "quorum": "all",
            "within": 200,
        }
    )
    watch = DriftWatch(settings, "binary")
    feed(watch, flips(1, (150, 0.1)))
    for value in flips(2, (60, 0.1), (40, 0.9)):
        watch.observe("score", value)
    assert watch._fired
    again = DriftWatch.restore(settings, "binary", watch.state())
    assert again.state() == watch.state()
    told = [feed(one, flips(3, (60, 0.8)), start=150) for one in (watch, again)]
    assert told[0] == told[1]
    assert told[0][0][1].data["detector"] == "page_hinkley+page_hinkley on score"
    other = settings.model_copy(update={"detectors": (settings.detectors[0], settings.detectors[0])})
    assert not DriftWatch.restore(other, "binary", watch.state())._fired, "they watch other things"


def test_a_recovery_or_a_reset_forgets_who_had_fired() -> None:
    for forget in (lambda watch: watch.begin_recovery(120), lambda watch: watch.reset(False)):
        watch = belled("all", Bell(100), Bell(130))
        feed(watch, flips(1, (120, 0.3)))
        assert watch._fired
        forget(watch)  # type: ignore[no-untyped-call]
        assert not watch._fired
