"""The history: that blocks say what was put into them, that what is merged or written twice stays right, and what is kept."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn import history
from streamlearn.config_history import HistorySettings
from streamlearn.errors import Corrupt, StoreUnavailable
from streamlearn.history import SPAN, STEPS, Block, Recorder, Series, read, tiers, wanted
from streamlearn.testing import Faults, MemoryStore

T0 = 1_767_225_600.0  # a multiple of every step
SETTINGS = HistorySettings()
NAMES = st.text(min_size=1, max_size=12)
VALUES = st.one_of(st.floats(-1e12, 1e12), st.integers(-(10**9), 10**9).map(float), st.sampled_from([0.0, 1e300, -1e300]))
SAMPLES = st.lists(st.tuples(st.integers(0, SPAN * 10 - 1), st.dictionaries(NAMES, VALUES, max_size=4)), max_size=30)


def close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=3e-7, abs_tol=1e-37)


def filled(samples: list[tuple[int, dict[str, float]]], start: int = 0) -> Block:
    block = Block(10, start)
    for at, sample in samples:
        block.add(start + at, sample)
    return block


def show(store: Any, since: float, until: float, points: int = 600, names: Any = None, now: float | None = None) -> Series:
    return read(store, SETTINGS, "m", since, until, points, names, until if now is None else now)


# -- blocks


@given(SAMPLES)
def test_a_block_says_what_was_put_into_it(samples: list[tuple[int, dict[str, float]]]) -> None:
    block = Block.decode(filled(samples, 3200).encode(), 10, 3200)
    for name, row in block.rows.items():
        for column in range(SPAN):
            values = [sample[name] for at, sample in samples if name in sample and at // 10 == column]
            values = [min(max(value, -3e38), 3e38) for value in values]
            n, mean, least, greatest = block.cells[row, :, column]
            assert n == len(values)
            if values:
                assert close(least, min(values))
                assert close(greatest, max(values))
                assert least <= mean <= greatest or close(mean, least)
                span = max(map(abs, values))
                assert math.isclose(mean, math.fsum(values) / len(values), rel_tol=1e-6, abs_tol=max(span * 1e-6, 1e-37))
            else:
                assert (mean, least, greatest) == (0, 0, 0)


@given(SAMPLES)
def test_a_row_that_is_written_again_is_the_same(samples: list[tuple[int, dict[str, float]]]) -> None:
    row = filled(samples).encode()
    assert Block.decode(row, 10, 0).encode() == row


@given(SAMPLES, SAMPLES)
def test_of_two_versions_each_step_is_that_which_knows_of_more(one: Any, other: Any) -> None:
    mine, its = filled(one), filled(other)
    merged = filled(one)
    merged.take(its)
    for name, row in merged.rows.items():
        for column in range(SPAN):
            cells = [block.cells[block.rows[name], :, column] for block in (mine, its) if name in block.rows]
            best = max(cells, key=lambda cell: float(cell[0]))
            assert np.array_equal(merged.cells[row, :, column], best)
    again = Block.decode(merged.encode(), 10, 0)
    again.take(its)
    assert again.encode() == merged.encode()


@given(st.binary(max_size=300))
def test_bytes_that_are_no_block_are_told(data: bytes) -> None:
    for row in (data, b"H1" + data, b"H1" + zlib.compress(data), b"H1" + zlib.compress(data)[:-2]):
        with pytest.raises(Corrupt, match="block of history"):
            Block.decode(row, 10, 0)


@given(SAMPLES, st.data())
def test_a_row_that_was_altered_is_told_or_a_block(samples: Any, data: Any) -> None:
    """zlib may say the same in several ways, of which its checksum knows nothing: then the block is what it was."""
    whole = filled(samples).encode()
    row = bytearray(whole)
    place = data.draw(st.integers(0, len(row) - 1))
    row[place] ^= data.draw(st.integers(1, 255))
    try:
        found = Block.decode(bytes(row), 10, 0)
    except Corrupt:
        return
    assert found.encode() == whole


@pytest.mark.parametrize(
    "packed",
    [
        [10, 0, ["a", "a"], bytes(2 * 2 * SPAN), bytes(2 * 3 * SPAN * 4)],
        [10, 0, ["a"], bytes(2 * SPAN), bytes(3 * SPAN * 4 - 1)],
        [10, 0, ["a"], bytes(2 * SPAN - 2), bytes(3 * SPAN * 4)],
        [10, 0, ["a"], bytes(2 * SPAN), b"\xff" * (3 * SPAN * 4)],
        [10, 320, [], b"", b""],
        [60, 0, [], b"", b""],
        [10, 0, []],
    ],
    ids=["a name twice", "cut", "n cut", "nan", "another time", "another step", "short"],
)
def test_sound_bytes_of_something_else_are_told(packed: Any) -> None:
    with pytest.raises(Corrupt):
        Block.decode(b"H1" + zlib.compress(msgspec.msgpack.encode(packed)), 10, 0)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(Corrupt, match="far too long"):
        Block.decode(b"H1" + zlib.compress(bytes(100_000_000)), 10, 0)


def test_what_is_no_number_is_left_out() -> None:
    block = Block(10, 0)
    block.add(0, {"a": math.nan, "b": math.inf, "c": 1.0})
    assert list(block.rows) == ["c"]


def test_a_block_keeps_so_many_series_and_no_more() -> None:
    block = Block(10, 0)
    block.add(0, {f"s{n}": 1.0 for n in range(history.MAX_SERIES + 50)})
    block.add(5, {"one more": 1.0, "s0": 3.0})
    assert len(block.rows) == history.MAX_SERIES
    assert block.cells[block.rows["s0"], :, 0].tolist() == [2, 2, 1, 3]


# -- recording


def record(recorder: Recorder, values: Mapping[float, float], model: str = "m") -> None:
    for at, value in values.items():
        recorder.sample(model, at, {"v": value})


def test_every_tier_has_every_sample() -> None:
    store = MemoryStore()
    record(Recorder(store, SETTINGS), {T0 + 5 * place: float(place) for place in range(360)})
    assert store.histories() == [("m", step) for step in STEPS]
    fine = show(store, T0, T0 + 1800)
    assert (fine.step_s, len(fine.at)) == (10, 180)
    assert fine.series["v"]["mean"][:2] == [0.5, 2.5]
    assert fine.series["v"]["max"][-1] == 359
    middle = show(store, T0, T0 + 1800, points=30)
    assert (middle.step_s, middle.series["v"]["mean"][0], middle.series["v"]["min"][1]) == (60, 5.5, 12)
    coarse = show(store, T0, T0 + 1800, points=2)
    assert coarse.step_s == 900
    assert coarse.series["v"]["mean"] == [89.5, pytest.approx(269.5, abs=6)]  # the last minute of it is not written yet
    assert coarse.series["v"]["min"] == [0, 180]


def test_it_goes_on_with_a_half_filled_step_after_a_restart() -> None:
    store = MemoryStore()
    record(Recorder(store, SETTINGS), {T0: 1.0, T0 + 3: 2.0})
    record(Recorder(store, SETTINGS), {T0 + 6: 6.0})
    got = show(store, T0, T0 + 10).series["v"]
    assert got == {"mean": [3.0], "min": [1.0], "max": [6.0]}


def test_a_restart_loses_no_more_of_a_minute_than_one_fine_step() -> None:
    store = MemoryStore()
    for lifetime in range(6):
        record(Recorder(store, SETTINGS), {T0 + 10 * lifetime + second: 1.0 for second in (0, 3, 6)})
    [block] = history.load(store, "m", 60, int(T0), int(T0) + 1)
    assert block.cells[0, 0, 0] == 6  # the first of each lifetime; the finest tier has all
    assert sum(one.cells[0, 0].sum() for one in history.load(store, "m", 10, int(T0), int(T0) + 1)) == 18


def test_a_gap_is_a_gap() -> None:
    store = MemoryStore()
    record(Recorder(store, SETTINGS), {T0: 1.0, T0 + 3600: 2.0})
    got = show(store, T0, T0 + 3610)
    assert len(got.at) == 361
    assert [value for value in got.series["v"]["mean"] if value is not None] == [1.0, 2.0]
    assert show(store, T0 + 100, T0 + 200).series == {}


def test_a_clock_that_is_set_back_loses_nothing_that_was_there() -> None:
    store = MemoryStore()
    recorder = Recorder(store, SETTINGS)
    record(recorder, {T0 + 10 * place: 1.0 for place in range(100)})
    record(recorder, {T0 + 10 * place: 3.0 for place in range(5, 10)})
    got = show(store, T0, T0 + 1000).series["v"]["mean"]
    assert got == [2.0 if 5 <= place < 10 else 1.0 for place in range(100)]


def test_two_writers_for_a_moment_do_no_harm() -> None:
    store = MemoryStore()
    one, other = Recorder(store.reopen(), SETTINGS), Recorder(store.reopen(), SETTINGS)
    record(one, {T0 + 10 * place: 1.0 for place in range(10)})
    record(other, {T0 + 10 * place: 1.0 for place in range(10, 30)})
    record(one, {T0 + 10 * place: 1.0 for place in range(30, 33)})  # a zombie that wakes up, and has missed twenty
    record(other, {T0 + 10 * place: 1.0 for place in range(33, 70)})
    assert show(store, T0, T0 + 700).series["v"]["mean"] == [1.0] * 70
    assert show(store, T0, T0 + 660, points=11).series["v"]["mean"] == [1.0] * 11


def test_what_was_taken_while_the_store_was_away_is_written_later() -> None:
    store, faults = MemoryStore(), Faults()
    recorder = Recorder(faults.over(store), SETTINGS)
    record(recorder, {T0: 1.0})
    faults.fail("put_history", StoreUnavailable("away"), times=10_000)
    faults.fail("history", StoreUnavailable("away"), times=10_000)
    for place in range(1, 100):
        with pytest.raises(StoreUnavailable):
            recorder.sample("m", T0 + 10 * place, {"v": 1.0})
    faults.heal()
    record(recorder, {T0 + 1000: 1.0})
    assert show(store, T0, T0 + 1010).series["v"]["mean"] == [1.0] * 101


def test_memory_is_bounded_while_the_store_is_away() -> None:
    store, faults = MemoryStore(), Faults()
    recorder = Recorder(faults.over(store), SETTINGS)
    faults.fail("put_history", StoreUnavailable("away"), times=10_000)
    for place in range(5000):
        with pytest.raises(StoreUnavailable):
            recorder.sample("m", T0 + 10 * place, {"v": float(place)})
    assert max(map(len, recorder._waiting.values())) == history.WAITING
    faults.heal()
    record(recorder, {T0 + 50_000: 5000.0})
    got = show(store, T0 + 45_000, T0 + 50_010, points=2000, now=T0 + 50_010)
    assert got.series["v"]["mean"][-100:] == [float(place) for place in range(4901, 5001)]
    assert show(store, T0, T0 + 50_010, points=56).series["v"]["max"][-1] == 5000


def test_a_block_that_cannot_be_read_is_told_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    record(Recorder(store, SETTINGS), {T0 + 10 * place: 1.0 for place in range(64)})
    [(at, row), _] = store.history("m", 10, 0, 1 << 40)
    store.put_history("m", 10, at, b"H1 rubbish", row)
    with caplog.at_level(logging.WARNING):
        got = show(store, T0, T0 + 640)
    [told] = caplog.records
    assert (told.model, told.step_s, told.at) == ("m", 10, at)  # type: ignore[attr-defined]
    assert "not a block of history" in told.error  # type: ignore[attr-defined]
    assert got.series["v"]["mean"] == [None] * 32 + [1.0] * 32


def test_a_damaged_block_is_begun_anew() -> None:
    store = MemoryStore()
    record(Recorder(store, SETTINGS), {T0: 1.0})
    [(at, row)] = store.history("m", 10, 0, 1 << 40)
    store.put_history("m", 10, at, b"rubbish", row)
    record(Recorder(store, SETTINGS), {T0 + 10: 2.0})
    assert show(store, T0, T0 + 20).series["v"]["mean"] == [None, 2.0]


def test_what_is_older_than_its_tier_is_kept_is_forgotten() -> None:
    store = MemoryStore()
    recorder = Recorder(store, HistorySettings(fine_hours=1, middle_days=1, coarse_days=2))
    for hour in range(0, 72):
        recorder.sample("m", T0 + 3600 * hour, {"v": 1.0})
        recorder.sample("gone", T0, {"v": 1.0}) if hour == 0 else None
        recorder.trim(T0 + 3600 * hour)
    now = T0 + 3600 * 71
    for tier, keep_s in zip(tiers(SETTINGS), (3600, 86_400, 2 * 86_400), strict=True):
        [oldest, *_] = store.history("m", tier.step, 0, 1 << 40)
        assert now - keep_s - tier.span < oldest[0] <= now - keep_s + 3600
    assert {model for model, _ in store.histories()} == {"m"}


def test_a_whole_month_is_bounded() -> None:
    store = MemoryStore()
    recorder = Recorder(store, HistorySettings(fine_hours=1, middle_days=1, coarse_days=31))
    for place in range(6 * 24 * 35):
        recorder.sample("m", T0 + 600 * place, {"v": 1.0})
        if place % 6 == 0:
            recorder.trim(T0 + 600 * place)
    rows = {step: len(store.history("m", step, 0, 1 << 40)) for step in STEPS}
    assert rows[10] <= 3600 / 320 + 3
    assert rows[60] <= 86_400 / 1920 + 3
    assert rows[900] <= 31 * 86_400 / 28_800 + 2


# -- reading


@pytest.mark.parametrize(
    ("span", "points", "ago", "step"),
    [
        (300, 600, 300, 10), (3600, 600, 3600, 10), (3600, 60, 3600, 60), (86_400, 600, 86_400, 180),
        (7 * 86_400, 600, 7 * 86_400, 1800),
        (30 * 86_400, 600, 30 * 86_400, 4500), (300, 600, 5 * 3600, 10), (300, 600, 10 * 3600, 60),
        (300, 600, 20 * 86_400, 900), (365 * 86_400, 100, 365 * 86_400, 320_400), (1, 1, 1, 10),
    ],
)  # fmt: skip
def test_the_coarsest_tier_that_is_fine_enough_is_read(span: int, points: int, ago: int, step: int) -> None:
    now = T0 + 400 * 86_400
    got = show(MemoryStore(), now - ago, now - ago + span, points, now=now)
    assert got.step_s == step
    assert len(got.at) <= points


@given(st.floats(0, 4e9), st.floats(0.001, 4e7), st.integers(1, 2000), st.floats(0, 4e7))
@settings(max_examples=300)
def test_the_grid_covers_what_was_asked_with_few_enough_steps(since: float, span: float, points: int, age: float) -> None:
    until = since + span
    got = show(MemoryStore(), since, until, points, now=until + age)
    assert 1 <= len(got.at) <= points
    assert got.at[0] <= since
    assert got.at[-1] < until
    assert all(at % got.step_s == 0 for at in got.at)
    assert got.at[-1] + got.step_s >= until or points == 1


@given(
    st.lists(st.tuples(st.integers(0, 7200), st.floats(-1000, 1000)), min_size=1, max_size=60),
    st.integers(0, 3600), st.integers(1, 7200), st.integers(1, 40),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_merged_steps_say_what_their_samples_say(samples: Any, begin: int, span: int, points: int) -> None:
    store = MemoryStore()
    recorder = Recorder(store, SETTINGS)
    for at, value in sorted(samples):
        recorder.sample("m", T0 + at, {"v": value})
    recorder.sample("m", T0 + 9000, {"v": 0.0})  # so that every tier has been written
    got = show(store, T0 + begin, T0 + begin + span, points, now=T0 + 9000)
    told = got.series.get("v", {"mean": [None] * len(got.at), "min": [], "max": []})
    for place, at in enumerate(got.at):
        values = [value for when, value in samples if at <= T0 + when < at + got.step_s]
        if T0 + 9000 in range(at, at + got.step_s):
            continue
        if not values:
            assert told["mean"][place] is None
            continue
        assert told["mean"][place] == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-3)
        assert told["min"][place] == pytest.approx(min(values), rel=1e-6, abs=1e-6)
        assert told["max"][place] == pytest.approx(max(values), rel=1e-6, abs=1e-6)


def test_series_are_chosen_by_name_or_beginning() -> None:
    store = MemoryStore()
    Recorder(store, SETTINGS).sample("m", T0, {"metric:accuracy": 1.0, "metric:kappa": 0.5, "lag": 3.0, "feature:x": 0.1})
    asked = {
        None: ["lag", "metric:accuracy", "metric:kappa"], ("metric:*",): ["metric:accuracy", "metric:kappa"],
        ("lag", "feature:*"): ["feature:x", "lag"], ("*",): ["feature:x", "lag", "metric:accuracy", "metric:kappa"],
        ("nothing",): [], (): [],
    }  # fmt: skip
    for names, found in asked.items():
        assert list(show(store, T0, T0 + 10, names=names).series) == found
    assert wanted("feature:x", None) is False


def test_values_are_told_to_seven_digits() -> None:
    store = MemoryStore()
    Recorder(store, SETTINGS).sample("m", T0, {"a": 0.851, "b": 1_234_567.0, "c": -1e-9, "d": 0.0, "e": 2e38})
    got = show(store, T0, T0 + 10).series
    assert [got[name]["mean"][0] for name in "abcd"] == [0.851, 1_234_567.0, -1e-9, 0.0]
    assert got["e"]["mean"][0] == pytest.approx(2e38)
