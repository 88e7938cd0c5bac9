"""The rows with the highest inner products: right, current, and found while the index is built and changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.recommend import index as under_test
from streamlearn.recommend.index import BLOCK, Approximate, Exact, index_for
from streamlearn.recommend.lists import CHUNK, Gate, Lists

D = 16


def thorough() -> Approximate:
    """One that reads every list: what it misses is lost, not left out."""
    return Approximate(target=1.1)


BOTH = pytest.mark.parametrize("make", [Exact, thorough])


def clustered(n: int, seed: int = 0, d: int = D) -> np.ndarray:
    """Factors around 40 centres, with norms that differ."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, d))
    rows = centres[rng.integers(0, 40, n)] + 0.5 * rng.standard_normal((n, d))
    return (rows * rng.uniform(0.5, 2.0, (n, 1))).astype(np.float32)


def vectors(count: int, seed: int = 9, d: int = D) -> np.ndarray:
    return clustered(count, seed, d)


def reference(table: np.ndarray, rows: np.ndarray, vector: np.ndarray, k: int) -> list[int]:
    """By sorting everything, in double precision."""
    scores = {int(row): float(np.float32(table[row].astype(float) @ vector.astype(float))) for row in rows}
    return sorted(scores, key=lambda row: (-scores[row], row))[:k]


def built(make: Callable[[], Any], table: np.ndarray, rows: np.ndarray | None = None) -> Any:
    made = make()
    made.build(table, np.arange(len(table)) if rows is None else rows)
    return made


# -- what is found


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_an_exact_search_is_a_sort(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # many ties
    rows = rng.permutation(n)[: rng.integers(0, n + 1)]
    vector = rng.integers(-2, 3, 3).astype(np.float32)
    assert built(Exact, table, rows).search(vector, k)[0].tolist() == reference(table, rows, vector, k)


@pytest.mark.parametrize("k", [1, 10, 3000])
def test_an_exact_search_over_several_blocks_is_a_sort(k: int) -> None:
    table = clustered(2 * BLOCK + 100)
    rows = np.arange(0, len(table), 3)
    index = built(Exact, table, rows)
    for vector in vectors(3):
        assert index.search(vector, k)[0].tolist() == reference(table, rows, vector, k)


@BOTH
def test_scores_are_the_inner_products_of_the_table_in_order(make: Callable[[], Any]) -> None:
    table = clustered(3000)
    index = built(make, table)
    for vector in vectors(5):
        rows, scores = index.search(vector, 50)
        assert len(rows) == len(set(rows.tolist())) == 50
        assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
        np.testing.assert_array_equal(scores, (table[rows].astype(float) @ vector.astype(float)).astype(np.float32))
        assert (np.diff(scores) <= 0).all()


def test_an_approximate_search_reads_a_part_and_finds_what_it_should() -> None:
    table = clustered(20_000)
    index = Approximate(target=0.9)
    assert not index.ready
    index.build(table, np.arange(len(table)))
    assert index.ready
    assert index.probes <= 32  # of 128
    assert index.recall(vectors(40), 100, table) >= 0.9
    assert index.recall(vectors(40, seed=10), 10, table) >= 0.9


def test_recall_is_the_share_of_the_exact_top() -> None:
    table = clustered(500)
    index = built(Exact, table)
    assert index.recall(vectors(4), 10, table) == 1.0
    other = table.copy()
    other[index.search(vectors(1)[0], 10)[0][:4]] *= -1  # four of the ten are no longer where they were
    assert 0.4 <= index.recall(vectors(1), 10, other) <= 0.6


def test_more_lists_are_read_where_a_higher_recall_is_wanted() -> None:
    table = np.random.default_rng(0).standard_normal((8000, 32)).astype(np.float32)  # no structure: the worst case
    few, many = Approximate(target=0.3), Approximate(target=0.99)
    for index in (few, many):
        index.build(table, np.arange(len(table)))
    queries = np.random.default_rng(1).standard_normal((30, 32)).astype(np.float32)
    assert few.probes < many.probes <= 128
    assert few.recall(queries, 50, table) < 0.95 <= many.recall(queries, 50, table)


def test_the_queries_given_to_a_build_choose_how_many_lists_are_read() -> None:
    table = np.random.default_rng(0).standard_normal((8000, 32)).astype(np.float32)
    index = Approximate(target=0.9)
    index.build(table, np.arange(len(table)))
    made_up = index.probes
    index.build(table, np.arange(len(table)), queries=np.zeros((0, 32)))  # nothing to find: the fewest will do
    assert index.probes == 1 < made_up < 128


@BOTH
def test_all_that_is_held_is_found_when_more_is_asked_for(make: Callable[[], Any]) -> None:
    table = clustered(900)
    index = built(make, table, np.arange(0, 900, 2))
    rows, _ = index.search(vectors(1)[0], 2000)
    assert sorted(rows.tolist()) == list(range(0, 900, 2))
    assert len(index) == 450


@BOTH
@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_a_few_rows_or_none(make: Callable[[], Any], n: int) -> None:
    table = clustered(n)
    index = built(make, table)
    vector = vectors(1)[0]
    assert index.search(vector, 10)[0].tolist() == reference(table, np.arange(n), vector, 10)
    assert index.recall(vectors(2), 5, table) == 1.0


@BOTH
def test_before_any_build_there_is_nothing(make: Callable[[], Any]) -> None:
    index = make()
    assert len(index.search(np.ones(3), 5)[0]) == len(index) == 0
    index.update([1], clustered(2))  # a first row may come as an update
    assert index.search(np.ones(D), 5)[0].tolist() == [1]


@BOTH
def test_factors_that_are_not_finite_are_left_out_and_come_back(make: Callable[[], Any]) -> None:
    table = clustered(400)
    vector = vectors(1)[0]
    best = reference(table, np.arange(400), vector, 3)
    sound = table.copy()
    table[best[0]], table[best[1], 0] = np.nan, np.inf
    index = built(make, table)
    assert not {best[0], best[1]} & set(index.search(vector, 20)[0].tolist())
    index.update(best[:2], sound)
    assert index.search(vector, 3)[0].tolist() == best
    index.update(best[:2], table)
    assert index.search(vector, 1)[0].tolist() == best[2:]
    assert len(index.search(np.full(D, np.nan), 5)[0]) == 0


# -- what changes


@BOTH
def test_changed_rows_are_found_by_what_they_are_now(make: Callable[[], Any]) -> None:
    table = clustered(5000)
    index = built(make, table)
    vector = vectors(1)[0]
    before = index.search(vector, 5)[0]
    changed = np.array(reference(-table, np.arange(5000), vector, 2 * CHUNK))  # the worst become the best
    table[changed] *= -3
    index.update(changed, table)
    after, scores = index.search(vector, 20)
    assert not set(before.tolist()) & set(after.tolist())
    assert after.tolist() == reference(table, np.arange(5000), vector, 20)
    np.testing.assert_allclose(scores, table[after] @ vector, rtol=1e-5)
    assert len(index) == 5000


@BOTH
def test_scores_follow_the_table_without_being_told(make: Callable[[], Any]) -> None:
    table = clustered(2000)
    index = built(make, table)
    vector = vectors(1)[0]
    first, score = (each[0] for each in index.search(vector, 1))
    table[first] *= 2
    again, doubled = (each[0] for each in index.search(vector, 1))
    assert (again, doubled) == (first, pytest.approx(2 * score))


@BOTH
def test_a_longer_table_brings_new_rows(make: Callable[[], Any]) -> None:
    table = clustered(2000)
    index = built(make, table)
    vector = vectors(1)[0]
    longer = np.concatenate([table, 5 * vector[None], 4 * vector[None], clustered(10)]).astype(np.float32)
    index.update([2001, 2000, 2000], longer)
    assert index.search(vector, 2)[0].tolist() == [2000, 2001]
    assert len(index) == 2002
    assert not set(index.search(vector, 2500)[0].tolist()) & set(range(2002, 2012))


@BOTH
def test_removed_rows_are_gone_until_they_are_updated(make: Callable[[], Any]) -> None:
    table = clustered(3000)
    index = built(make, table)
    vector = vectors(1)[0]
    right = reference(table, np.arange(3000), vector, 30)
    index.remove([*right[:10], 10**6, -1])
    index.remove(right[:3])
    assert index.search(vector, 20)[0].tolist() == right[10:]
    assert len(index) == 2990
    assert index.recall(vectors(3), 10, table) >= 0.9
    index.update(right[:10], table)
    assert index.search(vector, 30)[0].tolist() == right


def test_removed_rows_leave_the_lists_and_are_not_found_before_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    table = clustered(3000)
    index = built(thorough, table)
    vector = vectors(1)[0]
    right = reference(table, np.arange(3000), vector, 30)
    index.remove(right[:5])
    assert len(index._state.lists) == 2995
    monkeypatch.setattr(Lists, "drop", lambda lists, rows: None)  # as a search finds them that comes in between
    index.remove(right[5:10])
    assert len(index._state.lists) == 2995
    assert index.search(vector, 20)[0].tolist() == right[10:]


def test_more_lists_are_read_where_few_hold_too_little() -> None:
    table = clustered(8000)
    index = built(lambda: Approximate(target=0.01), table)
    assert index.probes == 1
    assert len(index.search(vectors(1)[0], 4000)[0]) == 4000


def test_rows_move_between_lists_and_are_never_there_twice() -> None:
    table = clustered(3000)
    lists = Lists(D, 3000, 0)
    lists.train(table)
    lists.fill(table, np.arange(3000))
    lists.close()
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(3000)[:1500]
        table[rows] = clustered(1500, 100 + seed)
        lists.put(table, rows)
        assert len(lists) == 3000
    found = lists.shortlist(vectors(1)[0], 4000, lists.count)
    assert sorted(found.tolist()) == list(range(3000))
    lists.drop(np.arange(1000))
    assert len(lists) == 2000


def test_changes_since_a_build_are_counted() -> None:
    table = clustered(500)
    index = built(Approximate, table)
    index.update([1, 2, 3], table)
    assert index.changed == 3
    index.build(table, np.arange(500))
    assert index.changed == 0


@BOTH
def test_a_read_only_memory_map_serves(make: Callable[[], Any], tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", clustered(3000))
    table = np.load(tmp_path / "q.npy", mmap_mode="r")
    index = built(make, table)
    index.update([5, 6], table)
    vector = vectors(1)[0]
    assert index.search(vector, 10)[0].tolist() == reference(table, np.arange(3000), vector, 10)


def test_the_same_seed_gives_the_same_answers() -> None:
    table = np.random.default_rng(0).standard_normal((6000, D)).astype(np.float32)
    first, same, other = (Approximate(target=0.5, seed=seed) for seed in (1, 1, 2))
    for index in (first, same, other):
        index.build(table, np.arange(6000))
    answers = [[index.search(vector, 50)[0].tolist() for vector in vectors(20)] for index in (first, same, other)]
    assert answers[0] == answers[1] != answers[2]


# -- beside a build


class Held:
    """Stops the build in its filling, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: bool = False) -> None:
        self.inside, self.go = threading.Event(), threading.Event()

        def close(lists: Lists) -> None:
            self.inside.set()
            assert self.go.wait(30)
            if fail:
                raise MemoryError
            real(lists)

        real = Lists.close
        monkeypatch.setattr(Lists, "close", close)

    def building(self, index: Approximate, table: np.ndarray) -> threading.Thread:
        def build() -> None:
            with contextlib.suppress(MemoryError):
                index.build(table, np.arange(len(table)))

        thread = threading.Thread(target=build)
        thread.start()
        assert self.inside.wait(30)
        return thread


def test_searches_are_exact_until_the_first_build_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    table, index, held = clustered(3000), Approximate(), Held(monkeypatch)
    thread = held.building(index, table)
    vector = vectors(1)[0]
    assert (index.ready, index.probes) == (False, 0)
    assert index.search(vector, 40)[0].tolist() == reference(table, np.arange(3000), vector, 40)
    held.go.set()
    thread.join(30)
    assert index.ready
    assert len(index.search(vector, 40)[0]) == 40


@pytest.mark.parametrize("first", [True, False], ids=["the first build", "a later one"])
def test_what_changes_during_a_build_is_found_during_and_after_it(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    table, index = clustered(3000), thorough()
    if not first:
        index.build(table.copy(), np.arange(3000))
    held = Held(monkeypatch)
    thread = held.building(index, table.copy())
    vector = vectors(1)[0]
    right = reference(table, np.arange(3000), vector, 30)
    worst = reference(-table, np.arange(3000), vector, 5)
    longer = np.concatenate([table, 50 * vector[None]]).astype(np.float32)
    longer[worst] *= -40
    index.remove(right[:5])
    index.update([*worst, 3000], longer)
    index.remove([right[5]])
    index.update([right[0]], longer)
    rows = np.setdiff1d(np.arange(3001), right[1:6])
    expected = reference(longer, rows, vector, 20)
    assert set(worst) | {3000} <= set(expected)
    assert index.search(vector, 20)[0].tolist() == expected
    held.go.set()
    thread.join(30)
    assert index.ready
    assert index.search(vector, 20)[0].tolist() == expected
    assert len(index) == len(index._state.lists or ()) == 2996


def test_a_build_that_fails_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    table = clustered(3000)
    index = built(Approximate, table)
    before = index.probes
    held = Held(monkeypatch, fail=True)
    thread = held.building(index, table[:100])
    held.go.set()
    thread.join(30)
    assert (index.ready, index.probes, len(index)) == (True, before, 3000)
    assert len(index.search(vectors(1)[0], 200)[0]) == 200
    index.update([7], table)
    assert index._missed == []


def test_searches_updates_and_builds_go_on_beside_one_another() -> None:
    table = clustered(6000)
    index = built(Approximate, table)
    stop, wrong = threading.Event(), []

    def searching(seed: int) -> None:
        queries = vectors(50, seed)
        try:
            while not stop.is_set():
                for vector in queries:
                    rows, scores = index.search(vector, 20)
                    if len(set(rows.tolist())) != 20 or rows.max() >= 6000 or (np.diff(scores) > 0).any():
                        wrong.append((rows, scores))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=searching, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(5)
    for turn in range(6):
        rows = rng.permutation(6000)[:1200]
        table[rows] = clustered(1200, turn)
        index.update(rows, table)
        index.remove(rows[:100])
        index.update(rows[:100], table)
        if turn % 3 == 1:
            index.build(table, np.arange(6000))
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert index.recall(vectors(20), 20, table) >= 0.9


def test_a_writer_is_alone_and_readers_are_not() -> None:
    gate, log = Gate(), []
    both = threading.Barrier(2)

    def read() -> None:
        with gate.reading():
            both.wait(10)  # broken unless two are inside
            log.append("read")

    def write() -> None:
        with gate.writing():
            log.append("write")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with gate.reading():
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        late = threading.Thread(target=lambda: gate.reading().__enter__())
        late.start()
        late.join(0.1)
        assert late.is_alive()  # a writer who waits goes first
    writer.join(10)
    late.join(10)
    assert log == ["read", "read", "write"]


# -- what is refused, and what is chosen


@BOTH
@pytest.mark.parametrize(
    ("rows", "table", "told"),
    [
        ([0], np.zeros((3, 2)), "float32 table, not float64"),
        ([0], np.zeros(3, np.float32), "of shape \\(3,\\)"),
        ([3], np.zeros((3, 2), np.float32), "not all in a table of 3"),
        ([-1], np.zeros((3, 2), np.float32), "rows -1 to -1"),
        ([0.5], np.zeros((3, 2), np.float32), "whole numbers"),
        ([[0]], np.zeros((3, 2), np.float32), "one dimension"),
    ],
)
def test_a_wrong_table_or_row_is_refused(make: Callable[[], Any], rows: Any, table: np.ndarray, told: str) -> None:
    index = built(make, np.ones((3, 2), np.float32))
    for call in (index.build, lambda factors, numbers: index.update(numbers, factors)):
        with pytest.raises(ValueError, match=told):
            call(table, rows)
    assert index.search(np.ones(2), 5)[0].tolist() == [0, 1, 2]


@BOTH
def test_a_table_that_cannot_follow_and_a_wrong_question_are_refused(make: Callable[[], Any]) -> None:
    index = built(make, np.ones((3, 2), np.float32))
    for shape in ((2, 2), (3, 4)):
        with pytest.raises(ValueError, match="cannot follow"):
            index.update([0], np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="shape \\(2,\\)"):
        index.search(np.ones(3), 5)
    with pytest.raises(ValueError, match="at least 1"):
        index.search(np.ones(2), 0)


def test_a_few_items_are_searched_exactly_and_many_approximately(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(index_for(50_000), Exact)
    assert isinstance(index_for(50_001), Approximate)
    assert isinstance(index_for(11, exact_up_to=10), Approximate)
    monkeypatch.setattr(under_test.importlib.util, "find_spec", lambda name: None)
    assert isinstance(index_for(50_001), Exact)
    assert "50001 items are searched exactly" in caplog.text
    with pytest.raises(ImportError, match="recommend"):
        Approximate()
