"""The prediction buffer: bounded, never waiting, in order, patient with a lost log, drained at the end, every loss counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streamlearn.errors import LogFull, LogUnavailable, Overloaded, UnknownStream
from streamlearn.events import Kind, Prediction, decode_prediction
from streamlearn.serving.predictions import PredictionBuffer
from streamlearn.telemetry import Metrics
from streamlearn.testing import Faults, MemoryLog


def prediction(n: int, stream: str = "flights") -> Prediction:
    return Prediction(stream, f"f{n}", "delay", 1, True, {"true": 0.9}, {"a": n})


class Setting:
    def __init__(self, capacity: int = 100) -> None:
        self.registry = CollectorRegistry()
        self.faults = Faults()
        self.memory = MemoryLog()
        self.memory.create({"flights": 1, "clicks": 1})
        self.capacity = capacity

    def run(self, story: Callable[[PredictionBuffer], Awaitable[None]]) -> None:
        async def told() -> None:
            await story(PredictionBuffer(self.faults.over(self.memory), self.capacity, Metrics(self.registry)))

        asyncio.run(told())

    def ids(self, stream: str = "flights") -> list[str]:
        return [decode_prediction(record.value).id for record in self.memory.read(stream, 0, 0, 10_000)]

    def lost(self, why: str) -> float | None:
        return self.registry.get_sample_value("streamlearn_predictions_lost_total", {"why": why})


def test_what_is_offered_is_written_in_order_and_in_few_appends() -> None:
    setting = Setting(2000)

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        assert {buffer.offer(prediction(n)) for n in range(1200)} == {"queued"}
        await buffer.close()

    setting.run(story)
    assert setting.ids() == [f"f{n}" for n in range(1200)]
    assert setting.faults.calls["append"] == 3
    assert {record.kind for record in setting.memory.read("flights", 0, 0, 10)} == {Kind.PREDICTION}


def test_streams_are_kept_apart() -> None:
    setting = Setting()

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        for n in range(6):
            buffer.offer(prediction(n, "flights" if n % 2 else "clicks"))
        await buffer.close()

    setting.run(story)
    assert (setting.ids("flights"), setting.ids("clicks")) == (["f1", "f3", "f5"], ["f0", "f2", "f4"])


def test_a_full_buffer_drops_and_counts() -> None:
    setting = Setting(capacity=2)

    async def story(buffer: PredictionBuffer) -> None:
        assert [buffer.offer(prediction(n)) for n in range(4)] == ["queued", "queued", "dropped", "dropped"]
        assert setting.registry.get_sample_value("streamlearn_buffered_predictions") == 2
        buffer.start()
        await buffer.close()
        assert buffer.offer(prediction(9)) == "dropped"  # it is closed

    setting.run(story)
    assert setting.ids() == ["f0", "f1"]
    assert setting.lost("dropped") == 3


@pytest.mark.parametrize("error", [LogUnavailable("locked"), LogFull("full"), Overloaded("busy", 1)])
def test_a_log_that_refuses_is_tried_again_and_nothing_is_lost_or_doubled(error: Exception) -> None:
    setting = Setting()
    setting.faults.fail("append", error, times=2)

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        for n in range(5):
            buffer.offer(prediction(n))
        await buffer.close()

    setting.run(story)
    assert setting.ids() == [f"f{n}" for n in range(5)]
    assert (setting.lost("dropped"), setting.lost("lost")) == (0, 0)


def test_what_can_never_be_written_is_counted_and_the_rest_goes_on() -> None:
    setting = Setting()
    setting.faults.fail("append", UnknownStream("no such stream"))

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        buffer.offer(prediction(0))
        await asyncio.sleep(0.1)
        buffer.offer(prediction(1))
        await buffer.close()

    setting.run(story)
    assert setting.ids() == ["f1"]
    assert setting.lost("lost") == 1


def test_the_end_does_not_wait_for_ever_for_a_lost_log() -> None:
    setting = Setting()
    setting.faults.fail("append", LogUnavailable("gone"), times=10_000)

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        for n in range(3):
            buffer.offer(prediction(n))
        await buffer.close(drain_s=0.1)

    setting.run(story)
    assert setting.lost("lost") == 3


def test_what_was_on_its_way_when_the_time_ran_out_is_counted_as_lost() -> None:
    setting = Setting()
    stuck: list[Future[Any]] = []

    def append(stream: str, entries: Any) -> Future[Any]:
        stuck.append(Future())
        return stuck[-1]

    setting.memory.append = append  # type: ignore[method-assign]  # a log that never answers

    async def story(buffer: PredictionBuffer) -> None:
        buffer.start()
        buffer.offer(prediction(0))
        await asyncio.sleep(0.05)
        assert stuck
        buffer.offer(prediction(1))
        await buffer.close(drain_s=0.05)

    setting.run(story)
    assert setting.lost("lost") == 2


def test_closing_what_never_started_counts_what_waited() -> None:
    setting = Setting()

    async def story(buffer: PredictionBuffer) -> None:
        buffer.offer(prediction(0))
        await buffer.close()

    setting.run(story)
    assert setting.lost("lost") == 1
