"""The typed client of the HTTP API: `Client` waits, `AsyncClient` is awaited, and both run the very same steps.

Each method is written once, as a generator that yields the calls to make and the pauses to take; two small drivers carry
them out. Overload, a lost log and a full disk are tried again with growing pauses, never sooner than the service asks.
Events always carry an id, so that trying again never learns one twice.

>>> with Client("http://127.0.0.1:8321") as client:                                                # doctest: +SKIP
...     client.send([{"stream": "flights", "id": "f1", "x": {"carrier": "WN", "distance": 239}}])
...     print(client.predict("delay", {"carrier": "WN", "distance": 239}).prediction)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec

from .. import wire
from ..errors import Refused, Unreachable
from ..events import Event, Features
from .batches import CHUNK_EVENTS, add, chunks, plain
from .flows import RETRY, Call, Flow, Outcome, Reply, Retry, Run, Wait, describe, fetch
from .looking import Looking
from .methods import Awaited, Waits
from .methods import Method as _Method
from .methods import path_of as _path
from .recommending import Recommending

__all__ = ["DEFAULT_URL", "RETRY", "Api", "AsyncClient", "Client", "Retry"]
DEFAULT_URL: Final = wire.DEFAULT_URL
T = TypeVar("T")


class Api(Looking, Recommending):
    """The steps of every method. Raises Refused for a problem, Unreachable when there is no answer."""

    def __init__(self, retry: Retry, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._retry, self._clock, self._jitter = retry, clock, jitter

    @_Method
    def send(
        self,
        events: Iterable[Event | Mapping[str, Any]],
        chunk: int = CHUNK_EVENTS,
        on_chunk: Callable[[wire.EventsAnswer], None] | None = None,
    ) -> Flow[wire.EventsAnswer]:
        """Post events, `chunk` at a time, each with an id (made when it is missing); `on_chunk` hears of each answer.

        Returns the sum of the answers, indexes counted over all of `events`. Rejected events do not raise. When it does
        raise, the chunks before are in the log; to send all of it again is harmless if the events had ids of their own.
        """
        return (yield from self._send(events, chunk, on_chunk))

    def _send(
        self,
        events: Iterable[Event | Mapping[str, Any]],
        chunk: int = CHUNK_EVENTS,
        on_chunk: Callable[[wire.EventsAnswer], None] | None = None,
    ) -> Flow[wire.EventsAnswer]:
        total = wire.EventsAnswer(0, 0, [], [], {}, {})
        for start, lines, made in chunks(events, chunk):
            answer = yield from self._post(start, lines)
            answer.ids |= made
            add(total, answer)
            if on_chunk is not None:
                on_chunk(answer)
        return total

    @_Method
    def predict(
        self,
        model: str,
        x: Features,
        *,
        id: str | None = None,
        key: str | None = None,
        ts: float | str | None = None,
        log: bool = False,
    ) -> Flow[wire.PredictAnswer]:
        """Ask `model` about `x`. `log` hands the prediction to the log under `id`, for the label that comes later."""
        body = msgspec.json.encode(wire.Instance(x, id, key, ts, log), enc_hook=plain)
        return (yield from self._ask(wire.PredictAnswer, Call("POST", f"/v1/predict/{quote(model, safe='')}", body)))

    @_Method
    def predict_many(self, model: str, instances: Sequence[wire.Instance]) -> Flow[list[wire.PredictAnswer]]:
        """Ask `model` several questions at once; all are answered, in order, or none."""
        body = msgspec.json.encode(wire.Batch(list(instances)), enc_hook=plain)
        answer = yield from self._ask(wire.BatchAnswer, Call("POST", f"/v1/predict/{quote(model, safe='')}/batch", body))
        return answer.predictions

    @_Method
    def models(self) -> Flow[list[wire.ModelView]]:
        """Every model with its status."""
        return (yield from self._ask(wire.Models, Call("GET", "/v1/models"))).models

    @_Method
    def model(self, name: str) -> Flow[wire.ModelView]:
        """One model with its status."""
        return (yield from self._ask(wire.ModelView, Call("GET", _path("models", name))))

    @_Method
    def versions(self, name: str) -> Flow[list[dict[str, Any]]]:
        """A model's versions, oldest first: each as `wire.VersionView` says, but for what only `version` tells."""
        return (yield from self._ask(wire.Page, Call("GET", _path("models", name, "versions")))).items

    @_Method
    def version(self, name: str, version: int) -> Flow[dict[str, Any]]:
        """One version in full, see `wire.VersionView`."""
        return (yield from self._ask(dict[str, Any], Call("GET", _path("models", name, "versions", str(version)))))

    @_Method
    def fleet(self) -> Flow[wire.Fleet]:
        """Every model in a row, the worst first, with the last hour of its metric."""
        return (yield from self._ask(wire.Fleet, Call("GET", "/v1/fleet")))

    @_Method
    def history(
        self, name: str, at: float | str | None = None, *, since: float | str | None = None, until: float | str | None = None,
        points: int | None = None, series: Sequence[str] | None = None,
    ) -> Flow[wire.History]:  # fmt: skip
        """What served when, and how the model did in the last hour, or from `since` to `until`; see `wire.History`.

        With `at` only what served then, nothing before the first version. `series`: names, or beginnings that end in `*`. Times
        are Unix seconds or RFC 3339.
        """
        told = {"at": at, "since": since, "until": until, "points": points}
        asked = {key: str(value) for key, value in told.items() if value is not None}
        if series is not None:
            asked["series"] = ",".join(series)
        query = f"?{urlencode(asked)}" if asked else ""
        return (yield from self._ask(wire.History, Call("GET", _path("models", name, "history") + query)))

    @_Method
    def cases(self, model: str | None = None) -> Flow[list[dict[str, Any]]]:
        """Drift cases, oldest first; only those of `model` if given."""
        query = "" if model is None else f"?model={quote(model)}"
        return (yield from self._ask(wire.Page, Call("GET", "/v1/cases" + query))).items

    @_Method
    def case(self, id: str) -> Flow[dict[str, Any]]:
        """One case with everything that happened in it, and its `story` in order, see `serving.story`."""
        return (yield from self._ask(dict[str, Any], Call("GET", _path("cases", id))))

    @_Method
    def request(self, model: str, action: str, reason: str = "", version: int | None = None) -> Flow[wire.Asked]:
        """Ask control for an action: retrain, cancel, promote, rollback, hold, resume."""
        return (yield from self._request(model, action, wire.Ask(reason, version)))

    @_Method
    def retrain(self, model: str, reason: str = "") -> Flow[wire.Asked]:
        """Ask for a full retrain and a trial of its result."""
        return (yield from self._request(model, "retrain", wire.Ask(reason)))

    @_Method
    def rollback(self, model: str, reason: str = "") -> Flow[wire.Asked]:
        """Ask for the version before the last promotion."""
        return (yield from self._request(model, "rollback", wire.Ask(reason)))

    @_Method
    def hold(self, model: str, reason: str = "") -> Flow[wire.Asked]:
        """Ask for a hold: read, predict and score, but learn nothing."""
        return (yield from self._request(model, "hold", wire.Ask(reason)))

    @_Method
    def resume(self, model: str, mode: str = "skip", reason: str = "") -> Flow[wire.Asked]:
        """Ask for the end of a hold. What came meanwhile is skipped, learned now ("learn"), or forgotten, so that mended events
        with the same ids can be sent ("repair")."""
        return (yield from self._request(model, "resume", wire.Ask(reason, mode=mode)))

    @_Method
    def silence(self, model: str, for_s: float, reason: str = "") -> Flow[wire.Asked]:
        """Ask that nobody is notified of the model for so many seconds; 0 ends that. Decisions go on as ever."""
        return (yield from self._request(model, "silence", wire.Ask(reason, for_s=for_s)))

    @_Method
    def promote(self, model: str, version: int | None = None, reason: str = "") -> Flow[wire.Asked]:
        """Ask that the version on trial serves now; or, when nothing is under way, any kept `version`, brought up to date."""
        return (yield from self._request(model, "promote", wire.Ask(reason, version)))

    @_Method
    def rewind_plan(self, model: str, to: Sequence[str], skip: Sequence[str]) -> Flow[wire.RewindPlan]:
        """What a rewind would do: places are OFFSET, PARTITION/OFFSET or RFC 3339 times, ranges FROM:TO."""
        query = urlencode([("to", place) for place in to] + [("skip", both) for both in skip])
        return (yield from self._ask(wire.RewindPlan, Call("GET", f"{_path('models', model, 'rewind')}?{query}")))

    @_Method
    def rewind(self, model: str, to: Sequence[str], skip: Sequence[str], reason: str = "") -> Flow[wire.Asked]:
        """Ask for a new version that goes on from before `to` without the records in `skip`; see `rewind_plan`."""
        return (yield from self._request(model, "rewind", wire.Ask(reason, to=list(to), skip=list(skip))))

    @_Method
    def ready(self) -> Flow[wire.Ready]:
        """Whether every model can answer, and what is amiss. Raises Unreachable, and Refused for anything but (not) ready."""
        return (yield from self._ready())

    @_Method
    def wait_until_ready(self, timeout_s: float = 60.0, pause_s: float = 0.1) -> Flow[wire.Ready]:
        """Ask until every model can answer. Raises Unreachable when `timeout_s` have gone by, saying what was missing."""
        end = self._clock() + timeout_s
        while True:
            try:
                found = yield from self._ready()
                missing = "; ".join(found.degraded)
                if found.ready:
                    return found
            except Unreachable as error:
                missing = str(error)
            if self._clock() >= end:
                raise Unreachable(f"not ready after {timeout_s:g} s: {missing}")
            yield Wait(pause_s)

    @_Method
    def metrics(self) -> Flow[str]:
        """The metrics, as Prometheus reads them."""
        return _accept((yield from self._fetch(Call("GET", "/metrics")))).body.decode()

    def _request(self, model: str, action: str, words: wire.Ask) -> Flow[wire.Asked]:
        body = msgspec.json.encode(words)
        return (yield from self._ask(wire.Asked, Call("POST", _path("models", model, action), body, repeatable=False)))

    def _ready(self) -> Flow[wire.Ready]:
        try:
            reply = yield Call("GET", "/readyz")
        except httpx.TransportError as error:
            raise Unreachable(describe(error)) from error
        assert reply is not None
        if reply.status != 503:
            return msgspec.json.decode(_accept(reply).body, type=wire.Ready)
        problem = _problem(reply)
        return wire.Ready(False, list(problem.get("reasons", [str(problem.get("detail", "no reason given"))])), {})

    def _ask(self, kind: type[T], call: Call) -> Flow[T]:
        reply = _accept((yield from self._fetch(call)))
        return msgspec.json.decode(reply.body, type=kind)

    def _post(self, start: int, lines: Sequence[bytes]) -> Flow[wire.EventsAnswer]:
        """Post `lines`, in halves when the service says that they are too many at once."""
        reply = yield from self._fetch(Call("POST", "/v1/events", b"\n".join(lines), "application/x-ndjson"))
        if reply.status == 413 and len(lines) > 1:
            half = len(lines) // 2
            answer = yield from self._post(start, lines[:half])
            add(answer, (yield from self._post(start + half, lines[half:])))
            return answer
        problem = _problem(reply) if reply.status in (400, 413, 422) else {}
        if reply.status == 413:
            return wire.EventsAnswer(0, 0, [wire.Rejection(start, "$", "too_large", str(problem.get("detail")))], [], {}, {})
        body = reply.body if "rejected" in problem else _accept(reply).body
        answer = msgspec.json.decode(body, type=wire.EventsAnswer)
        for rejection in answer.rejected:
            rejection.index += start
        return answer

    def _fetch(self, call: Call) -> Flow[Reply]:
        return (yield from fetch(call, self._retry, self._jitter))


class Client(Api, Waits):
    """The client that waits. Close it, or use it in a `with` block. `transport` stands in for the network in tests."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        user: str | None = None,
        retry: Retry = RETRY,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(retry, clock, jitter)
        self._http = httpx.Client(base_url=url, headers=_headers(api_key, user), timeout=timeout_s, transport=transport)
        self._sleep = sleep

    def _run(self, flow: Flow[T]) -> T:
        run, outcome = Run(flow), Outcome()
        while (step := run.advance(outcome)) is not None:
            outcome = Outcome()
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                continue
            try:
                reply = self._http.request(step.method, step.path, content=step.content, headers=_type_of(step))
                outcome = Outcome(Reply(reply.status_code, reply.headers, reply.content))
            except httpx.TransportError as error:
                outcome = Outcome(error=error)
        return run.result

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Api, Awaited):
    """The client that is awaited. Close it, or use it in an `async with` block."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        user: str | None = None,
        retry: Retry = RETRY,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(retry, clock, jitter)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key, user), timeout=timeout_s, transport=transport)
        self._sleep = sleep

    async def _run(self, flow: Flow[T]) -> T:
        run, outcome = Run(flow), Outcome()
        while (step := run.advance(outcome)) is not None:
            outcome = Outcome()
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                continue
            try:
                reply = await self._http.request(step.method, step.path, content=step.content, headers=_type_of(step))
                outcome = Outcome(Reply(reply.status_code, reply.headers, reply.content))
            except httpx.TransportError as error:
                outcome = Outcome(error=error)
        return run.result

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _headers(api_key: str | None, user: str | None) -> dict[str, str]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return headers if user is None else headers | {"X-Streamlearn-User": user}


def _type_of(call: Call) -> dict[str, str]:
    return {} if call.content is None else {"Content-Type": call.content_type}


def _accept(reply: Reply) -> Reply:
    """The reply, unless it is a problem. Raises Refused."""
    if reply.status >= 400:
        raise Refused(reply.status, _problem(reply))
    return reply


def _problem(reply: Reply) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
