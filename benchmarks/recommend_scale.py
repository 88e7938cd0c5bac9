"""A recommender of a million items of 64 factors and a million users: memory, pauses of learning, loading, answers, evictions.

Made up: items with a few fields each, liked by Zipf's law; users with 20 items of history each; co-visits of as many items as
may have any. It learns and publishes as a learner's shard does (a chain of pieces, put by a thread of its own, into files), and
another process follows the publications as the service does, with an index of the factors.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from streamlearn.config_recommend import RecommendSettings
from streamlearn.learning import chain, pickling
from streamlearn.recommend import covisit
from streamlearn.recommend.factors import beginnings
from streamlearn.recommend.history import ENTRY
from streamlearn.recommend.ids import KEPT, UPPER, Ids, hash_of
from streamlearn.recommend.index import Approximate, available
from streamlearn.recommend.popular import half_lives
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import Ask, Interaction
from streamlearn.recommend.tables import Table

from .harness import Rows, main, quiet

HISTORY, MAKERS, K, START = 20, 20_011, 100, 1.7e9
GIB, PAUSE_MS, ANSWER_MS = 2**30, "<= 50", "<= 25"


class Size(NamedTuple):
    """How much of everything."""

    items: int
    users: int
    owners: int  # items with co-visits
    exact: int
    events: int  # between two publications
    turns: int  # publications
    asked: int


FULL = Size(1_000_000, 1_000_000, covisit.MOST, 50_000, 500, 20, 300)
QUICK = Size(20_000, 20_000, 5_000, 2_000, 100, 5, 60)


def settings_of(size: Size) -> RecommendSettings:
    """The defaults, but for what a smaller size needs, and a second more for those who are let go."""
    return RecommendSettings(max_items=size.items, max_users=size.users, exact_items=size.exact)


def filled(size: Size, draw: np.random.Generator) -> Recommender:
    """A recommender that knows so many items and users, as if from long ago: its tables are written at once."""
    recommender = Recommender(settings_of(size), 0)
    state = recommender.state
    tokens = {}
    for number in range(min(size.items, MAKERS)):  # so that every token is known
        fields = fields_of(number)
        state.set_item(item(number), fields, START)
        refs = state.items.get("tokens", number)
        tokens |= {name: refs[8 * at : 8 * at + 8] for at, name in enumerate(state.content.tokens_of(fields))}
    rank = np.arange(1.0, size.items + 1)
    hashes = np.array([hash_of(item(number)) for number in range(size.items)], np.uint64)
    some = np.arange(size.items, dtype=np.uint64)
    refs = hashes & np.uint64(UPPER) | some
    near_at = np.where(rank <= size.owners, rank - 1, -1)
    shares = np.linspace(0.2, 1.0, len(half_lives(state.settings)))
    known = [fields_of(number) for number in range(size.items)]
    fill(state.items, state.item_ids, size.items, kept=True, hash=hashes, last=START, born=START, available=1, liked=1e6 / rank,
         heat=1e6 / rank[:, None] * shares, heat_ts=START, near_at=near_at, n=1e6 / rank,
         factors=beginnings(hashes, state.settings.factors, 0),
         id=[item(number).encode() for number in range(size.items)], fields=[msgspec.msgpack.encode(one) for one in known],
         tokens=[b"".join(tokens[name] for name in state.content.tokens_of(one)) for one in known])  # fmt: skip
    history = np.zeros((size.users, HISTORY), ENTRY)
    history["item"] = hashes[liked(size, draw, size.users * HISTORY)].reshape(-1, HISTORY)
    history["ts"], history["weight"] = START, 1.0
    who = [user(number) for number in range(size.users)]
    people = np.array([hash_of(name) for name in who], np.uint64)
    fill(state.users, state.user_ids, size.users, kept=False, hash=people, last=START, born=START, n=HISTORY, liked=HISTORY,
         factors=beginnings(people, state.settings.factors, 0), id=[name.encode() for name in who],
         history=[one.tobytes() for one in history])  # fmt: skip
    near, following, owned = state.settings.neighbours, covisit.NEXT, slice(size.owners)
    fill(state.covisits.table, state.covisits.owners, size.owners, kept=False, hash=hashes[owned], of=refs[owned],
         near=refs[liked(size, draw, size.owners * near)].reshape(-1, near), weight=draw.random((size.owners, near)),
         next=refs[liked(size, draw, size.owners * following)].reshape(-1, following), followed=5.0, met=HISTORY,
         next_weight=draw.random((size.owners, following)))  # fmt: skip
    for row in range(2000):
        state.popular.offer(row)
    return recommender


def fill(table: Table, ids: Ids, n: int, /, *, kept: bool, **values: Any) -> None:
    """Write all rows of a table, each used once in their order: what stands in `values` by column, else what a new row has."""
    whole = {"used": np.arange(1, n + 1, dtype=np.uint64) | np.uint64(KEPT * kept), **values}
    arrays = {}
    for name, column in table.columns.items():
        shape = (n,) if column.width == 1 else (n, column.width)
        arrays[name] = np.ascontiguousarray(np.broadcast_to(np.asarray(whole.get(name, column.fill), column.dtype), shape))
    for name in table.ragged:
        pieces = values.get(name, [b""] * n)
        arrays[f"{name}.bytes"] = np.frombuffer(b"".join(pieces), np.uint8)
        arrays[f"{name}.ends"] = np.cumsum(np.fromiter(map(len, pieces), np.int64, n))
    table.patch(n, np.arange(n, dtype=np.int32), arrays)
    ids.__setstate__({**ids.__getstate__(), "_n": n, "_uses": n, "_kept": n * kept})


def fields_of(number: int) -> dict[str, Any]:
    return {"category": f"c{number % 997}", "maker": f"m{number % MAKERS}", "new": number % 3 == 0}


def item(number: int) -> str:
    return f"item-{number:07d}"


def user(number: int) -> str:
    return f"user-{number:07d}"


def liked(size: Size, draw: np.random.Generator, n: int) -> Any:
    """Numbers of items: the logarithm of their ranks is even, as by Zipf's law."""
    return np.minimum(size.items ** draw.random(n), size.items - 1).astype(np.int64)


def memory(*pids: int) -> list[tuple[float, float]]:
    """Of each process its RSS and its PSS, GiB (Linux)."""
    found = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        size = {line.split(":")[0]: int(line.split()[-2]) * 1024 / GIB for line in lines if line.endswith("kB")}
        found.append((size["Rss"], size["Pss"]))
    return found


def ms(call: Callable[[], Any]) -> float:
    """Milliseconds of the wall."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def cost(call: Callable[[], Any]) -> Any:
    """Milliseconds of the wall, and of this thread's CPU: what the wall would be on a core of its own."""
    spent = time.thread_time()
    wall = ms(call)
    return np.array([wall, 1e3 * (time.thread_time() - spent)])


def queued() -> float:
    """Milliseconds that this thread was ready to run and had no core, since it began (Linux)."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6


def p99(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))


class Learner:
    """Learns, and takes its chain as a shard does: rows and shell on this thread, the pieces put into files by another."""

    def __init__(self, recommender: Recommender, size: Size, folder: Path) -> None:
        self.recommender, self._size, self._folder = recommender, size, folder
        self._draw, self._ts = np.random.default_rng(5), START + 10
        self._chain = chain.Chain("bench", recommender.state.tables, can_fork=True)
        self._writer = ThreadPoolExecutor(1)
        self.put_bytes = 0
        self.events: list[float] = []  # ms of each
        self.served: list[float] = []  # the same without the wait for a core, which is up to whatever else runs

    def learn(self, n: int) -> None:
        """So many events, each ranked and learned."""
        numbers = liked(self._size, self._draw, n).tolist()
        users = self._draw.integers(0, self._size.users, n).tolist()
        for at, who in zip(numbers, users, strict=True):
            self._ts += 0.002
            seen = Interaction(user(who), item(at), "click", 1.0, self._ts)
            began, waited = time.perf_counter(), queued()
            self.events.append(ms(lambda seen=seen: (self.recommender.rank(seen), self.recommender.learn(seen))))
            waited = queued() - waited
            self.served.append(1e3 * (time.perf_counter() - began) - waited)

    def take(self) -> Any:
        """What learning stood still for, as `cost`: [for the rows, for the shell]."""
        return np.array([cost(self._chain.take), cost(self._shell)])

    def _shell(self) -> None:
        self.shell = pickling.dumps_apart(self.recommender, self.recommender.state.tables)

    def settle(self) -> Any:
        """What the writer's thread does with it; the links by and by."""
        return self._writer.submit(lambda: self._chain.settle(self._put))

    def publish(self, links: chain.Links) -> tuple[bytes, chain.Links]:
        return self.shell, chain.Links(links.uid, links.covers, list(links.base), list(links.deltas))

    def _put(self, name: str, piece: bytes) -> None:
        (self._folder / name).write_bytes(piece)
        self.put_bytes += len(piece)

    def close(self) -> None:
        self._writer.shutdown()


def serve(folder: Path, size: Size, pipe: Connection) -> None:
    """The other process: takes publications, one after another, and answers; None ends it. Tells figures by name."""
    reader, lock, index = chain.Reader(), threading.Lock(), None
    with threadpool_limits(1), quiet():
        while (publication := pipe.recv()) is not None:
            shell, links = publication
            held: list[float] = []
            began = time.perf_counter()
            for piece in reader.follow(links, lambda name: (folder / name).read_bytes()):
                with lock:
                    held.append(ms(lambda piece=piece: chain.apply(reader.tables, piece)))
            loaded: list[Recommender] = []
            loading = ms(lambda shell=shell, loaded=loaded: loaded.append(pickling.loads_apart(shell, reader.tables)))
            found = {"s": time.perf_counter() - began, "held": max(held, default=0.0), "shell": loading}
            if index is None:
                found |= _first(loaded[0], size)
                index = found.pop("index")
                gc.freeze()
            pipe.send(found)


def _first(recommender: Recommender, size: Size) -> dict[str, Any]:
    """The index, and answers by it."""
    state = recommender.state
    factors, rows = state.items.raw["factors"], np.flatnonzero(state.items["hash"])
    index = Approximate() if available() else None
    found: dict[str, Any] = {"index": index or True}
    if index is not None:
        found["build"] = ms(lambda: index.build(factors, rows)) / 1e3
        vectors = state.users["factors"][: min(100, size.users)]
        found["recall"] = index.recall(vectors, K, factors)
    search = None if index is None else index.search
    draw = np.random.default_rng(9)
    asks = [Ask(user(int(who)), START + 100, {}, K) for who in draw.integers(0, size.users, size.asked)]
    asks += [Ask("nobody known", START + 100, {}, K)]
    walls, spent = [], []
    for ask in asks[:5] + asks:
        began = time.thread_time()
        walls.append(ms(lambda ask=ask: recommender.recommend(ask, random.Random(1), search)))
        spent.append(1e3 * (time.thread_time() - began))
    found |= {"walls": walls[5:], "spent": spent[5:]}
    return found


def published(rows: Rows, learner: Learner, size: Size, folder: Path) -> None:
    """A base while it learns, then publications of deltas, all followed by the other process."""
    begins = learner.take().sum(0)
    began, links, turns = time.perf_counter(), learner.settle(), 0
    while not links.done():
        learner.learn(20)
        turns += 20
    rows.add("a base, while it learns", time.perf_counter() - began, "s", None, f"{turns:,} events learned meanwhile")
    rows.add("a base", learner.put_bytes / GIB, "GiB")
    during, served_during = learner.events[:], learner.served[:]
    mine, yours = multiprocessing.get_context("spawn").Pipe()
    other = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, size, yours), daemon=True)
    other.start()
    try:
        mine.send(learner.publish(links.result()))
        first = mine.recv()
        pauses, deltas, told = [], [], []
        for _ in range(size.turns):
            learner.learn(size.events)
            before = learner.put_bytes
            pauses.append(learner.take())
            mine.send(learner.publish(learner.settle().result()))
            deltas.append(learner.put_bytes - before)
            told.append(mine.recv())
        paused = np.array(pauses[1:]).sum(1)
        rows.add("pause to begin a base (fork)", begins[0], "ms", PAUSE_MS)
        rows.add("pause to begin a base, of the CPU", begins[1], "ms", PAUSE_MS)
        rows.add("pause of a publication: p99", p99(paused[:, 0]), "ms", PAUSE_MS, "rows and shell")
        rows.add("pause of a publication: longest", paused[:, 0].max(), "ms", PAUSE_MS)
        rows.add("pause of a publication, of the CPU: longest", paused[:, 1].max(), "ms", PAUSE_MS)
        rows.add("of it the shell, of the CPU: longest", max(both[1][1] for both in pauses), "ms")
        rows.add("a shell", len(learner.shell) / 1024, "KiB")
        rows.add("deltas of 1,000 events", sum(deltas[1:]) / len(deltas[1:]) / size.events * 1000 / 2**20, "MiB")
        rows.add("an event, ranked and learned: p50", float(np.median(learner.events)), "ms")
        rows.add("an event, ranked and learned: p99", p99(learner.events), "ms")
        rows.add("an event beside the child of a base: longest", max(during), "ms", PAUSE_MS)
        rows.add("the same, without the wait for a core: longest", max(served_during), "ms", PAUSE_MS)
        served(rows, first, told)
        both = memory(multiprocessing.current_process().pid or 0, other.pid or 0)
        for name, (rss, pss) in zip(("learner", "serving"), both, strict=True):
            rows.add(f"{name}: RSS", rss, "GiB")
            rows.add(f"{name}: PSS", pss, "GiB")
        rows.add("learner and serving: PSS", sum(pss for _, pss in both), "GiB", "<= 4")
        mine.send(None)
        other.join(30)
    finally:
        other.kill()


def served(rows: Rows, first: dict[str, Any], told: list[dict[str, Any]]) -> None:
    """What the other process said."""
    rows.add("base and deltas loaded by serving", first["s"], "s")
    rows.add("a delta written over the tables: longest", max(one["held"] for one in told), "ms", None, "no answer meanwhile")
    rows.add("a shell loaded: longest", max(one["shell"] for one in told), "ms")
    if "build" in first:
        rows.add("the index: build", first["build"], "s")
        rows.add("the index: recall", first["recall"], "share", ">= 0.9", f"the exact {K}")
    how = "with the index" if "build" in first else "without an index: faiss is not installed"
    rows.add(f"{K} recommended: p50", float(np.median(first["walls"])), "ms", None, how)
    rows.add(f"{K} recommended: p99", p99(first["walls"]), "ms", ANSWER_MS, how)
    rows.add(f"{K} recommended: p99 of the CPU", p99(first["spent"]), "ms", ANSWER_MS, how)


def evicted(rows: Rows, recommender: Recommender, size: Size) -> None:
    """New users and items where all rows are taken; then time passes."""
    state, n = recommender.state, size.events
    before = state.counts()
    new = [Interaction(f"new-{at}", f"new-{at}", "click", 1.0, START + 200 + at / 1e3) for at in range(n)]
    walls = [ms(lambda one=one: state.observe(one)) for one in new]
    after = state.counts()
    gone = [after[name] - before[name] for name in ("users_evicted_lru", "items_evicted_lru")]
    rows.add("an event of a new user and item, for which others are let go: p50", float(np.median(walls)), "ms")
    rows.add(
        "the same: longest", max(walls), "ms", PAUSE_MS, f"{gone[0]:,} users and {gone[1]:,} items let go for {n:,} events"
    )

    def late() -> None:
        state.observe(Interaction("late", item(0), "click", 1.0, START + 2 * state.settings.ttl_s))

    for _ in range(40):  # in a row: a leap of time is believed after some
        late()
    mean, counts = np.mean([ms(late) for _ in range(n)]), state.counts()
    gone = [counts[name] for name in ("users_evicted_ttl", "items_evicted_ttl")]
    told = f"{gone[0]:,} users, {gone[1]:,} items by {n + 40:,} events"
    rows.add("an event that lets go of what is too old: mean", float(mean), "ms", None, told)


def measure(rows: Rows, quick: bool) -> None:
    """Two processes, one core each at most."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), quiet():
        began = time.perf_counter()
        recommender = filled(size, np.random.default_rng(1))
        rows.add(f"{size.items:,} items and {size.users:,} users made up", time.perf_counter() - began, "s")
        learner = Learner(recommender, size, Path(folder))
        try:
            learner.learn(size.events)
            learner.events.clear()
            learner.served.clear()
            published(rows, learner, size, Path(folder))
            evicted(rows, recommender, size)
        finally:
            learner.close()


if __name__ == "__main__":
    main("A recommender of a million items and users", measure)
