"""The client: the same steps waiting and awaited, what it sends, how it tries again, and how it adds answers up."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from streamlearn import wire
from streamlearn.client import Api, AsyncClient, Client, Retry
from streamlearn.client.batches import CHUNK_BYTES, chunks
from streamlearn.client.looking import Looking
from streamlearn.client.recommending import Recommending
from streamlearn.errors import Refused, Unreachable
from streamlearn.events import Event
from streamlearn.serving.examples import FLEET, HISTORY

Handler = Callable[[httpx.Request], httpx.Response]
POSITION = {"log": "l", "stream": "flights", "partition": 0, "offset": 7}
ANSWER = {
    "id": None, "model": "delay", "prediction": True, "probabilities": {"true": 0.9, "false": 0.1}, "version": 2,
    "position": POSITION, "age_s": 0.5, "degraded": None, "logged": "off",
}  # fmt: skip
ASKED = {"request": "r", "model": "delay", "action": "retrain", "by": "ada", "at": 1.0, "offset": 4}


class Service:
    """A service that answers as told, and remembers what it was asked; pauses are remembered, not taken."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):  # a new one each time: a response is read only once
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return httpx.Response(200, json=answer)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def options(self, **more: Any) -> dict[str, Any]:
        return {"transport": httpx.MockTransport(self), "clock": lambda: self.now, "jitter": lambda: 0.0} | more

    def waiting(self, **more: Any) -> Client:
        return Client("http://test", sleep=self.sleep, **self.options(**more))

    def awaited(self, **more: Any) -> AsyncClient:
        return AsyncClient("http://test", sleep=self.asleep, **self.options(**more))

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]

    def lines(self) -> list[list[dict[str, Any]]]:
        return [[json.loads(line) for line in request.content.splitlines()] for request in self.requests]


def taken(request: httpx.Request) -> dict[str, Any]:
    count = len(request.content.splitlines())
    ends = {"flights": {"0": count}}
    return {"accepted": count, "duplicate": 0, "rejected": [], "warnings": [], "ids": {}, "positions": ends}


def problem(status: int, retry_after: str | None = None, **more: Any) -> httpx.Response:
    body = {"type": "/problems/x", "title": "No", "status": status, "detail": "because"} | more
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(status, json=body, headers=headers)


def both(service: Service, method: str, *args: Any, **kwargs: Any) -> list[Any]:
    """What the waiting and the awaited client give for the same call."""

    async def awaited() -> Any:
        async with service.awaited() as client:
            return await getattr(client, method)(*args, **kwargs)

    with service.waiting() as client:
        return [getattr(client, method)(*args, **kwargs), asyncio.run(awaited())]


MODEL = {
    "name": "delay", "stream": "flights", "task": "binary", "pipeline": "logistic", "ready": True, "version": 1,
    "state": "steady", "case": "",
    "degraded": None, "n": 1, "lag": 0, "pending": 0, "dead": 0, "rate": 0.0, "counters": {}, "scores": None,
    "control": {}, "shards": [],
}  # fmt: skip
PAGE = {"items": [{"id": "a"}], "next": "a"}
SLATE = {
    "id": "i-1", "model": "shop", "version": 1, "position": POSITION, "age_s": 0.5, "degraded": None, "fallback": None,
    "items": [{"item": "hat-1", "position": 1, "score": 0.5, "source": "recent", "propensity": 0.9}], "unknown": [],
    "logged": "queued",
}  # fmt: skip
SIMILAR = {
    "model": "shop", "item": "hat-1", "version": 1, "position": POSITION, "age_s": 0.5, "degraded": None,
    "items": [{"item": "hat-4", "score": 0.5}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "args", "answer", "request_line", "check"),
    [
        ("predict", ("delay", {"a": 1}), ANSWER, "POST /v1/predict/delay", lambda got: got.prediction is True),
        ("predict_many", ("delay", [wire.Instance({})]), {"predictions": [ANSWER]}, "POST /v1/predict/delay/batch",
         lambda got: got[0].position.offset == 7),
        ("models", (), {"models": [MODEL]}, "GET /v1/models", lambda got: got[0].name == "delay"),
        ("model", ("delay",), MODEL, "GET /v1/models/delay", lambda got: got.state == "steady"),
        ("version", ("delay", 2), {"id": "delay@2"}, "GET /v1/models/delay/versions/2", lambda got: got == {"id": "delay@2"}),
        ("history", ("delay",), {"model": "delay", "items": []}, "GET /v1/models/delay/history", lambda got: got.items == []),
        ("history", ("delay", "2026-01-01T00:00+01:00"), {"model": "delay", "items": []},
         "GET /v1/models/delay/history?at=2026-01-01T00%3A00%2B01%3A00", lambda got: got.model == "delay"),
        ("fleet", (), FLEET, "GET /v1/fleet", lambda got: got.models[0].spark.value == [0.851, 0.874]),
        ("versions", ("delay",), PAGE, "GET /v1/models/delay/versions", lambda got: got == [{"id": "a"}]),
        ("cases", (), PAGE, "GET /v1/cases", lambda got: got == [{"id": "a"}]),
        ("cases", ("delay",), PAGE, "GET /v1/cases?model=delay", lambda got: got == [{"id": "a"}]),
        ("case", ("delay-1",), {"id": "delay-1"}, "GET /v1/cases/delay-1", lambda got: got == {"id": "delay-1"}),
        ("audit", (), PAGE, "GET /v1/audit?limit=100", lambda got: got.next == "a"),
        ("audit", (5, "a b"), PAGE, "GET /v1/audit?limit=5&after=a%20b", lambda got: len(got.items) == 1),
        ("diff", ("delay", 1, 2), {"model": "delay", "a": 1, "b": 2, "differences": []},
         "GET /v1/models/delay/versions/1/diff?with=2", lambda got: (got.a, got.b, got.differences) == (1, 2, [])),
        ("marks", ("delay", 5.5), {"model": "delay", "marks": []}, "GET /v1/models/delay/marks?since=5.5",
         lambda got: got == []),
        ("features", ("delay",), {"looks": 3}, "GET /v1/models/delay/features", lambda got: got == {"looks": 3}),
        ("features", ("delay", None, "2026-01-01T00:00+01:00"), {"looks": 3},
         "GET /v1/models/delay/features?until=2026-01-01T00%3A00%2B01%3A00", lambda got: got == {"looks": 3}),
        ("labels", ("delay",), {"waiting": 3}, "GET /v1/models/delay/labels", lambda got: got == {"waiting": 3}),
        ("request", ("delay", "hold"), ASKED, "POST /v1/models/delay/hold", lambda got: got.offset == 4),
        ("retrain", ("delay", "why"), ASKED, "POST /v1/models/delay/retrain", lambda got: got.request == "r"),
        ("rollback", ("delay",), ASKED, "POST /v1/models/delay/rollback", lambda got: got.by == "ada"),
        ("hold", ("delay", "odd"), ASKED, "POST /v1/models/delay/hold", lambda got: got.offset == 4),
        ("resume", ("delay", "learn"), ASKED, "POST /v1/models/delay/resume", lambda got: got.offset == 4),
        ("silence", ("delay", 60.0), ASKED, "POST /v1/models/delay/silence", lambda got: got.offset == 4),
        ("promote", ("delay", 2), ASKED, "POST /v1/models/delay/promote", lambda got: got.offset == 4),
        ("rewind_plan", ("delay", ["0/4"], ["1:2", "2026-01-01T00:00:00+01:00:9"]), {"model": "delay", "shards": []},
         "GET /v1/models/delay/rewind?to=0%2F4&skip=1%3A2&skip=2026-01-01T00%3A00%3A00%2B01%3A00%3A9",
         lambda got: got.model == "delay"),
        ("rewind", ("delay", ["0/4"], ["1:2"]), ASKED, "POST /v1/models/delay/rewind", lambda got: got.offset == 4),
        ("ready", (), {"ready": True, "degraded": [], "models": {"delay": 1}}, "GET /readyz", lambda got: got.ready),
        ("wait_until_ready", (), {"ready": True, "degraded": [], "models": {}}, "GET /readyz", lambda got: got.ready),
        ("metrics", (), httpx.Response(200, text="a 1\n"), "GET /metrics", lambda got: got == "a 1\n"),
        ("recommend", ("shop", "ann"), SLATE, "POST /v1/recommend/shop", lambda got: got.items[0].item == "hat-1"),
        ("rank", ("shop", ["hat-1"], "ann"), SLATE, "POST /v1/rank/shop", lambda got: got.items[0].propensity == 0.9),
        ("similar", ("shop", "hat/1", 2), SIMILAR, "GET /v1/similar/shop/hat%2F1?k=2", lambda got: got[0].item == "hat-4"),
        ("interact", ("visits", "ann", "hat-1", "click"), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("shown", ("visits", "ann", ["hat-1"]), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("set_item", ("visits", "hat-1", {"price": 4}), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("delete_item", ("visits", "hat-1"), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("set_user", ("visits", "ann", {"country": "PT"}), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("delete_user", ("visits", "ann"), taken, "POST /v1/events", lambda got: got.accepted == 1),
        ("send", ([{"stream": "flights", "x": {}}],), taken, "POST /v1/events", lambda got: got.accepted == 1),
    ],
)  # fmt: skip
def test_every_method_waiting_and_awaited(method: str, args: Any, answer: Any, request_line: str, check: Any) -> None:
    service = Service(answer)
    for got in both(service, method, *args):
        assert check(got)
    for request in service.requests:
        assert f"{request.method} {request.url.raw_path.decode()}" == request_line
    posted = service.requests[0].url.path == "/v1/events"  # each event has an id of its own
    assert posted or service.requests[0].content == service.requests[1].content


def test_a_history_is_asked_for_by_time_steps_and_series() -> None:
    service = Service(HISTORY)
    asked = {"since": 1767225600.5, "until": "2026-01-01T01:00:00+01:00", "points": 60, "series": ["metric:*", "lag"]}
    for got in both(service, "history", "delay", **asked):
        assert got.series["lag"].mean == [12.5, None, 0.0]
        assert (got.step_s, got.at[1], got.items[1].version) == (60, 1767225600, 2)
    query = "since=1767225600.5&until=2026-01-01T01%3A00%3A00%2B01%3A00&points=60&series=metric%3A%2A%2Clag"
    assert [request.url.raw_path.decode() for request in service.requests] == [f"/v1/models/delay/history?{query}"] * 2


def test_what_is_asked_of_control_is_in_the_body() -> None:
    service = Service(ASKED)
    with service.waiting() as client:
        client.resume("delay", "repair", "mended")
        client.rewind("delay", ["0/4"], ["1:2"], "a sensor")
        client.promote("delay", 2)
    assert [json.loads(request.content) for request in service.requests] == [
        {"reason": "mended", "mode": "repair"}, {"reason": "a sensor", "to": ["0/4"], "skip": ["1:2"]}, {"version": 2},
    ]  # fmt: skip


def test_both_clients_have_every_method_and_none_is_written_twice() -> None:
    own = {"close", "aclose"}
    public = {name for name in dir(Client) if not name.startswith("_")} - own
    assert public == {name for name in dir(AsyncClient) if not name.startswith("_")} - own
    assert public == {name for name in (*vars(Api), *vars(Looking), *vars(Recommending)) if not name.startswith("_")}
    for name in public:
        assert inspect.getdoc(getattr(Client, name)), name


def test_a_recommendation_is_asked_for_with_all_that_was_given_and_nothing_else() -> None:
    service = Service(SLATE)
    with service.waiting() as client:
        client.recommend("shop")
        client.recommend(
            "shop", "ann", k=np.int64(3), context={"hour": np.float64(9)}, items=("a", "b"), where={"category": ["hat"]},
            allow=["a"], deny=["c"], seen=False, explain=True, fields=True, id="i-1", ts=5.0, log=False,
        )  # fmt: skip
        client.recommend("shop", session="s-1")
        client.rank("shop", ("a", "b"), "ann", k=1, explain=True)
    assert service.bodies() == [
        {},
        {
            "user": "ann", "k": 3, "context": {"hour": 9.0}, "items": ["a", "b"], "where": {"category": ["hat"]},
            "allow": ["a"], "deny": ["c"], "seen": False, "explain": True, "fields": True, "id": "i-1", "ts": 5.0, "log": False,
        },
        {"session": "s-1"}, {"user": "ann", "k": 1, "items": ["a", "b"], "explain": True},
    ]  # fmt: skip


def test_what_recommendations_learn_from_is_posted_as_events() -> None:
    service = Service(taken)
    with service.waiting() as client:
        client.interact("visits", "ann", "hat-1", "click", impression="i-1", ts=5.0, context={"device": "phone"})
        client.shown("visits", None, ["hat-1", {"item": "hat-4", "propensity": 0.5}], id="i-2")
        client.set_item("visits", "hat-1", {"price": 4, "colour": None})
        client.delete_item("visits", "hat-1")
        client.set_user("visits", "ann", {"country": "PT"})
        client.delete_user("visits", "ann")
    [click, slate, item, gone, user, nobody] = [lines[0] for lines in service.lines()]
    assert click == {
        "stream": "visits", "id": "i-1", "user": "ann", "item": "hat-1", "action": "click", "ts": 5.0, "x": {"device": "phone"},
    }  # fmt: skip
    assert slate == {"stream": "visits", "id": "i-2", "items": ["hat-1", {"item": "hat-4", "propensity": 0.5}]}
    made = [one.pop("id") for one in (item, gone, user, nobody)]
    assert len({len(id) for id in made}) == 1
    assert len(set(made)) == 4
    assert item == {"stream": "visits", "item": "hat-1", "action": "$set", "x": {"price": 4, "colour": None}}
    assert gone == {"stream": "visits", "item": "hat-1", "action": "$delete"}
    assert user == {"stream": "visits", "user": "ann", "action": "$set", "x": {"country": "PT"}}
    assert nobody == {"stream": "visits", "user": "ann", "action": "$delete"}


def test_one_event_that_is_rejected_is_raised() -> None:
    wrong = {"index": 0, "field": "action", "reason": "shape", "detail": "is '$unset', which no record has"}
    empty = {"accepted": 0, "duplicate": 0, "warnings": [], "ids": {}, "positions": {}}
    service = Service(httpx.Response(422, json={"status": 422, "detail": "no", "rejected": [wrong], **empty}))
    with service.waiting() as client, pytest.raises(Refused, match=r"action: is '\$unset'"):
        client.interact("visits", "ann", "hat-1", "$unset")


def test_the_audit_is_searched() -> None:
    service = Service({"items": [], "next": None, "total": 0})
    with service.waiting() as client:
        got = client.audit(5, q="carrier codes", model="delay", kind="held", by="ops", since=5, until=7.5, order="desc")
    assert got.total == 0
    query = "limit=5&q=carrier%20codes&model=delay&kind=held&by=ops&since=5&until=7.5&order=desc"
    assert service.requests[0].url.raw_path.decode() == f"/v1/audit?{query}"


def test_names_cannot_leave_their_place_in_the_path() -> None:
    service = Service(MODEL)
    with service.waiting() as client:
        client.model("../admin?x=1")
    assert service.requests[0].url.raw_path == b"/v1/models/..%2Fadmin%3Fx%3D1"


def test_the_key_and_the_user_go_along() -> None:
    service = Service(ASKED)
    with service.waiting(api_key="secret", user="ada") as client:
        client.retrain("delay")
    headers = service.requests[0].headers
    assert (headers["authorization"], headers["x-streamlearn-user"]) == ("Bearer secret", "ada")
    with service.waiting() as client:
        client.retrain("delay")
    assert "authorization" not in service.requests[1].headers


def test_a_question_says_all_it_was_given_and_nothing_else() -> None:
    service = Service(ANSWER)
    with service.waiting() as client:
        client.predict("delay", {"a": np.float64(1.5), "b": np.int64(2), "c": None}, id="f1", key="k", ts=3.0, log=True)
        client.predict("delay", {"a": 1})
    assert service.bodies() == [
        {"x": {"a": 1.5, "b": 2, "c": None}, "id": "f1", "key": "k", "ts": 3.0, "log": True}, {"x": {"a": 1}},
    ]  # fmt: skip


# -- sending


def test_events_always_carry_an_id_and_keep_the_one_they_have() -> None:
    service = Service(taken)
    with service.waiting() as client:
        bare, named = {"stream": "flights", "x": {"a": 1}}, {"stream": "flights", "id": "e3", "x": {}}
        got = client.send([bare, Event("flights", "e2", y=True), named])
    [[first, second, third]] = service.lines()
    assert got.ids == {"0": first["id"]}
    assert len(first["id"]) == 32
    assert (second, third["id"]) == ({"stream": "flights", "id": "e2", "y": True}, "e3")
    assert service.requests[0].headers["content-type"] == "application/x-ndjson"


def test_a_retry_sends_the_very_same_ids() -> None:
    service = Service(problem(503), taken)
    with service.waiting() as client:
        client.send([{"stream": "flights", "x": {}}])
    assert service.requests[0].content == service.requests[1].content


def test_a_label_without_an_id_is_left_for_the_service_to_refuse() -> None:
    service = Service(taken)
    with service.waiting() as client:
        client.send([{"stream": "flights", "y": True}])
    assert "id" not in service.lines()[0][0]


def test_events_go_in_chunks_lazily_and_each_is_heard_of() -> None:
    heard: list[int] = []
    made = 0

    def events() -> Any:
        nonlocal made
        for n in range(25):
            made += 1
            yield {"stream": "flights", "id": str(n), "x": {}}

    def first(request: httpx.Request) -> dict[str, Any]:
        assert made <= 11
        return taken(request)

    service = Service(first, taken)
    with service.waiting() as client:
        got = client.send(events(), chunk=10, on_chunk=lambda answer: heard.append(answer.accepted))
    assert (got.accepted, heard) == (25, [10, 10, 5])
    assert [event["id"] for lines in service.lines() for event in lines] == [str(n) for n in range(25)]
    assert got.positions == {"flights": {"0": 5}}


def test_chunks_are_bounded_in_bytes_and_know_their_ids() -> None:
    big = "x" * (CHUNK_BYTES // 3)
    found = list(chunks(({"stream": "s", "x": {"a": big}} for _ in range(5)), 100))
    assert [(start, len(lines)) for start, lines, _ in found] == [(0, 2), (2, 2), (4, 1)]
    assert [sorted(made) for _, _, made in found] == [["0", "1"], ["2", "3"], ["4"]]
    for start, lines, made in found:
        assert [json.loads(line)["id"] for line in lines] == [made[str(start + n)] for n in range(len(lines))]


def test_sending_nothing_asks_nothing() -> None:
    service = Service(taken)
    with service.waiting() as client:
        assert client.send([]).accepted == 0
    assert service.requests == []


def test_rejections_are_counted_over_all_events_and_do_not_raise() -> None:
    def reject_first(request: httpx.Request) -> dict[str, Any]:
        answer = taken(request)
        answer["accepted"] -= 1
        answer["rejected"] = [{"index": 0, "field": "x", "reason": "empty", "detail": "d"}]
        answer["warnings"] = ["careful"]
        return answer

    service = Service(reject_first)
    with service.waiting() as client:
        got = client.send([{"stream": "flights", "id": str(n), "x": {}} for n in range(6)], chunk=2)
    assert [rejection.index for rejection in got.rejected] == [0, 2, 4]
    assert (got.accepted, got.warnings) == (3, ["careful"])


def test_when_a_whole_chunk_is_rejected_the_others_still_go() -> None:
    rejected = [{"index": 0, "field": "x", "reason": "empty", "detail": "d"}]
    refused = problem(422, accepted=0, duplicate=0, rejected=rejected, warnings=[], ids={}, positions={})
    service = Service(refused, taken)
    with service.waiting() as client:
        got = client.send([{"stream": "flights", "id": str(n), "x": {}} for n in range(2)], chunk=1)
    assert (got.accepted, [rejection.index for rejection in got.rejected]) == (1, [0])


def test_too_many_at_once_are_sent_in_halves_and_one_too_large_is_a_rejection() -> None:
    def picky(request: httpx.Request) -> Any:
        count = len(request.content.splitlines())
        return problem(413) if count > 1 or b"huge" in request.content else taken(request)

    service = Service(picky)
    with service.waiting() as client:
        events = [{"stream": "flights", "id": "huge" if n == 3 else str(n), "x": {}} for n in range(5)]
        got = client.send(events)
    assert got.accepted == 4
    assert [(rejection.index, rejection.reason) for rejection in got.rejected] == [(3, "too_large")]


def test_another_refusal_raises_with_the_problem() -> None:
    service = Service(problem(401, detail="no key"))
    with service.waiting() as client, pytest.raises(Refused, match="no key") as caught:
        client.send([{"stream": "flights", "x": {}}])
    assert (caught.value.status, caught.value.problem["title"]) == (401, "No")


def test_a_value_that_json_has_not_is_named() -> None:
    with Service(taken).waiting() as client, pytest.raises(TypeError, match="complex"):
        client.send([{"stream": "flights", "x": {"a": 1j}}])


# -- trying again


@pytest.mark.parametrize("status", [429, 503, 507])
def test_what_will_pass_is_tried_again_with_growing_pauses(status: int) -> None:
    service = Service(problem(status), problem(status), problem(status), ANSWER)
    with service.waiting() as client:
        assert client.predict("delay", {}).prediction is True
    assert service.pauses == [0.1, 0.2, 0.4]


def test_the_service_is_not_asked_sooner_than_it_says_nor_much_later() -> None:
    service = Service(problem(429, "2"), problem(503, "86400"), problem(503, "Wed, 21 Oct 2026 07:28:00 GMT"), ANSWER)
    with service.waiting() as client:
        client.predict("delay", {})
    assert service.pauses == [2.0, 10.0, 0.4]


def test_jitter_shortens_pauses_by_up_to_half() -> None:
    service = Service(problem(503), ANSWER)
    with service.waiting(jitter=lambda: 1.0) as client:
        client.predict("delay", {})
    assert service.pauses == [0.05]


def test_it_gives_up_in_the_end_with_the_last_problem() -> None:
    service = Service(problem(503, title="The log cannot be reached"))
    with service.waiting(retry=Retry(attempts=3)) as client, pytest.raises(Refused, match="log cannot be reached"):
        client.predict("delay", {})
    assert (len(service.requests), len(service.pauses)) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    service = Service(problem(status))
    with service.waiting() as client, pytest.raises(Refused) as caught:
        client.predict("delay", {})
    assert (caught.value.status, len(service.requests)) == (status, 1)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ReadTimeout("slow")])
def test_a_broken_connection_is_tried_again_for_what_may_be_repeated(error: Exception) -> None:
    service = Service(error, ANSWER)
    with service.waiting() as client:
        client.predict("delay", {})
    assert len(service.requests) == 2
    service = Service(error, error, taken)

    async def awaited() -> None:
        async with service.awaited() as client:
            assert (await client.send([{"stream": "flights", "x": {}}])).accepted == 1

    asyncio.run(awaited())


def test_a_request_to_control_that_may_have_arrived_is_not_repeated() -> None:
    service = Service(httpx.ReadTimeout("slow"), ASKED)
    with service.waiting() as client, pytest.raises(Unreachable, match="ReadTimeout"):
        client.retrain("delay")
    service = Service(httpx.ConnectError("refused"), problem(429), ASKED)
    with service.waiting() as client:
        assert client.retrain("delay").offset == 4


def test_a_service_that_is_not_there_is_unreachable() -> None:
    service = Service(httpx.ConnectError("refused"))
    with service.waiting(retry=Retry(attempts=2)) as client, pytest.raises(Unreachable, match="tried 2 times: ConnectError"):
        client.models()


def test_an_answer_that_is_no_problem_document_is_still_refused() -> None:
    for body in (b"<html>", b"[]", b"\xff"):
        with Service(httpx.Response(502, content=body)).waiting() as client, pytest.raises(Refused, match="502"):
            client.models()


def test_a_policy_of_no_attempts_is_refused() -> None:
    with Service(ANSWER).waiting(retry=Retry(attempts=0)) as client, pytest.raises(ValueError, match="attempts"):
        client.models()


# -- ready


def test_not_ready_is_an_answer_with_reasons() -> None:
    service = Service(problem(503, reasons=["model 'delay', shard 0: nothing published yet"]))
    for got in both(service, "ready"):
        assert (got.ready, got.degraded) == (False, ["model 'delay', shard 0: nothing published yet"])
    with Service(problem(503)).waiting() as client:
        assert client.ready().degraded == ["because"]


def test_ready_does_not_try_again_by_itself() -> None:
    with Service(httpx.ConnectError("refused")).waiting() as client, pytest.raises(Unreachable):
        client.ready()
    with Service(problem(404)).waiting() as client, pytest.raises(Refused):
        client.ready()


def test_waiting_until_ready_sits_out_a_start() -> None:
    ready = {"ready": True, "degraded": [], "models": {}}
    service = Service(httpx.ConnectError("refused"), problem(503, reasons=["a"]), ready)
    with service.waiting() as client:
        assert client.wait_until_ready().ready
    assert service.pauses == [0.1, 0.1]


def test_waiting_until_ready_ends_and_says_what_was_missing() -> None:
    service = Service(problem(503, reasons=["nothing published yet"]))
    with service.waiting() as client, pytest.raises(Unreachable, match="not ready after 2 s: nothing published yet"):
        client.wait_until_ready(timeout_s=2, pause_s=0.5)
    assert sum(service.pauses) == 2.0
