"""The 100 items with the highest inner products of a million, at 64 float32 factors: time, recall, memory, and changes.

Factors of two shapes. Clustered: 2,000 centres of a falling spectrum, of sizes that differ, with norms that grow with a Zipf
popularity; users lie between one to four items. Without structure: independent Gaussians, the worst case. The queries that are
measured are others than those by which a build chooses how many lists to read, which are made up.

Everything runs on one core. Times of the wall suffer from whatever else runs there; times of the CPU are the thread's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from streamlearn.recommend.index import Approximate, Exact

from .harness import Rows, main

Array = Any
ITEMS, FACTORS, K = 1_000_000, 64, 100
EXACT = (50_000, 200_000, 1_000_000)
QUERIES = 300
CHANGED = 5000
GOAL_MS, GOAL_RECALL, GOAL_MIB = "<= 25", ">= 0.9", "<= 600"


def clustered(n: int, seed: int = 0, clusters: int = 2000, spread: float = 0.6) -> Array:
    """Item factors of shape (n, 64) as a factorisation leaves them: clusters, and norms that grow with popularity."""
    rng = np.random.default_rng(seed)
    spectrum = _spectrum()
    centres = rng.standard_normal((clusters, FACTORS), np.float32) * spectrum
    which = rng.choice(clusters, n, p=rng.dirichlet(np.full(clusters, 0.5)))
    factors = centres[which] + spread * rng.standard_normal((n, FACTORS), np.float32) * spectrum
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    popularity = np.clip(rng.zipf(1.6, n), 1, 100_000).astype(np.float32)
    factors *= (0.3 + 0.25 * np.log1p(popularity))[:, None]
    return factors


def users(items: Array, count: int, seed: int = 1) -> Array:
    """User factors of shape (count, 64): between the directions of one to four items, with noise."""
    rng = np.random.default_rng(seed)
    noise = _spectrum() / np.linalg.norm(_spectrum())
    made = np.empty((count, FACTORS), np.float32)
    for row in made:
        liked = items[rng.integers(0, len(items), rng.integers(1, 5))]
        row[:] = (liked / np.linalg.norm(liked, axis=1, keepdims=True)).mean(axis=0)
        row += 0.3 * rng.standard_normal(FACTORS, np.float32) * noise
    return made


def gaussian(n: int, seed: int = 0) -> Array:
    """Independent factors of shape (n, 64)."""
    return np.random.default_rng(seed).standard_normal((n, FACTORS), np.float32)


def _spectrum() -> Array:
    return (np.arange(1, FACTORS + 1) ** -0.5).astype(np.float32)


def plain(factors: Array, query: Array) -> Array:
    """What one writes with numpy."""
    scores = factors @ query
    best = np.argpartition(scores, -K)[-K:]
    return best[np.argsort(-scores[best])]


def timed(ask: Callable[[Array], Any], queries: Array) -> tuple[Array, Array]:
    """Milliseconds of the wall and of the CPU for each query; the first few warm up."""
    for query in queries[:5]:
        ask(query)
    wall, spent = [], []
    for query in queries:
        began, used = time.perf_counter(), time.thread_time()
        ask(query)
        wall.append(time.perf_counter() - began)
        spent.append(time.thread_time() - used)
    return 1e3 * np.asarray(wall), 1e3 * np.asarray(spent)


def add_times(rows: Rows, name: str, times: tuple[Array, Array], goal: str | None = None) -> None:
    """Quantiles of both clocks; the goal is for either p99."""
    wall, spent = times
    rows.add(f"{name}: p50", float(np.quantile(wall, 0.5)), "ms")
    rows.add(f"{name}: p99", float(np.quantile(wall, 0.99)), "ms", goal)
    rows.add(f"{name}: p99 of the CPU", float(np.quantile(spent, 0.99)), "ms", goal)


def exact(rows: Rows, factors: Array, queries: Array, sizes: tuple[int, ...]) -> None:
    """numpy's own way and ours, by how many items there are."""
    for n in sizes:
        index = Exact()
        index.build(factors[:n], np.arange(n))
        add_times(rows, f"{n:,} items, numpy argpartition", timed(lambda query, n=n: plain(factors[:n], query), queries))
        add_times(rows, f"{n:,} items, exact", timed(lambda query, index=index: index.search(query, K), queries))


def searched_during(index: Approximate, factors: Array, queries: Array) -> tuple[float, Array]:
    """Seconds of a build in a thread, and milliseconds of each search beside it."""
    began = time.perf_counter()
    thread = threading.Thread(target=index.build, args=(factors, np.arange(len(factors))))
    thread.start()
    walls = []
    while thread.is_alive():
        walls.append(timed(lambda query: index.search(query, K), queries[len(walls) % len(queries)][None])[0][0])
    thread.join()
    return time.perf_counter() - began, np.asarray(walls)


def approximate(rows: Rows, shape: str, factors: Array, queries: Array) -> None:
    """One index over its life."""
    process = psutil.Process()
    before = process.memory_info().rss
    index = Approximate()
    began, used = time.perf_counter(), time.process_time()
    index.build(factors, np.arange(len(factors)))
    rows.add(f"{shape}: build", time.perf_counter() - began, "s")
    rows.add(f"{shape}: build, of the CPU", time.process_time() - used, "s")
    rows.add(f"{shape}: memory", (process.memory_info().rss - before) / 2**20, "MiB", GOAL_MIB)
    rows.add(f"{shape}: lists that a search reads", index.probes, "lists")
    add_times(rows, f"{shape}: search", timed(lambda query: index.search(query, K), queries), GOAL_MS)
    few = queries[: min(100, len(queries))]
    rows.add(f"{shape}: recall", index.recall(few, K, factors), "share", GOAL_RECALL, f"the exact {K}, {len(few)} queries")
    changes(rows, shape, index, factors, few)
    seconds, walls = searched_during(index, factors, queries)
    rows.add(f"{shape}: build again, beside searches", seconds, "s")
    rows.add(f"{shape}: search beside it: p99", float(np.quantile(walls, 0.99)), "ms", None, f"{len(walls)} searches")


def changes(rows: Rows, shape: str, index: Approximate, factors: Array, queries: Array) -> None:
    """What it costs to change rows, to take them out, to add new ones; and the recall after that."""
    rng = np.random.default_rng(3)
    n = len(factors)
    some = rng.choice(n, CHANGED, replace=False)
    factors[some] += 0.05 * np.abs(factors[some]).mean() * rng.standard_normal((CHANGED, FACTORS), np.float32)
    cost(rows, f"{shape}: change {CHANGED:,} rows", lambda: index.update(some, factors))
    cost(rows, f"{shape}: remove {CHANGED:,} rows", lambda: index.remove(some))
    longer = np.concatenate([factors, factors[some] * np.float32(1.01)])
    cost(rows, f"{shape}: add {CHANGED:,} rows", lambda: index.update(np.arange(n, n + CHANGED), longer))
    rows.add(f"{shape}: recall after it", index.recall(queries, K, longer), "share", GOAL_RECALL, f"the exact {K}")
    stop = threading.Event()

    def keep_changing() -> None:
        while not stop.is_set():
            index.update(rng.choice(n, CHANGED, replace=False), longer)

    thread = threading.Thread(target=keep_changing)
    thread.start()
    try:
        wall, _ = timed(lambda query: index.search(query, K), queries)
    finally:
        stop.set()
        thread.join()
    rows.add(f"{shape}: search while rows change without pause: p99", float(np.quantile(wall, 0.99)), "ms")


def cost(rows: Rows, name: str, change: Callable[[], None]) -> None:
    """Milliseconds of this thread's CPU."""
    began = time.thread_time()
    change()
    rows.add(name, 1e3 * (time.thread_time() - began), "ms of CPU")


def measure(rows: Rows, quick: bool) -> None:
    """All on one core."""
    with threadpool_limits(1):
        _measure(rows, quick)


def _measure(rows: Rows, quick: bool) -> None:
    """Exact searches, then an index for either shape."""
    n, asked = (100_000, 60) if quick else (ITEMS, QUERIES)
    factors = clustered(n)
    queries = users(factors, asked)
    exact(rows, factors, queries, tuple(size for size in EXACT if size <= n))
    approximate(rows, f"{n:,} clustered", factors, queries)
    del factors
    approximate(rows, f"{n:,} without structure", gaussian(n), gaussian(asked, seed=1))


if __name__ == "__main__":
    main("The items that score highest", measure)
