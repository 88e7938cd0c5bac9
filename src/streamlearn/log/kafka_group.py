"""Sharing out partitions by Kafka's consumer group: cooperative, so that whoever keeps a partition never stops for a rebalance.

The consumer only holds the place: every partition is paused, reading goes another way. It lives in a thread of its own, whose
heartbeats go on while a learner works or takes a checkpoint; the learner's own `poll` exchanges a few words with it and never
waits for a broker. It must never give a partition away before the learner let it go, but for a learner silent for too long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from streamlearn.errors import LogError, LogUnavailable

from . import Place
from .kafka_link import Link, build

logger = logging.getLogger("streamlearn.log")

TURN_MS: Final = 50
LOOK_S: Final = 0.01
REST_S: Final = 0.5
COMMIT_S: Final = 1.0
HEARTBEATS: Final = 10  # in the time after which a silent member is dead
MARGIN_S: Final = 10.0


class GroupMembership:
    """A member of `group`; `topics` are the names of the topics to share, each with that of its stream.

    A process that dies loses its share after `session_s`; a learner that does not poll loses it after `silence_s`.
    """

    def __init__(self, link: Link, group: str, topics: Mapping[str, str], *, session_s: float, silence_s: float) -> None:
        self._link, self._group, self._topics = link, group, dict(topics)
        self._session_s, self._silence_s = session_s, silence_s
        self._lock = threading.Lock()
        self._held: set[Place] = set()
        self._going: set[Place] = set()
        self._positions: dict[Place, int] = {}
        self._trouble: str | None = None
        self._lost_since: float | None = None
        self._polled = time.monotonic()
        self._committed = 0.0
        self._closing = threading.Event()
        self._consumer: Any = None
        self._thread: threading.Thread | None = None

    def poll(self, let_go: Callable[[Collection[Place]], None]) -> frozenset[Place]:
        with self._lock:
            self._polled = time.monotonic()
            if self._closing.is_set():
                return frozenset()
            if self._thread is None:  # who never polls would hold what it does not work on
                self._thread = threading.Thread(target=self._run, name="log-group", daemon=True)
                self._thread.start()
            going = sorted(self._going)
        if going:
            let_go(going)
            with self._lock:
                self._held -= set(going)
                self._going -= set(going)
        with self._lock:
            self._polled = time.monotonic()
            if self._trouble is not None:
                raise LogUnavailable(f"the group {self._group!r} at {self._link.where} cannot be reached ({self._trouble})")
            return frozenset(self._held - self._going)

    def commit(self, positions: Mapping[Place, int]) -> None:
        with self._lock:
            self._positions.update(positions)

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            self._held.clear()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(2 * self._link.options.timeout_s)

    # -- the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except (kafka_errors.KafkaError, LogError, OSError, RuntimeError) as error:
                with self._lock:
                    self._trouble = f"{type(error).__name__}: {error}"
                self._closing.wait(REST_S)
        self._leave()

    def _turn(self) -> None:
        if time.monotonic() - self._polled > self._silence_s:
            if self._consumer is not None:
                logger.error("the learner has been silent for too long: its partitions go", extra={"seconds": self._silence_s})
                self._leave()
            self._closing.wait(TURN_MS / 1000)
            return
        if self._consumer is None:
            self._consumer = self._join()
        self._consumer.poll(timeout_ms=TURN_MS)
        self._commit()
        coordinator = self._consumer._coordinator
        if coordinator.rejoining:  # kafka-python 3.0.12 can forget that it waits for an answer; asked to join, it waits on
            coordinator.request_rejoin()
        unknown = coordinator.coordinator_unknown()
        now = time.monotonic()
        with self._lock:
            if not unknown:
                self._trouble = self._lost_since = None
            elif self._lost_since is None:
                self._lost_since = now
            elif now - self._lost_since > self._link.options.timeout_s / 2:
                self._trouble = "its coordinator does not answer"

    def _join(self) -> Any:
        for stream in self._topics.values():
            self._link.topic(stream)
        session_ms, silence_ms = int(self._session_s * 1000), int((self._silence_s + MARGIN_S) * 1000)
        consumer = build(
            KafkaConsumer,
            group_id=self._group,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // HEARTBEATS,
            max_poll_interval_ms=silence_ms,
            auto_offset_reset="none",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            fetch_max_wait_ms=1,
            **self._link.options.client(),
        )
        consumer._cluster.config["allow_auto_create_topics"] = False
        consumer.subscribe(list(self._topics), listener=_Listener(self))
        until = time.monotonic() + self._link.options.timeout_s
        while any(consumer._cluster.partitions_for_topic(topic) is None for topic in self._topics):
            if self._closing.wait(LOOK_S) or time.monotonic() > until:
                break  # without the partitions it would share out none of them, and then rebalance again
        return consumer

    def _leave(self) -> None:
        self._let_go()  # first, so that a revocation under way waits for nothing while the consumer is closed
        if self._consumer is not None:
            try:
                self._consumer.close(timeout_ms=int(self._link.options.timeout_s * 1000))
            except (kafka_errors.KafkaError, OSError, RuntimeError) as error:
                logger.warning("the group was not left cleanly", extra={"group": self._group, "error": repr(error)})
            self._consumer = None
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._held.clear()
            self._going.clear()

    def _commit(self) -> None:
        now = time.monotonic()
        if now - self._committed < COMMIT_S:
            return
        with self._lock:
            mine = {place: at for place, at in self._positions.items() if place in self._held}
            self._positions.clear()
        self._committed = now
        if mine:
            names = {stream: topic for topic, stream in self._topics.items()}
            offsets = {TopicPartition(names[name], n): OffsetAndMetadata(at, "", -1) for (name, n), at in mine.items()}
            self._consumer.commit_async(offsets, callback=lambda offsets, answer: None)

    # -- told by the consumer, on its own I/O thread

    def _places(self, partitions: Collection[Any]) -> set[Place]:
        return {(self._topics[one.topic], one.partition) for one in partitions}

    def _assigned(self, partitions: Collection[Any]) -> None:
        for one in partitions:
            self._consumer.seek(one, 0)  # any place will do, for a consumer that asks for none would look for one
        self._consumer.pause(*partitions)
        with self._lock:
            self._held |= self._places(partitions)

    async def _revoked(self, partitions: Collection[Any]) -> None:
        """Wait until the learner has let go, or has been silent for too long."""
        places, until = self._places(partitions), time.monotonic() + self._silence_s
        with self._lock:
            self._going |= places & self._held
        while time.monotonic() < until and not self._closing.is_set():
            with self._lock:
                if not self._going:
                    return
            await self._consumer._net.sleep(LOOK_S)
        if not self._closing.is_set():
            logger.error("partitions were taken from a silent learner", extra={"partitions": sorted(places)})
        self._lost(partitions)

    def _lost(self, partitions: Collection[Any]) -> None:
        with self._lock:
            self._held -= self._places(partitions)
            self._going -= self._places(partitions)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, member: GroupMembership) -> None:
        self._member = member

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._member._assigned(assigned)

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        await self._member._revoked(revoked)

    async def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self._member._lost(lost)
