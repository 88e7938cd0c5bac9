"""The rows of a factor table with the highest inner products with a vector: exactly, or of a clustered shortlist.

A table is a float32 array of shape (n, d), often a read-only memory map. An index keeps the table that it was given, not a
copy, and scores by the factors that stand there at the time. A later table may be longer, never shorter. Searches are safe in
any number of threads, beside one another and beside every other method. Ties go to the lower row; rows whose score is not
finite are left out.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .lists import Lists

logger = logging.getLogger(__name__)

Factors = npt.NDArray[np.float32]
RowNumbers = npt.NDArray[np.int64]
Found = tuple[RowNumbers, Factors]

BLOCK = 16_384  # rows scored at a time: 4 MiB at 64 factors, so that scores are cut while the cache holds them
SAMPLE = 64  # queries by which a build chooses how many lists a search reads
TUNED_AT = 100  # results of each of these
SLICE = 20_000  # rows read from the table and put into lists at a time


class Index(Protocol):
    """What both kinds do."""

    def build(self, factors: Factors, rows: npt.ArrayLike) -> None:
        """Hold exactly `rows` of the table `factors`. Raises ValueError for other shapes or rows beyond the table."""
        ...

    def update(self, rows: npt.ArrayLike, factors: Factors) -> None:
        """These rows are new or have changed in `factors`, the whole table, which is read from now on. Raises ValueError."""
        ...

    def remove(self, rows: npt.ArrayLike) -> None:
        """Never find these rows again, unless they are updated; rows that are not held are ignored."""
        ...

    def search(self, vector: npt.ArrayLike, k: int) -> Found:
        """At most `k` rows and their inner products with `vector` of shape (d,), highest first. Raises ValueError."""
        ...

    def recall(self, queries: npt.ArrayLike, k: int, factors: Factors) -> float:
        """The share of the exact top `k` in `factors` that searches find: the mean over `queries` of shape (m, d)."""
        ...

    def __len__(self) -> int:
        """How many rows are held."""
        ...


class Exact:
    """Scores every row that it holds, block by block: no build to speak of, and a search takes as long as reading the table."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._held: tuple[Factors, npt.NDArray[np.bool_]] = (np.empty((0, 0), np.float32), np.empty(0, np.bool_))

    def __len__(self) -> int:
        return int(np.count_nonzero(self._held[1]))

    @property
    def held(self) -> tuple[Factors, npt.NDArray[np.bool_]]:
        """The table, and which of its rows are held."""
        return self._held

    def build(self, factors: Factors, rows: npt.ArrayLike) -> None:
        """Hold exactly `rows` of the table `factors`."""
        numbers = checked(factors, rows)
        live = np.zeros(len(factors), np.bool_)
        live[numbers] = True
        with self._writing:
            self._held = factors, live

    def update(self, rows: npt.ArrayLike, factors: Factors) -> None:
        """These rows are new or have changed in `factors`, the whole table, which is read from now on."""
        numbers = checked(factors, rows)
        with self._writing:
            table, live = self._held
            if len(factors) < len(table) or (table.shape != (0, 0) and factors.shape[1] != table.shape[1]):
                raise ValueError(f"a table of shape {factors.shape} cannot follow one of shape {table.shape}")
            if len(factors) > len(live):
                live = np.concatenate([live, np.zeros(len(factors) - len(live), np.bool_)])
            live[numbers] = True
            self._held = factors, live

    def remove(self, rows: npt.ArrayLike) -> None:
        """Never find these rows again, unless they are updated; rows that are not held are ignored."""
        numbers = np.asarray(rows, np.int64).ravel()
        with self._writing:
            live = self._held[1]
            live[numbers[(numbers >= 0) & (numbers < len(live))]] = False

    def search(self, vector: npt.ArrayLike, k: int) -> Found:
        """At most `k` rows and their inner products with `vector`, highest first."""
        table, live = self._held
        query = asked(vector, k, table)
        rows, scores, floor = np.empty(0, np.int64), np.empty(0, np.float32), -np.inf
        for begin in range(0, len(table), BLOCK):
            with np.errstate(invalid="ignore", over="ignore"):
                block = table[begin : begin + BLOCK] @ query
            better = np.flatnonzero((block > floor) & live[begin : begin + BLOCK])
            if not len(better):
                continue
            rows = np.concatenate([rows, better + begin])
            scores = np.concatenate([scores, block[better]])
            if len(rows) >= 2 * k:
                rows, scores = top(rows, scores, k)
                floor = scores[-1] if len(scores) == k else floor
        return scored(table, top(rows, scores, k)[0], query, k)

    def recall(self, queries: npt.ArrayLike, k: int, factors: Factors) -> float:
        """The share of the exact top `k` in `factors` that searches find."""
        return _recall(self, self, queries, k, factors)


class _State(NamedTuple):
    """What a search reads, exchanged as one: the rows held, and the lists that hold them once they are filled."""

    exact: Exact
    lists: Lists | None
    probes: int


class Approximate:
    """Keeps the rows in lists of similar direction in half precision, reads the most promising lists, and scores a shortlist.

    How many lists a search reads is chosen by `build`: as few as give a recall of `target` in the top 100 of sample queries,
    all of them where none does or rows are few. `build` takes seconds for a million rows, with the interpreter's lock
    released; it may run in a thread of its own. Until the first is done, searches are exact; during a later one they use the
    lists that they had. The same seed, rows and order of calls give the same lists. Raises ImportError where faiss is not
    installed.
    """

    def __init__(self, *, target: float = 0.95, seed: int = 0) -> None:
        if not available():
            raise ImportError("an approximate index needs faiss: pip install 'streamlearn[recommend]'")
        self._target = target
        self._seed = seed
        self._building = threading.Lock()
        self._writing = threading.Lock()
        self._state = _State(Exact(), None, 0)
        self._next: Exact | None = None  # what a build that runs will publish
        self._missed: list[RowNumbers] = []  # rows that changed since it began
        self._put = 0

    def __len__(self) -> int:
        return len(self._state.exact)

    @property
    def ready(self) -> bool:
        """Whether searches read lists: a build is done."""
        return self._state.lists is not None

    @property
    def probes(self) -> int:
        """How many lists a search reads; 0 before the first build is done."""
        return self._state.probes

    @property
    def changed(self) -> int:
        """Rows put by updates since the last build: lists fit worse the more there are."""
        return self._put

    def build(self, factors: Factors, rows: npt.ArrayLike, queries: npt.ArrayLike | None = None) -> None:
        """Hold exactly `rows` of the table `factors`; `queries` of shape (m, d) are such as will be asked, by default made up.

        Updates and removals meanwhile are kept, and count in both the old state and the new. Of two builds one waits. Another
        model's factors belong in an index of their own, which the caller exchanges.
        """
        numbers = checked(factors, rows)
        with self._building:
            exact = Exact()
            exact.build(factors, numbers)
            with self._writing:
                if self._state.lists is None:
                    self._state = _State(exact, None, 0)
                self._next, self._missed, self._put = exact, [], 0
            try:
                lists = self._filled(factors, np.unique(numbers))
                probes = self._tuned(exact, lists, queries)
                with self._writing:
                    self._catch_up(exact, lists)
                    self._state = _State(exact, lists, probes)
            finally:
                with self._writing:
                    self._next, self._missed = None, []

    def update(self, rows: npt.ArrayLike, factors: Factors) -> None:
        """These rows are new or have changed in `factors`, the whole table, which is read from now on."""
        numbers = checked(factors, rows)
        with self._writing:
            self._state.exact.update(numbers, factors)
            self._put += len(numbers)
            if self._next is not None:
                self._next.update(numbers, factors)
                self._missed.append(numbers)
            if self._state.lists is not None:
                self._state.lists.put(factors, np.unique(numbers))

    def remove(self, rows: npt.ArrayLike) -> None:
        """Never find these rows again, unless they are updated; rows that are not held are ignored."""
        numbers = np.unique(np.asarray(rows, np.int64))
        with self._writing:
            self._state.exact.remove(numbers)
            if self._next is not None:
                self._next.remove(numbers)
                self._missed.append(numbers)
            if self._state.lists is not None:
                self._state.lists.drop(numbers)

    def search(self, vector: npt.ArrayLike, k: int) -> Found:
        """At most `k` rows and their inner products with `vector`, highest first; fewer only where fewer are held."""
        return _search(self._state, vector, k)

    def recall(self, queries: npt.ArrayLike, k: int, factors: Factors) -> float:
        """The share of the exact top `k` in `factors` that searches find: the mean over `queries`."""
        return _recall(self, self._state.exact, queries, k, factors)

    def _filled(self, factors: Factors, rows: RowNumbers) -> Lists:
        rng = np.random.default_rng(self._seed)
        lists = Lists(factors.shape[1], len(rows), self._seed)
        few = rows if len(rows) <= lists.sample else np.sort(rng.choice(rows, lists.sample, replace=False))
        lists.train(factors[few])
        for begin in range(0, len(rows), SLICE):
            some = rows[begin : begin + SLICE]
            lists.fill(factors[some], some)
        lists.close()
        return lists

    def _tuned(self, exact: Exact, lists: Lists, queries: npt.ArrayLike | None) -> int:
        """The fewest lists, doubled from a 64th of them, by which a sample of queries reaches the target; else all."""
        if len(lists) < 10 * TUNED_AT:
            return lists.count
        probes: int = max(1, lists.count // 64)
        wanted = self._sample(exact) if queries is None else np.asarray(queries, np.float32)[:SAMPLE]
        right = [exact.search(query, TUNED_AT)[0] for query in wanted]
        while probes < lists.count:
            state = _State(exact, lists, probes)
            found = [_search(state, query, TUNED_AT)[0] for query in wanted]
            if _share(found, right) >= self._target:
                break
            probes = min(2 * probes, lists.count)
        return probes

    def _sample(self, exact: Exact) -> Factors:
        """Directions between one to four rows: what users who liked these would ask, where nobody tells."""
        rng = np.random.default_rng(self._seed)
        table, live = exact.held
        rows = np.flatnonzero(live)
        if not len(rows):
            return np.empty((0, table.shape[1]), np.float32)
        made = []
        for _ in range(SAMPLE):
            liked = table[rng.choice(rows, rng.integers(1, 5))].astype(np.float64)
            norms = np.linalg.norm(liked, axis=1, keepdims=True)
            made.append((liked / np.where(norms > 0, norms, 1.0)).mean(axis=0))
        return np.asarray(made, np.float32)

    def _catch_up(self, exact: Exact, lists: Lists) -> None:
        if self._missed:
            rows = np.unique(np.concatenate(self._missed))
            table, live = exact.held
            rows = rows[rows < len(live)]
            lists.drop(rows[~live[rows]])
            lists.put(table, rows[live[rows]])


def available() -> bool:
    """Whether faiss, which approximate indexes need, is installed."""
    return importlib.util.find_spec("faiss") is not None


def index_for(n_items: int, exact_up_to: int = 50_000, *, target: float = 0.95, seed: int = 0) -> Exact | Approximate:
    """An index for so many items: exact up to `exact_up_to`, above that approximate; with a warning exact without faiss."""
    if n_items <= exact_up_to:
        return Exact()
    if not available():
        logger.warning("%d items are searched exactly, which is slow: pip install 'streamlearn[recommend]'", n_items)
        return Exact()
    return Approximate(target=target, seed=seed)


def checked(factors: Factors, rows: npt.ArrayLike) -> RowNumbers:
    """The rows as numbers. Raises ValueError for a table that is not float32 of two dimensions, or rows that are not in it."""
    if factors.ndim != 2 or factors.dtype != np.float32:
        raise ValueError(f"factors are a float32 table, not {factors.dtype} of shape {factors.shape}")
    given = np.asarray(rows)
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
        raise ValueError(f"rows are whole numbers in one dimension, not {given.dtype} of shape {given.shape}")
    numbers = given.astype(np.int64)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(factors):
        raise ValueError(f"rows {numbers.min()} to {numbers.max()} are not all in a table of {len(factors)}")
    return numbers


def asked(vector: npt.ArrayLike, k: int, table: Factors) -> Factors:
    """The vector as float32. Raises ValueError for a k below 1 and for a vector whose shape does not fit the table."""
    query = np.asarray(vector, np.float32)
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    if table.shape != (0, 0) and query.shape != (table.shape[1],):
        raise ValueError(f"a vector of shape ({table.shape[1]},) is asked for, not {query.shape}")
    return query


def top(rows: RowNumbers, scores: Factors, k: int) -> Found:
    """The `k` highest finite scores and their rows, in order; ties by row."""
    finite = np.isfinite(scores)
    if not finite.all():
        rows, scores = rows[finite], scores[finite]
    if len(scores) > k:
        keep = scores >= np.partition(scores, -k)[-k]
        rows, scores = rows[keep], scores[keep]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def scored(table: Factors, rows: RowNumbers, query: Factors, k: int) -> Found:
    """The best `k` of these rows by their inner products now, summed in double precision."""
    if not len(rows):
        return rows, np.empty(0, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = (table[rows].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    return top(rows, scores, k)


def _search(state: _State, vector: npt.ArrayLike, k: int) -> Found:
    exact, lists, probes = state
    if lists is None:
        return exact.search(vector, k)
    table, live = exact.held
    query = asked(vector, k, table)
    while True:
        rows = lists.shortlist(query, k + k // 2 + 16, probes)
        rows = rows[rows < len(live)]
        rows = rows[live[rows]]
        if len(rows) >= k or probes >= lists.count or len(rows) == len(exact):
            return scored(table, rows, query, k)
        probes = min(4 * probes, lists.count)


def _recall(index: Exact | Approximate, holds: Exact, queries: npt.ArrayLike, k: int, factors: Factors) -> float:
    exact = Exact()
    live = np.flatnonzero(holds.held[1])
    exact.build(factors, live[live < len(factors)])
    asked_for = np.asarray(queries, np.float32)
    return _share([index.search(one, k)[0] for one in asked_for], [exact.search(one, k)[0] for one in asked_for])


def _share(found: list[RowNumbers], right: list[RowNumbers]) -> float:
    """The mean share of each right answer that was found; 1.0 where there is nothing to find."""
    shares = [len(np.intersect1d(mine, exact)) / len(exact) for mine, exact in zip(found, right, strict=True) if len(exact)]
    return float(np.mean(shares)) if shares else 1.0
