"""Learning, reading, appending, sharing, freshness and failover over a real Kafka broker and a real Redis on this machine.

Learning is compared with a bare in-process loop with the same river model and data; reading and appending with kafka-python's
own consumer and producer; two learners with one, on the same two partitions. Sides take slices in turn, or run one after the
other, several times. The broker shares the cores with all of them, so its CPU is told (a share of one core).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streamlearn.config import Settings, parse
from streamlearn.log import Entry, Log, Membership
from streamlearn.log.kafka import KafkaLog
from streamlearn.store import Store

from .failover import failover
from .fetching import FetchingLog
from .freshness import posted_to_served
from .harness import Rows, electricity, main, median_ratio, quiet
from .learn import Bare, Logged, Rowset, entries_of, logistic
from .servers import Meter, Servers, servers
from .service import service
from .sides import Runner, Side, in_turn

PIPELINE = "benchmarks.learn:logistic"
WARM_UP = 500
BATCH = 500
UNDER_WAY = 8
JOIN_S = 60.0
POWER, PAIR = "power", "pair"


class Metered(Side):
    """A side beside whose slices the broker's CPU is measured."""

    def __init__(self, make: Callable[[], Runner], meter: Meter) -> None:
        super().__init__(make)
        self._meter = meter

    def run(self, first: int, end: int) -> float:
        """Take a slice, and wait for it; the seconds."""
        with self._meter.on():
            return super().run(first, end)


def settings_for(stream: str, partitions: int = 1) -> Settings:
    """One stream, one model, everything else as it is by default."""
    model = {"stream": stream, "task": "binary", "pipeline": PIPELINE}
    return parse({"streams": {stream: {"partitions": partitions}}, "models": {"m": model}}, {})


def learner(open_log: Callable[[], Log], open_store: Callable[[], Store]) -> Logged:
    """A learner of the one partition."""
    return Logged(settings_for(POWER), open_log(), open_store())


def member(open_log: Callable[[], Log], open_store: Callable[[], Store], group: str, share: int) -> Logged:
    """A learner that has joined `group`, and was given `share` of the partitions. Raises TimeoutError."""
    log = open_log()
    membership: Membership = log.join(group, [PAIR])
    deadline = time.monotonic() + JOIN_S
    while len(membership.poll(lambda places: None)) != share:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no share of {share} partitions within {JOIN_S:g} s")
        time.sleep(0.05)
    return Logged(settings_for(PAIR, 2), log, open_store(), membership)


def fill(log: KafkaLog, stream: str, entries: Sequence[Entry]) -> None:
    """Append in batches, some calls under way at once, until all are acknowledged."""
    waiting: deque[Any] = deque()
    for first in range(0, len(entries), BATCH):
        waiting.append(log.append(stream, entries[first : first + BATCH]))
        if len(waiting) == UNDER_WAY:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()


def learning(rows: Rows, running: Servers, data: Rowset, step: int) -> None:
    """The bare loop, the learner with the client in its process, and the same with a process of its own that fetches."""
    meter = Meter(running.kafka.pid)
    open_log = running.log()
    apart = running.log(make=FetchingLog)
    with ExitStack() as stack:
        bare = stack.enter_context(Side(partial(Bare, logistic, data)))
        ours = stack.enter_context(Metered(partial(learner, open_log, running.store("ours")), meter))
        fetched = stack.enter_context(Side(partial(learner, apart, running.store("apart"))))
        in_turn([bare, ours, fetched], WARM_UP, len(data), step)
    rows.add("bare loop", bare.rate, "events/s")
    rows.add("learned from Kafka", ours.rate, "events/s")
    rows.add("learned from Kafka / bare", ours.rate / bare.rate, "ratio", ">= 0.45", "bare river loop")
    rows.add("fetching in a process of its own / bare", fetched.rate / bare.rate, "ratio", None, "bare river loop")
    rows.add("broker beside the learner", meter.share, "CPUs")


def consume(log: KafkaLog, count: int) -> float:
    """Records a second by the log's own reading, `BATCH` at a time."""
    began, at = time.perf_counter(), 0
    while at < count:
        at = log.read(POWER, 0, at, BATCH)[-1].offset + 1
    return at / (time.perf_counter() - began)


@contextmanager
def consumer_of(address: str) -> Iterator[Any]:
    """kafka-python's consumer, at the stream's one partition."""
    consumer = KafkaConsumer(bootstrap_servers=[address], enable_auto_commit=False, max_poll_records=BATCH)
    try:
        consumer.assign([TopicPartition(POWER, 0)])
        yield consumer
    finally:
        consumer.close()


def consume_by(consumer: Any, count: int) -> float:
    """Records a second by kafka-python's consumer."""
    consumer.seek(TopicPartition(POWER, 0), 0)
    began, taken = time.perf_counter(), 0
    while taken < count:
        taken += sum(map(len, consumer.poll(timeout_ms=1000).values()))
    return taken / (time.perf_counter() - began)


def reading(rows: Rows, running: Servers, data: Rowset, times: int) -> None:
    """The client's own rate, which no learner can exceed."""
    size = len(entries_of(data[:1])[0].value)
    ours, theirs = [], []
    with consumer_of(running.kafka.address) as consumer:
        for turn in range(times + 1):
            log = running.log()()
            try:
                log.bounds(POWER, 0)
                rates = consume(log, len(data)), consume_by(consumer, len(data))
            finally:
                log.close()
            if turn:  # the first of each loads what it needs
                ours.append(rates[0])
                theirs.append(rates[1])
    rows.add(f"read, values of {size} bytes", statistics.median(ours), "records/s")
    rows.add("kafka-python's consumer", statistics.median(theirs), "records/s")
    rows.add("read / kafka-python's consumer", median_ratio(ours, theirs), "ratio", None, "KafkaConsumer.poll")


def produce(producer: Any, stream: str, entries: Sequence[Entry]) -> float:
    """Records a second by kafka-python's producer, all acknowledged."""
    began = time.perf_counter()
    sent = [producer.send(stream, value=entry.value, key=entry.key, partition=0) for entry in entries]
    producer.flush()
    assert all(future.succeeded() for future in sent)
    return len(entries) / (time.perf_counter() - began)


def append(log: KafkaLog, stream: str, entries: Sequence[Entry]) -> float:
    """Records a second by the log's own appending, all acknowledged."""
    began = time.perf_counter()
    fill(log, stream, entries)
    return len(entries) / (time.perf_counter() - began)


def appending(rows: Rows, running: Servers, data: Rowset, times: int) -> None:
    """The log's own rate and the producer's, which the log uses, with the same settings."""
    prefix, entries = "append-", entries_of(data)
    log = running.log(prefix)()
    producer = KafkaProducer(
        bootstrap_servers=[running.kafka.address], acks="all", enable_idempotence=True, compression_type="lz4", linger_ms=2,
        batch_size=128 << 10,
    )  # fmt: skip
    ours, theirs = [], []
    meter = Meter(running.kafka.pid)
    try:
        log.create({POWER: 1})
        for turn in range(times + 1):
            with meter.on():
                mine = append(log, POWER, entries)
            other = produce(producer, prefix + POWER, entries)
            if turn:
                ours.append(mine)
                theirs.append(other)
    finally:
        producer.close()
        log.close()
    rows.add(f"append, {BATCH} at a time, {UNDER_WAY} calls under way", statistics.median(ours), "records/s")
    rows.add("kafka-python's producer", statistics.median(theirs), "records/s")
    rows.add("append / kafka-python's producer", median_ratio(ours, theirs), "ratio", None, "KafkaProducer.send")
    rows.add("broker beside appending", meter.share, "CPUs")


def sharing(rows: Rows, running: Servers, total: int, step: int) -> None:
    """One learner of two partitions, and two with one each, all members of groups, a slice each in turn."""
    meter = Meter(running.kafka.pid)
    open_log = running.log()
    alone = partial(member, open_log, running.store("alone"), "alone", 2)
    both = partial(member, open_log, running.store("both"), "both", 1)
    with ExitStack() as stack:
        one, *two = (stack.enter_context(Side(make)) for make in (alone, both, both))
        for side in (one, *two):
            side.await_ready()
        one.run(0, WARM_UP)
        one.forget()
        _together(two, 0, WARM_UP)
        taken = sum(side.taken for side in two)
        spent = 0.0
        for first in range(WARM_UP, total, step):
            end = min(first + step, total)
            one.run(first, end)
            with meter.on():
                spent += _together(two, first, end)
        taken = sum(side.taken for side in two) - taken
    rows.add("one learner on two partitions", one.rate, "events/s")
    rows.add("two learners on two partitions", taken / spent, "events/s")
    rows.add("two learners / one", taken / spent / one.rate, "ratio", None, "one learner on the same partitions")
    rows.add("broker beside two learners", meter.share, "CPUs")


def _together(sides: Sequence[Side], first: int, end: int) -> float:
    """Each takes its share of a slice, all at once; the seconds of the slowest."""
    for side in sides:
        side.begin(first // len(sides), end // len(sides))
    return max(side.finish() for side in sides)


def measure(rows: Rows, quick: bool) -> None:
    """Everything, on one broker and one Redis."""
    source, short = electricity()
    rows.title += f", {source}"
    count, step, times = (9_000, 2000, 1) if quick else (4 * len(short), 9000, 5)
    data = list(islice(cycle(short), count))
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as running, quiet():
        folder = Path(name)
        log = running.log()()
        try:
            log.create({POWER: 1, PAIR: 2})
            fill(log, POWER, entries_of(data))
            fill(log, PAIR, entries_of(data, stream=PAIR))
        finally:
            log.close()
        learning(rows, running, data, step)
        reading(rows, running, data, times)
        appending(rows, running, data[: 5_000 if quick else 50_000], times)
        sharing(rows, running, int(0.9 * count), step)
        (folder / "service").mkdir()
        with service(folder / "service", PIPELINE, running.backends("served-")) as served:
            posted_to_served(rows, served, short, 5_000 if quick else 80_000, 2.0 if quick else 45.0)
        for session_s in (2.0,) if quick else (10.0, 10.0, 6.0, 6.0):
            spent = failover(running, folder / f"failover-{len(rows.rows)}", short, session_s)
            rows.add(f"from kill -9 to learned by the other, session {session_s:g} s", spent, "s")


if __name__ == "__main__":
    main("Kafka and Redis", measure)
