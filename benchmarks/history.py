"""What a model's history takes: bytes a day by tier in SQLite and Redis, the time of a write, of a read, of a fleet's sparks.

A binary model as control samples it, every ten seconds: its metrics beside two baselines, what its shards say, two policies,
and 20 features; some series hardly move, some never rest. What is written goes through the recorder, so that every row is
written over the one before, as in a service; what is only to be read or weighed is put as whole blocks.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from streamlearn.cli.dev_redis import RedisServer, find_redis
from streamlearn.config_history import HistorySettings
from streamlearn.errors import ConfigError
from streamlearn.history import SPAN, STEPS, Block, Recorder, read, tiers
from streamlearn.store import Store
from streamlearn.store.redis import RedisStore
from streamlearn.store.sqlite import SqliteStore
from streamlearn.testing import MemoryStore

from .harness import Rows, main, quiet

SETTINGS = HistorySettings()
T0 = 1_767_225_600
DAY = 86_400
DAYS = 30
FEATURES = 20
METRICS = ("accuracy", "kappa", "roc_auc", "log_loss", "brier")
STEADY = ("held", "degraded", "canary_share", "early", "dead")


def samples(seed: int) -> Iterator[dict[str, float]]:
    """What control would write of a model with 330 labelled events a second, sample by sample."""
    rng = random.Random(seed)
    scores = {f"metric:{name}": rng.uniform(0.3, 0.9) for name in METRICS}
    scores |= {f"baseline:{name}:accuracy": rng.uniform(0.5, 0.8) for name in ("majority", "no_change")} | {"loss": 0.2}
    moved = {f"feature:f{place}": rng.uniform(0.0, 0.05) for place in range(FEATURES)}
    debts, n, place = {"debt:cost": 0.0, "debt:cara": 0.0}, 0, 0
    while True:
        rate = rng.gauss(330.0, 20.0)
        n, place = n + int(10 * rate), place + 1
        for name in scores:
            scores[name] = min(1.0, max(0.0, scores[name] + rng.gauss(0.0, 0.01)))
        if place % 3 == 0:  # a look at the features is of so many events
            moved = {name: abs(value + rng.gauss(0.0, 0.005)) for name, value in moved.items()}
        debts = {name: value + rng.random() for name, value in debts.items()}
        yield {
            **scores, **moved, **debts, **dict.fromkeys(STEADY, 0.0), "rate": rate, "lag": float(rng.randrange(400)),
            "pending": float(rng.randrange(30)), "n": float(n), "freshness_p50_s": rng.uniform(0.02, 0.06),
            "freshness_p99_s": rng.uniform(0.1, 0.6), "delay_p50": float(rng.randrange(100, 104)),
            "delay_p95": float(rng.randrange(200, 210)), "detector:adwin": rng.random(), "detector:page_hinkley": rng.random(),
        }  # fmt: skip


def record(store: Store, count: int, model: str = "m") -> list[float]:
    """`count` samples ten seconds apart, as control takes them; the seconds that each took."""
    recorder, took = Recorder(store, SETTINGS), []
    for place, sample in zip(range(count), samples(1), strict=False):
        started = time.perf_counter()
        recorder.sample(model, T0 + 10 * place, sample)
        took.append(time.perf_counter() - started)
    return took


def blocks(step: int, count: int, seed: int = 2) -> Iterator[Block]:
    """So many full blocks of a tier that end at T0, with one sample in each of the finest steps and six in the others."""
    source, each = samples(seed), 1 if step == STEPS[0] else 6
    for place in range(count):
        block = Block(step, T0 - (count - place) * step * SPAN)
        for place in range(each * SPAN):
            block.add(block.start + place * step / each, next(source))
        yield block


def fill(store: Store, model: str, step: int, seconds: int) -> int:
    """Put the blocks of the last `seconds` before T0 into a tier; how many."""
    count = -(-seconds // (step * SPAN))
    for block in blocks(step, count):
        store.put_history(model, step, block.start, block.encode(), None)
    return count


def bytes_a_day(store: Store, size: Callable[[str], float]) -> dict[int, float]:
    """Bytes that a day takes in each tier, by what the store takes for some blocks."""
    found = {}
    for step in STEPS:
        model, count = f"day{step}", 12
        fill(store, model, step, count * step * SPAN)
        found[step] = size(model) * DAY / (count * step * SPAN)
    return found


def in_all(a_day: Mapping[int, float]) -> float:
    """Bytes of one model once every tier is full, with the retention as it is by default."""
    return sum(a_day[tier.step] * tier.keep_s / DAY for tier in tiers(SETTINGS))


def took_ms(work: Callable[[], object], times: int) -> float:
    """The median, in milliseconds."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - started))
    return statistics.median(found)


def backend(rows: Rows, name: str, store: Store, size: Callable[[str], float], quick: bool) -> None:
    """Everything of one store."""
    took = record(store, 200 if quick else 2160)
    rows.add(f"{name}: a sample written", 1000 * statistics.median(took), "ms", "<= 5")
    rows.add(f"{name}: CPU of control for one model", 100 * statistics.fmean(took) / SETTINGS.every_s, "% of a core")
    a_day = bytes_a_day(store, size)
    for step, found in a_day.items():
        rows.add(f"{name}: a day in steps of {step} s", found / 1000, "kB")
    rows.add(f"{name}: a model in all, by default", in_all(a_day) / 1e6, "MB", "<= 5")
    month, hour, ten = f"{name} month", f"{name} hour", 3 if quick else 10
    fill(store, month, STEPS[2], DAYS * DAY)
    fill(store, hour, STEPS[0], 3600)
    since = T0 - DAYS * DAY
    one = took_ms(lambda: read(store, SETTINGS, month, since, T0, 600, None, T0), ten)
    rows.add(f"{name}: {DAYS} days read at 600 points", one, "ms", "<= 100")
    one = took_ms(lambda: read(store, SETTINGS, month, since, T0, 600, ("metric:accuracy", "baseline:*"), T0), ten)
    rows.add(f"{name}: {DAYS} days of one metric", one, "ms")
    one = took_ms(lambda: read(store, SETTINGS, hour, T0 - 3600, T0, 600, None, T0), ten)
    rows.add(f"{name}: an hour read at 10 s", one, "ms")
    models = [f"{name} {place}" for place in range(5 if quick else 50)]
    for model in models:
        fill(store, model, STEPS[1], 3600)

    def sparks() -> None:
        for model in models:
            read(store, SETTINGS, model, T0 - 3600, T0, 60, ("metric:accuracy", "baseline:*"), T0)

    rows.add(f"{name}: the last hour of 50 models", took_ms(sparks, ten) * 50 / len(models), "ms", "<= 100")


def kept(store: Store, model: str) -> float:
    """Bytes of a model's rows."""
    return float(sum(len(row) for step in STEPS for _, row in store.history(model, step, 0, 1 << 40)))


def overhead(folder: Path, count: int) -> float:
    """What the file of a store takes of each byte of rows, when every row was written over the one before."""
    sizes = []
    for name, samples_ in (("empty", 0), ("full", count)):
        store = SqliteStore(folder / f"{name}.sqlite")
        record(store, samples_)
        rows = kept(store, "m")
        store.close()
        sizes.append((folder / f"{name}.sqlite").stat().st_size)
    return (sizes[1] - sizes[0]) / rows


def measure(rows: Rows, quick: bool) -> None:
    """Both stores; Redis where there is one."""
    with quiet(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        series = len(next(samples(1)))
        rows.add("series of the model", series, "series")
        block = next(blocks(STEPS[1], 1))
        rows.add("a block encoded", took_ms(block.encode, 50), "ms")
        row = block.encode()
        rows.add("a block decoded", took_ms(lambda: Block.decode(row, block.step, block.start), 50), "ms")
        rows.add("a value with its least and greatest", len(row) / series / SPAN, "bytes", "<= 12")
        memory = MemoryStore()
        rows.add("a sample into a store in memory", 1000 * statistics.median(record(memory, 200 if quick else 2160)), "ms")
        more = overhead(folder, 200 if quick else 2160)
        rows.add("SQLite: the file over its rows", more, "ratio")
        sqlite = SqliteStore(folder / "store.sqlite")
        stack.callback(sqlite.close)
        backend(rows, "SQLite", sqlite, lambda model: kept(sqlite, model) * more, quick)
        try:
            program = find_redis()
        except ConfigError as error:
            print(f"  without Redis: {error}", file=sys.stderr)
            return
        server = stack.enter_context(RedisServer(folder / "redis", program))
        redis = RedisStore(server.url)
        stack.callback(redis.close)
        backend(rows, "Redis", redis, lambda model: float(redis.memory()[model]), quick)


if __name__ == "__main__":
    main("The history of a model", measure)
