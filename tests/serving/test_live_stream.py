"""The live stream: the newest state of each topic, every decision once and in order, and an end to everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from streamlearn.errors import StoreUnavailable
from streamlearn.serving import live as module
from streamlearn.serving.live import MAX_READERS, MAX_WAITING, Decisions, Live, Reader
from streamlearn.serving.problems import ProblemError


class Source:
    """Topics and a control log that a test writes; counts what is read."""

    def __init__(self) -> None:
        self.docs: dict[str, bytes] = {}
        self.log: list[bytes] = []
        self.reads: list[str] = []
        self.trail: list[tuple[int, int]] = []
        self.fails = False

    async def read(self, topic: str) -> bytes | None:
        self.reads.append(topic)
        if self.fails:
            raise StoreUnavailable("gone")
        return self.docs.get(topic)

    async def head(self) -> int:
        if self.fails:
            raise StoreUnavailable("gone")
        return len(self.log)

    async def between(self, first: int, end: int) -> Mapping[int, bytes]:
        self.trail.append((first, end))
        return {offset: self.log[offset] for offset in range(first, end)}

    def live(self, period_s: float = 0.01) -> Live:
        return Live(self.read, Decisions(self.head, self.between), period_s)

    def decide(self, count: int = 1) -> None:
        self.log += [b'{"n":%d}' % (len(self.log) + i) for i in range(count)]


def told(reader: Reader) -> list[tuple[str, int | None, Any]]:
    """(event, id, data) of all that waits for the reader."""
    out = []
    while (frame := reader.take()) is not None:
        out.append(parsed(frame))
    return out


def parsed(frame: bytes) -> tuple[str, int | None, Any]:
    fields = dict(line.split(": ", 1) for line in frame.decode().strip().splitlines() if not line.startswith(":"))
    assert frame.endswith(b"\n\n")
    return fields["event"], int(fields["id"]) if "id" in fields else None, msgspec.json.decode(fields["data"])


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_topic_is_read_once_for_all_its_readers_and_each_gets_the_newest_state() -> None:
    async def story() -> None:
        source = Source()
        live = source.live()
        readers = [live.join({"model:a"}, None) for _ in range(3)]
        other = live.join({"model:b"}, None)
        source.docs |= {"model:a": b'{"v":1}', "model:b": b'{"v":7}'}
        await live.look()
        assert sorted(source.reads) == ["model:a", "model:b"]
        source.docs["model:a"] = b'{"v":2}'
        await live.look()
        for reader in readers:
            assert told(reader) == [("model", -1, {"v": 2})]  # the state between was overtaken
        assert told(other) == [("model", -1, {"v": 7})]
        await live.look()
        assert [told(reader) for reader in (*readers, other)] == [[], [], [], []]  # nothing changed
        late = live.join({"model:a"}, None)
        assert told(late) == [("model", None, {"v": 2})]  # at once, without another look

    run(story)


def test_the_fleet_is_looked_at_every_other_time_and_topics_nobody_wants_are_forgotten() -> None:
    async def story() -> None:
        source = Source()
        source.docs |= {"fleet": b"{}", "case:c": b"{}"}
        live = source.live()
        reader = live.join({"fleet", "case:c"}, None)
        for _ in range(6):
            await live.look()
        assert source.reads.count("case:c") == 6
        assert source.reads.count("fleet") in (3, 4)
        live.leave(reader)
        source.reads.clear()
        await live.look()
        assert source.reads == []
        assert told(live.join({"fleet"}, None)) == []  # what it was is not taken for what it is

    run(story)


def test_a_new_reader_hears_the_decisions_from_now_on_and_one_that_resumes_those_since() -> None:
    async def story() -> None:
        source = Source()
        source.decide(5)
        live = source.live()
        new, back = live.join(set(), None), live.join(set(), 1)
        await live.look()
        assert told(new) == [("beat", 4, {})], "it knows where to resume, should it be cut off before anything happens"
        assert told(back) == [("decision", n, {"n": n}) for n in (2, 3, 4)]
        source.decide(2)
        await live.look()
        await live.look()
        assert told(new) == told(back) == [("decision", n, {"n": n}) for n in (5, 6)]
        assert parsed(new.beat())[:2] == ("beat", 6)  # so that it resumes there, whatever it was told last
        assert source.trail == [(2, 5), (5, 7)]

    run(story)


def test_every_state_carries_the_offset_of_the_newest_decision_that_was_sent_before_it() -> None:
    async def story() -> None:
        source = Source()
        source.docs["model:a"] = b"{}"
        source.decide(3)
        live = source.live()
        reader = live.join({"model:a"}, 0)
        await live.look()
        assert [(event, id) for event, id, _ in told(reader)] == [("decision", 1), ("decision", 2), ("model", 2)]

    run(story)


def test_what_is_too_much_to_be_made_up_for_is_named() -> None:
    async def story() -> None:
        source = Source()
        source.decide(MAX_WAITING + 50)
        live = source.live()
        reader = live.join(set(), 9)
        await live.look()
        first, *rest = told(reader)
        assert first == ("missed", 49, {"from": 10, "until": 50})
        assert [id for _, id, _ in rest] == list(range(50, MAX_WAITING + 50))

    run(story)


def test_a_reader_that_does_not_read_holds_a_bounded_number_and_is_told_what_it_missed() -> None:
    async def story() -> None:
        source = Source()
        source.docs["model:a"] = b'{"v":0}'
        live = source.live()
        slow = live.join({"model:a"}, None)
        await live.look()
        for n in range(30):
            source.decide(10)
            source.docs["model:a"] = b'{"v":%d}' % n
            await live.look()
        found = told(slow)
        assert found[0] == ("missed", 300 - MAX_WAITING - 1, {"from": 0, "until": 300 - MAX_WAITING})
        assert [id for event, id, _ in found if event == "decision"] == list(range(300 - MAX_WAITING, 300))
        assert found[-1] == ("model", 299, {"v": 29})
        assert len(found) == MAX_WAITING + 2

    run(story)


def test_an_emptied_store_whose_trail_is_told_anew_repeats_nothing_to_those_who_are_there() -> None:
    async def story() -> None:
        source = Source()
        source.decide(4)
        live = source.live()
        reader = live.join(set(), 1)
        await live.look()
        assert len(told(reader)) == 2
        whole = source.log
        for known in (0, 2, 4):
            source.log = whole[:known]
            await live.look()
        assert told(reader) == []
        source.decide()
        await live.look()
        assert told(reader) == [("decision", 4, {"n": 4})]

    run(story)


def test_one_that_knows_more_than_there_is_begins_with_what_there_is() -> None:
    async def story() -> None:
        source = Source()
        source.decide(3)
        live = source.live()
        reader = live.join(set(), 1000)
        await live.look()
        source.decide()
        await live.look()
        assert told(reader) == [("decision", 3, {"n": 3})]

    run(story)


def test_a_store_that_is_away_ends_nothing() -> None:
    async def story() -> None:
        source = Source()
        source.docs["case:c"] = b'{"v":1}'
        live = source.live()
        reader = live.join({"case:c"}, None)
        await live.look()
        told(reader)
        source.fails = True
        await live.look()
        assert told(reader) == []
        source.fails = False
        source.docs["case:c"] = b'{"v":2}'
        source.decide()
        await live.look()
        assert [event for event, _, _ in told(reader)] == ["decision", "case"]

    run(story)


def test_a_fault_in_reading_does_not_end_the_poller(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        source = Source()
        live = source.live()
        broken = True

        async def read(topic: str) -> bytes | None:
            if broken:
                raise ZeroDivisionError
            return b'{"v":1}'

        live._read = read
        live.start()
        reader = live.join({"fleet"}, None)
        await asyncio.sleep(0.3)
        broken = False
        await asyncio.wait_for(reader.woken.wait(), 5)
        while (found := told(reader)) == []:
            await asyncio.sleep(0.01)
        assert found == [("fleet", None, {"v": 1})] or found == [("fleet", -1, {"v": 1})]
        await live.closed()

    run(story)
    assert "reading what live streams show failed" in caplog.text


def test_a_stream_begins_with_how_to_come_again_beats_and_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)

    async def story() -> None:
        source = Source()
        source.docs["model:a"] = b'{"v":1}'
        live = source.live()
        live.start()
        reader = live.join({"model:a"}, None)
        frames = [frame async for frame in live.frames(reader, 0.5)]
        assert frames[0].startswith(b"retry: 2000\n\n: still here\n")
        assert sum(frame.startswith(b": still here") for frame in frames[1:]) >= 3
        assert [parsed(frame) for frame in frames if b"event: model" in frame] == [("model", -1, {"v": 1})]
        await live.closed()

    run(story)


def test_closing_ends_every_stream_at_once_and_takes_no_more() -> None:
    async def story() -> None:
        live = Source().live()
        live.start()

        async def all_of(reader: Reader) -> int:
            return len([frame async for frame in live.frames(reader)])

        streams = [asyncio.create_task(all_of(live.join(set(), None))) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert not any(stream.done() for stream in streams)
        live.close()
        await asyncio.wait_for(asyncio.gather(*streams), 1)
        await asyncio.wait_for(live.closed(), 1)
        with pytest.raises(ProblemError, match="going down"):
            live.join(set(), None)

    run(story)


def test_there_are_so_many_readers_and_no_more() -> None:
    live = Source().live()
    readers = [live.join(set(), None) for _ in range(MAX_READERS)]
    with pytest.raises(ProblemError, match="200 live streams are open") as caught:
        live.join(set(), None)
    assert caught.value.status == 503
    live.leave(readers[0])
    live.join(set(), None)
    assert len(live) == MAX_READERS


def test_over_http_a_stream_tells_of_models_cases_and_decisions(world: Any) -> None:
    world.publish_all()
    world.view("case", "delay-1", {"model": "delay", "open": True})
    for offset in range(3):
        world.memory_store.put_views({("audit", f"{offset:020d}"): msgspec.json.encode({"control": offset})}, offset + 1)

    async def story(http: Any) -> None:
        query = {"topics": "model:delay,case:delay-1", "for_s": "0.4"}
        got = await http.get("/v1/live", params=query, headers={"Last-Event-ID": "0"})
        assert got.headers["content-type"].startswith("text/event-stream")
        assert got.headers["cache-control"] == "no-store"
        frames = [parsed(frame.encode() + b"\n\n") for frame in got.text.split("\n\n")[1:] if frame]
        assert [doc["control"] for event, _, doc in frames if event == "decision"] == [1, 2]
        states = {event: doc for event, _, doc in frames if event in ("model", "case")}
        assert states["case"] == (await http.get("/v1/cases/delay-1")).json()
        assert states["case"]["story"]
        fleet = (await http.get("/v1/live", params={"topics": "fleet", "for_s": "0.4"})).text
        assert '"models":[{"name":' in fleet.partition("event: fleet")[2]
        same = (await http.get("/v1/models/delay")).json()
        assert {name: states["model"][name] for name in ("name", "version", "n")} == {
            name: same[name] for name in ("name", "version", "n")
        }
        assert len(world.app.state.live) == 0
        again = await http.get("/v1/live", params=query | {"after": "1"})
        assert '"control":2' in again.text
        assert '"control":1' not in again.text

    world.run(story)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"topics": "model:nope"}, 404, "no model 'nope'"),
        ({"topics": "everything"}, 422, "write fleet, model:NAME or case:ID"),
        ({"topics": "case:"}, 422, "write fleet, model:NAME or case:ID"),
        ({"topics": ",".join(f"case:{n}" for n in range(21))}, 422, "name 20 at most"),
        ({"after": "x"}, 422, "after: write a number from -1"),
        ({"after": "-2"}, 422, "after: write a number from -1"),
        ({"for_s": "1e9"}, 422, "for_s: write a number from 0 to 900"),
        ({"for_s": "nan"}, 422, "for_s: write a number from 0 to 900"),
    ],
)
def test_what_cannot_be_told_is_refused(world: Any, query: dict[str, str], status: int, words: str) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/v1/live", params=query)
        assert got.status_code == status
        assert words in got.json()["detail"]
        assert len(world.app.state.live) == 0

    world.run(story)


def test_too_many_streams_are_503_and_say_when_to_come_again(world: Any) -> None:
    async def story(http: Any) -> None:
        for _ in range(MAX_READERS):
            world.app.state.live.join(set(), None)
        got = await http.get("/v1/live", params={"topics": "fleet"})
        assert (got.status_code, got.headers["retry-after"]) == (503, "5")
        assert got.json()["type"] == "/problems/streams"

    world.run(story)
