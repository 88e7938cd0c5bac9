"""The plan of a rewind over HTTP, and the words that go with a resume and a rewind."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.errors import StoreUnavailable
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.log import CONTROL, Entry
from streamlearn.records import decode_control
from streamlearn.store import Retention, codec

KEYS = KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})


def records(world: Any, count: int = 20) -> None:
    world.memory_log.create({"flights": 1})
    world.memory_log.append("flights", [Entry(b"k", b"{}")] * count).result()


def checkpoint(world: Any, position: int) -> int:
    blob = codec.encode(
        kind="checkpoint", model="delay", version=3, shard=0, generation=1,
        positions=[Position(world.memory_log.identity("flights"), "flights", 0, position)], created=0.0,
        parts={"champion": b"c", "join": b"j"}, keys=KEYS,
    )  # fmt: skip
    id: int = world.memory_store.put_checkpoint("delay", 0, 1, blob, Retention())
    return id


def test_the_plan_names_the_checkpoint_and_what_will_be_learned_again(world: Any) -> None:
    records(world)
    checkpoint(world, 5)
    id = checkpoint(world, 8)
    checkpoint(world, 15)

    async def story(http: Any) -> None:
        got = await http.get("/v1/models/delay/rewind", params={"to": "10", "skip": ["10:12", "0/14:0/15"]})
        assert got.status_code == 200
        assert got.json() == {
            "model": "delay",
            "shards": [
                {
                    "shard": 0, "to": 10, "checkpoint": id, "at": world.clock(), "version": 3, "start": 8, "end": 20,
                    "records": 9, "skip": [[10, 12], [14, 15]],
                }
            ],
        }  # fmt: skip
        got = await http.get("/v1/models/delay/rewind", params={"to": "2", "skip": "2:3"})
        assert (got.json()["shards"][0]["checkpoint"], got.json()["shards"][0]["start"]) == (None, 0)

    world.run(story)
    assert world.records(CONTROL) == []


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({}, 422, "to"),
        ({"to": "1"}, 422, "skip"),
        ({"to": "x", "skip": "1:2"}, 422, "to"),
        ({"to": "1", "skip": "12"}, 422, "skip"),
        ({"to": "1", "skip": "1:99"}, 422, "skip"),
    ],
)
def test_a_plan_that_cannot_be_says_which_word_is_wrong(world: Any, query: Any, status: int, field: str) -> None:
    records(world)

    async def story(http: Any) -> None:
        got = await http.get("/v1/models/delay/rewind", params=query)
        assert (got.status_code, got.json()["field"]) == (status, field)
        assert (await http.get("/v1/models/nobody/rewind", params=query)).status_code == 404

    world.run(story)


def test_a_lost_store_is_503(world: Any) -> None:
    records(world)
    world.store_faults.fail("checkpoints", StoreUnavailable("locked"))

    async def story(http: Any) -> None:
        assert (await http.get("/v1/models/delay/rewind", params={"to": "1", "skip": "1:2"})).status_code == 503

    world.run(story)


def test_a_rewind_and_a_resume_carry_their_words_to_control(world: Any) -> None:
    async def story(http: Any) -> None:
        body = {"to": ["0/10"], "skip": ["0/10:0/12"], "reason": "a sensor"}
        assert (await http.post("/v1/models/delay/rewind", json=body)).status_code == 202
        assert (await http.post("/v1/models/delay/resume", json={"mode": "learn"})).status_code == 202

    world.run(story)
    asked = [decode_control(record.value) for record in world.records(CONTROL)]
    assert [(one.action, one.mode, one.to, one.skip) for one in asked] == [
        ("rewind", "skip", ["0/10"], ["0/10:0/12"]), ("resume", "learn", [], []),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("resume", {"mode": "guess"}, "mode"),
        ("rewind", {"to": ["x"], "skip": ["1:2"]}, "to"),
        ("rewind", {"to": ["1"], "skip": ["2"]}, "skip"),
        ("rewind", {"to": ["1"], "skip": ["1:2"] * 500}, "skip"),
    ],
)
def test_wrong_words_leave_no_record(world: Any, action: str, body: Any, field: str) -> None:
    async def story(http: Any) -> None:
        got = await http.post(f"/v1/models/delay/{action}", json=body)
        assert (got.status_code, got.json()["field"]) == (422, field)

    world.run(story)
    assert world.records(CONTROL) == []
