"""POST /v1/events: what goes in, what is refused and how it is named, duplicates, limits, overload, a full disk, recovery."""

from __future__ import annotations

import asyncio
import gzip
import json
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import pytest

from streamlearn.errors import LogFull, LogUnavailable, Overloaded
from streamlearn.events import Kind, decode_event, partition_of

NOW = 1_767_225_600.0
A = {"stream": "flights", "id": "a", "ts": NOW - 60, "x": {"carrier": "WN", "distance": 239}}
B = {"stream": "flights", "id": "b", "ts": NOW - 30, "x": {"carrier": "AA", "distance": 1379}}
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


def test_one_event_is_in_the_log_when_it_is_answered(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json=A)
        assert got.status_code == 200
        assert got.json() == {
            "accepted": 1, "duplicate": 0, "rejected": [], "warnings": [], "ids": {}, "positions": {"flights": {"0": 1}},
        }
        [record] = world.records("flights")
        assert (record.kind, record.key) == (Kind.EVENT, b"a")
        event = decode_event(record.value)
        assert (event.id, event.key, event.ts, event.x) == ("a", "a", NOW - 60, A["x"])

    world.run(story)


def test_it_is_answered_only_once_the_log_is_durable(world: Any) -> None:
    waiting: list[Future[Any]] = []

    async def story(http: Any) -> None:
        append = world.memory_log.append

        def slow(stream: str, entries: Any) -> Future[Any]:
            future: Future[Any] = Future()
            waiting.append(future)
            future.places = append(stream, entries).result()  # type: ignore[attr-defined]  # carried along for the test
            return future

        world.memory_log.append = slow
        post = asyncio.create_task(http.post("/v1/events", json=A))
        await asyncio.sleep(0.05)
        assert not post.done()
        waiting[0].set_result(waiting[0].places)  # type: ignore[attr-defined]  # as above
        assert (await post).json()["accepted"] == 1

    world.run(story)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps([A, B]).encode(), JSON),
        (json.dumps([A, B]).encode(), {}),
        (json.dumps([A, B]).encode(), {"content-type": "application/vnd.api+json; charset=utf-8"}),
        (json.dumps(A).encode() + b"\n\n" + json.dumps(B).encode() + b"\r\n", NDJSON),
        (json.dumps(A).encode() + b"\n" + json.dumps(B).encode(), {"content-type": "application/ndjson; charset=utf-8"}),
    ],
)
def test_arrays_and_lines(world: Any, body: bytes, headers: dict[str, str]) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=body, headers=headers)
        assert (got.status_code, got.json()["accepted"]) == (200, 2)
        assert [decode_event(record.value).id for record in world.records("flights")] == ["a", "b"]

    world.run(story)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_content_type_is_415_and_says_which_to_send(world: Any, kind: str) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=json.dumps(A), headers={"content-type": kind})
        assert got.status_code == 415
        assert "(curl: -H 'Content-Type: application/json')" in got.json()["detail"]
        assert world.metric("streamlearn_requests_refused_total", why="media-type") == 1

    world.run(story)
    assert world.records("flights") == []


def test_a_compressed_body_is_415_and_not_called_malformed(world: Any) -> None:
    async def story(http: Any) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        got = await http.post("/v1/events", content=gzip.compress(json.dumps(A).encode()), headers=headers)
        assert got.status_code == 415
        assert got.json()["detail"] == "Content-Encoding 'gzip' is not read here; send the body as it is"
        plain = await http.post("/v1/events", json=A, headers={"content-encoding": "identity"})
        assert plain.json()["accepted"] == 1

    world.run(story)


def test_a_field_that_no_event_has_is_warned_of(world: Any) -> None:
    async def story(http: Any) -> None:
        odd = [A | {"id": "b", "Y": 1}, A | {"id": "c", "label": 1}, A | {"id": "d", "Y": 1}]
        got = await http.post("/v1/events", json=[A, *odd])
        assert got.json()["accepted"] == 4
        [warning] = got.json()["warnings"]
        assert warning.endswith("the label is y): 'Y', 'label'")
        assert [decode_event(record.value).y for record in world.records("flights")] == [None] * 4

    world.run(story)


def test_warnings_of_unknown_fields_are_bounded(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json=[A | {"id": str(n), f"{n:0200}": 1} for n in range(50)])
        [warning] = got.json()["warnings"]
        assert got.json()["accepted"] == 50
        assert len(warning) < 1000

    world.run(story)


def test_an_event_without_an_id_gets_one_and_the_answer_warns(world: Any) -> None:
    async def story(http: Any) -> None:
        bare = {"stream": "flights", "x": {"distance": 1}}
        got = (await http.post("/v1/events", json=[A, bare, bare])).json()
        assert got["accepted"] == 3
        assert set(got["ids"]) == {"1", "2"}
        assert got["ids"]["1"] != got["ids"]["2"]
        assert "learned twice" in got["warnings"][0]
        events = [decode_event(record.value) for record in world.records("flights")]
        assert [event.id for event in events[1:]] == [got["ids"]["1"], got["ids"]["2"]]
        assert events[1].key == events[1].id

    world.run(story)


def test_times_are_written_as_seconds_and_an_absent_one_stays_absent(world: Any) -> None:
    async def story(http: Any) -> None:
        events = [A | {"id": "1", "ts": "2025-12-31T23:00:00Z"}, A | {"id": "2", "ts": "2026-01-01T01:00:00+02:00"}]
        events += [A | {"id": "3", "ts": 1_767_000_000}, {"stream": "flights", "id": "4", "x": {}}]
        assert (await http.post("/v1/events", json=events)).json()["accepted"] == 4

    world.run(story)
    found = [json.loads(record.value) for record in world.records("flights")]
    evening = datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp()
    assert [event.get("ts") for event in found] == [evening, evening, 1_767_000_000.0, None]
    assert "ts" not in found[3]
    assert isinstance(found[2]["ts"], float)


def test_the_key_decides_the_partition_and_positions_say_where(world: Any) -> None:
    async def story(http: Any) -> None:
        events = [{"stream": "clicks", "id": f"{n}", "key": f"user{n % 7}", "x": {}} for n in range(40)]
        got = (await http.post("/v1/events", json=[*events, A])).json()
        ends = {str(p): len(world.records("clicks", p)) for p in range(4) if world.records("clicks", p)}
        assert got["positions"] == {"clicks": ends, "flights": {"0": 1}}

    world.run(story)
    for partition in range(4):
        assert all(partition_of(record.key, 4) == partition for record in world.records("clicks", partition))


@pytest.mark.parametrize(
    ("second", "duplicate"),
    [
        ({"x": {"distance": 1}}, 1),  # the first x wins
        ({"y": True}, 0),
        ({"x": {"distance": 1}, "y": True}, 0),  # the label is news
        ({"item": "i1", "action": "click"}, 0),
    ],
)
def test_a_repeat_of_features_within_a_request_is_dropped(world: Any, second: dict[str, Any], duplicate: int) -> None:
    async def story(http: Any) -> None:
        got = (await http.post("/v1/events", json=[A, {"stream": "flights", "id": "a"} | second])).json()
        assert (got["accepted"], got["duplicate"]) == (2 - duplicate, duplicate)

    world.run(story)


@pytest.mark.parametrize(("first", "second", "duplicate"), [(True, True, 1), (True, False, 0), (1, True, 0), ("a", "a", 1)])
def test_the_same_label_is_a_repeat_and_another_is_a_correction_for_the_learner(
    world: Any, first: Any, second: Any, duplicate: int
) -> None:
    async def story(http: Any) -> None:
        label = {"stream": "flights", "id": "a"}
        got = (await http.post("/v1/events", json=[label | {"y": first}, label | {"y": second}])).json()
        assert got["duplicate"] == duplicate

    world.run(story)


def test_the_same_id_in_another_stream_is_another_event_and_all_duplicates_are_200(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json=[A, A | {"stream": "clicks"}, A])
        assert got.json()["accepted"] == 2
        assert world.metric("streamlearn_events_posted_total", outcome="duplicate") == 1
        # across requests the learner drops: the door remembers nothing
        assert (await http.post("/v1/events", json=A)).json()["accepted"] == 1

    world.run(story)


BAD: list[tuple[str, bytes, str, str]] = [
    ("unknown stream", b'{"stream":"nope","id":"q","x":{}}', "stream", "unknown_stream"),
    ("internal stream", b'{"stream":"_control","id":"q","x":{}}', "stream", "unknown_stream"),
    ("no stream", b'{"id":"q","x":{}}', "stream", "shape"),
    ("nothing to learn", b'{"stream":"flights","id":"q"}', "x", "empty"),
    ("label without id", b'{"stream":"flights","y":1}', "id", "shape"),
    ("empty id", b'{"stream":"flights","id":"","x":{}}', "id", "shape"),
    ("number as id", b'{"stream":"flights","id":7,"x":{}}', "id", "shape"),
    ("2**64", b'{"stream":"flights","id":"q","x":{"n":18446744073709551616}}', "x.n", "out_of_range"),
    ("2**64 as label", b'{"stream":"flights","id":"q","y":18446744073709551616}', "y", "out_of_range"),
    ("1e999", b'{"stream":"flights","id":"q","x":{"n":1e999}}', "x.n", "not_finite"),
    ("milliseconds", b'{"stream":"flights","id":"q","ts":1767225600000,"x":{}}', "ts", "future"),
    ("the year 2099", b'{"stream":"flights","id":"q","ts":"2099-01-01T00:00:00Z","x":{}}', "ts", "future"),
    ("no time at all", b'{"stream":"flights","id":"q","ts":"yesterday","x":{}}', "ts", "time"),
    ("a nested feature", b'{"stream":"flights","id":"q","x":{"n":{"m":1}}}', "x.n", "shape"),
    ("deep nesting", b'{"stream":"flights","id":"q","x":{},"z":' + b"[" * 9000 + b"]" * 9000 + b"}", "$", "too_deep"),
    ("bad UTF-8", b'{"stream":"flights","id":"q","x":{"n":"\xff\xfe"}}', "$", "malformed"),
    ("half a surrogate", b'{"stream":"flights","id":"q","x":{"n":"\\ud800"}}', "$", "malformed"),
    ("a long string", b'{"stream":"flights","id":"q","x":{"n":"' + b"a" * 1025 + b'"}}', "x.n", "too_long"),
    ("a long id", b'{"stream":"flights","id":"' + b"a" * 1025 + b'","x":{}}', "id", "too_long"),
    ("many features", json.dumps({"stream": "flights", "id": "q", "x": {str(n): n for n in range(1001)}}).encode(), "x",
     "too_many_features"),
    ("a large event", b'{"stream":"flights","id":"q","x":{},"z":"' + b"a" * 262_144 + b'"}', "$", "too_large"),
    ("not an object", b"17", "$", "shape"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_event_is_named_and_the_others_go_in(world: Any, body: bytes, field: str, reason: str) -> None:
    async def story(http: Any) -> None:
        lines = b"\n".join([json.dumps(A).encode(), body, json.dumps(B).encode()])
        got = await http.post("/v1/events", content=lines, headers=NDJSON)
        assert got.status_code == 200
        assert got.json()["accepted"] == 2
        [rejected] = got.json()["rejected"]
        assert (rejected["index"], rejected["field"], rejected["reason"]) == (1, field, reason)
        assert rejected["detail"]
        assert world.metric("streamlearn_events_rejected_total", reason=reason) == 1

    world.run(story)
    assert [decode_event(record.value).id for record in world.records("flights")] == ["a", "b"]


@pytest.mark.parametrize(("body", "reason"), [(row[1], row[3]) for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_event_alone_is_a_problem_that_names_field_and_reason(world: Any, body: bytes, reason: str) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=body, headers=JSON)
        assert got.status_code == (400 if reason == "malformed" else 422)
        assert got.headers["content-type"] == "application/problem+json"
        problem = got.json()
        assert (problem["index"], problem["reason"], problem["accepted"]) == (0, reason, 0)
        assert problem["rejected"][0]["reason"] == reason
        assert world.metric("streamlearn_events_posted_total", outcome="rejected") == 1

    world.run(story)
    assert world.records("flights") == []


def test_nan_in_an_array_takes_no_other_event_down(world: Any) -> None:
    async def story(http: Any) -> None:
        nan, infinite = {"stream": "flights", "id": "n", "x": {"v": float("nan")}}, {"stream": "flights", "y": float("inf")}
        body = json.dumps([A, nan, B, infinite])
        got = (await http.post("/v1/events", content=body, headers=JSON)).json()
        assert got["accepted"] == 2
        assert [(item["index"], item["field"], item["reason"]) for item in got["rejected"]] == [
            (1, "x.v", "not_finite"), (3, "y", "not_finite"),
        ]  # fmt: skip

    world.run(story)


@pytest.mark.parametrize("body", [b"", b"  \n ", b"hello", b'{"stream":', b"[{]", b'[{"stream":"flights"', b"\xff\xfe\x00"])
def test_what_is_no_json_at_all_is_400(world: Any, body: bytes) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=body, headers=JSON)
        assert got.status_code == 400
        assert got.json()["type"] == "/problems/malformed"
        assert got.json()["status"] == 400

    world.run(story)


def test_an_array_nested_too_deeply_is_422(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=b"[" * 100_000 + b"]" * 100_000, headers=JSON)
        assert (got.status_code, got.json()["reason"]) == (422, "too_deep")

    world.run(story)


def test_an_empty_array_is_nothing_and_no_error(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json=[])
        assert (got.status_code, got.json()["accepted"], got.json()["positions"]) == (200, 0, {})

    world.run(story)


def test_too_large_a_body_is_refused_by_its_announced_length_and_while_it_is_read(world: Any) -> None:
    world.tree["limits"] = {"max_body_bytes": 1000}
    read = 0

    async def pieces() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 300

    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=b" " * 1001, headers=JSON)
        assert (got.status_code, got.json()["type"]) == (413, "/problems/too-large")
        got = await http.post("/v1/events", content=pieces(), headers=JSON)
        assert got.status_code == 413
        assert "1000 bytes" in got.json()["detail"]
        assert read < 10
        assert (await http.post("/v1/events", json=A)).status_code == 200
        assert world.hub.ingest._bytes == 0

    world.run(story)


@pytest.mark.parametrize("lines", [True, False])
def test_too_many_events_in_a_request_are_413_and_none_goes_in(world: Any, lines: bool) -> None:
    world.tree["limits"] = {"max_batch": 3}

    async def story(http: Any) -> None:
        events = [A | {"id": str(n)} for n in range(4)]
        body = "\n".join(map(json.dumps, events)) if lines else json.dumps(events)
        got = await http.post("/v1/events", content=body, headers=NDJSON if lines else JSON)
        assert got.status_code == 413
        assert (await http.post("/v1/events", json=events[:3])).json()["accepted"] == 3

    world.run(story)
    assert len(world.records("flights")) == 3


def test_more_requests_than_may_wait_are_429_and_it_recovers_by_itself(world: Any) -> None:
    world.tree["serve"] = {"max_in_flight": 2}
    waiting: list[Future[Any]] = []

    async def story(http: Any) -> None:
        append = world.memory_log.append

        def stuck(stream: str, entries: Any) -> Future[Any]:
            waiting.append(Future())
            return waiting[-1]

        world.memory_log.append = stuck
        posts = [asyncio.create_task(http.post("/v1/events", json=A)) for _ in range(2)]
        while len(waiting) < 2:
            await asyncio.sleep(0.005)
        refused = await http.post("/v1/events", json=A)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["retry_after"] == 1.0
        for future in waiting:
            future.set_result([(0, 0)])
        assert [(await post).status_code for post in posts] == [200, 200]
        world.memory_log.append = append
        assert (await http.post("/v1/events", json=A)).status_code == 200
        assert world.metric("streamlearn_requests_refused_total", why="overloaded") == 1

    world.run(story)


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (LogUnavailable("database is locked"), 503, "log-unavailable"),
        (LogFull("no space left on device"), 507, "full"),
        (Overloaded("64 MiB wait to be written", 0.25), 429, "overloaded"),
    ],
)
def test_a_log_that_refuses_is_said_with_a_time_to_come_back_and_it_recovers(
    world: Any, error: Exception, status: int, why: str
) -> None:
    world.log_faults.fail("append", error)

    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json=A)
        assert got.status_code == status
        assert int(got.headers["retry-after"]) >= 1
        assert got.json()["type"] == f"/problems/{why}"
        assert world.metric("streamlearn_requests_refused_total", why=why) == 1
        assert world.metric("streamlearn_events_posted_total", outcome="accepted") is None
        assert (await http.post("/v1/events", json=A)).json()["accepted"] == 1

    world.run(story)


def test_when_one_of_two_streams_fails_the_request_fails_and_no_slot_is_lost(world: Any) -> None:
    world.tree["serve"] = {"max_in_flight": 1}
    world.log_faults.fail("append", LogUnavailable("down"), after=1)

    async def story(http: Any) -> None:
        both = [A, A | {"stream": "clicks"}]
        assert (await http.post("/v1/events", json=both)).status_code == 503
        assert (await http.post("/v1/events", json=both)).json()["accepted"] == 2

    world.run(story)


def test_a_body_that_stalls_is_408_and_frees_what_it_held(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlearn.serving.ingest.READ_S", 0.05)

    async def stalls() -> Any:
        yield b"["
        await asyncio.sleep(30)
        yield b"]"

    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content=stalls(), headers=JSON)
        assert got.status_code == 408
        assert world.hub.ingest._bytes == 0

    world.run(story)


def test_the_bytes_that_are_being_read_are_bounded_as_well(world: Any) -> None:
    world.tree["serve"] = {"max_in_flight": 1}
    world.tree["limits"] = {"max_body_bytes": 1000}
    gate = asyncio.Event()

    async def slow() -> Any:
        yield b" " * 900
        await gate.wait()
        yield json.dumps(A).encode()[:100].ljust(100)

    async def story(http: Any) -> None:
        first = asyncio.create_task(http.post("/v1/events", content=slow(), headers=JSON))
        while world.hub.ingest._bytes < 900:
            await asyncio.sleep(0.005)
        assert (await http.post("/v1/events", json=A | {"id": "x" * 200})).status_code == 429
        gate.set()
        assert (await first).status_code in (200, 400)
        assert (await http.post("/v1/events", json=A)).status_code == 200

    world.run(story)


def test_predictions_are_answered_while_a_large_batch_is_judged(world: Any) -> None:
    world.publish()

    async def story(http: Any) -> None:
        events = [A | {"id": str(n)} for n in range(5000)]
        post = asyncio.create_task(http.post("/v1/events", json=events))
        answered = 0
        while not post.done():
            assert (await http.post("/v1/predict/delay", json={"x": {}})).status_code == 200
            answered += 1
            await asyncio.sleep(0)  # over this transport, a question alone never lets the other task run
        assert answered > 10
        assert (await post).json()["accepted"] == 5000

    world.run(story)


def test_an_interaction_goes_to_its_users_partition_and_its_own_key_is_left_alone(world: Any) -> None:
    async def story(http: Any) -> None:
        users = ["ann", "bob", "cyd", "dan", "eve"]
        events = [
            {"stream": "clicks", "id": f"e{n}", "user": user, "item": "shoe-7", "action": "click", "x": {"device": "phone"}}
            for n, user in enumerate(users)
        ]
        slate = ["shoe-7", {"item": "hat-1", "propensity": 1.0}]
        events.append({"stream": "clicks", "id": "i-1", "user": "ann", "items": slate})
        events.append({"stream": "clicks", "id": "r-1", "user": "ann", "action": "$set", "x": {"country": "PT"}})
        events.append({"stream": "clicks", "id": "k-1", "user": "ann", "key": "mine", "item": "shoe-7", "action": "buy"})
        events.append({"stream": "clicks", "id": "f-1", "user": "ann", "x": {"amount": 3}})
        assert (await http.post("/v1/events", json=events)).json()["accepted"] == 9
        keys = {
            decode_event(record.value).id: (record.key.decode(), partition)
            for partition in range(4)
            for record in world.records("clicks", partition)
        }
        for n, user in enumerate(users):
            assert keys[f"e{n}"] == (user, partition_of(user.encode(), 4))
        assert keys["i-1"] == keys["r-1"] == keys["e0"]
        assert keys["k-1"] == ("mine", partition_of(b"mine", 4))
        assert keys["f-1"] == ("f-1", partition_of(b"f-1", 4)), "no interaction: an event like any other"

    world.run(story)


def test_what_is_said_of_an_item_goes_to_every_partition_in_order_with_what_follows(world: Any) -> None:
    async def story(http: Any) -> None:
        events = [
            {"stream": "clicks", "id": "r-1", "item": "shoe-7", "action": "$set", "x": {"price": 40, "available": True}},
            {"stream": "clicks", "id": "e-1", "user": "ann", "item": "shoe-7", "action": "click"},
            {"stream": "clicks", "id": "r-2", "item": "hat-1", "action": "$delete"},
        ]
        got = (await http.post("/v1/events", json=events)).json()
        assert (got["accepted"], got["rejected"]) == (3, [])
        home = partition_of(b"ann", 4)
        for partition in range(4):
            found = [decode_event(record.value).id for record in world.records("clicks", partition)]
            assert found == (["r-1", "e-1", "r-2"] if partition == home else ["r-1", "r-2"])
        assert got["positions"] == {"clicks": {str(n): 3 if n == home else 2 for n in range(4)}}
        assert world.metric("streamlearn_events_posted_total", outcome="accepted") == 3

    world.run(story)


def test_of_two_records_with_one_id_that_say_other_things_none_is_dropped(world: Any) -> None:
    async def story(http: Any) -> None:
        events = [
            {"stream": "flights", "id": "r", "item": "a", "action": "$set", "x": {"price": price}} for price in (40, 30, 30)
        ]
        got = (await http.post("/v1/events", json=events)).json()
        assert (got["accepted"], got["duplicate"]) == (2, 1)

    world.run(story)


@pytest.mark.parametrize(
    ("event", "field", "says"),
    [
        ({"action": "$set", "x": {"a": 1}}, "item", "is of an item or of a user: name one of them"),
        ({"action": "$delete"}, "item", "name one of them"),
        ({"action": "$set", "item": "i", "user": "u", "x": {}}, "item", "not both"),
        ({"action": "$set", "item": "i"}, "x", "needs the fields"),
        ({"action": "$unset", "item": "i"}, "action", "write $set or $delete"),
        ({"action": "click", "user": "u"}, "item", "is missing"),
        ({"item": "i", "user": "u"}, "action", "is missing"),
        ({"items": []}, "items", "is an empty list"),
        ({"items": ["a", 7]}, "items[1]", "Expected"),
        ({"items": [{"position": 1}]}, "items[0]", "missing required field `item`"),
        ({"items": [{"item": "a", "propensity": 0}]}, "items[0].propensity", "> 0"),
        ({"items": [{"item": "a", "propensity": 1.5}]}, "items[0].propensity", "<= 1"),
        ({"items": [{"item": "a", "position": -1}]}, "items[0].position", ">= 0"),
    ],
)
def test_a_wrong_interaction_is_named_by_its_field(world: Any, event: dict[str, Any], field: str, says: str) -> None:
    async def story(http: Any) -> None:
        got = await http.post("/v1/events", json={"stream": "flights", "id": "e", **event})
        assert got.status_code == 422
        [rejected] = got.json()["rejected"]
        assert (rejected["field"], rejected["reason"]) == (field, "shape")
        assert says in rejected["detail"], rejected["detail"]
        assert world.records("flights") == []

    world.run(story)
