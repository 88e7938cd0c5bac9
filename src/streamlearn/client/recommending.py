"""The client's methods for recommendations: to ask for them, and to post what they learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from .. import wire
from ..errors import Refused
from ..events import Event, Features, Scalar
from ..items import DELETE, SET
from .batches import plain
from .flows import Call, Flow
from .methods import Method, path_of, query_of

T = TypeVar("T")
Where = Mapping[str, Scalar | list[Scalar]]


class Recommending:
    """A part of `client.Api`, which gives it `_ask` and `_send`. Every method raises Refused and Unreachable.

    Methods that post one event raise Refused for one that is rejected, too.
    """

    def _ask(self, kind: type[T], call: Call) -> Flow[T]:
        raise NotImplementedError

    def _send(self, events: Iterable[Event | Mapping[str, Any]]) -> Flow[wire.EventsAnswer]:
        raise NotImplementedError

    @Method
    def recommend(
        self, model: str, user: str | None = None, *, session: str | None = None, k: int | None = None,
        context: Features | None = None, items: Sequence[str] | None = None, where: Where | None = None,
        allow: Sequence[str] | None = None, deny: Sequence[str] = (), seen: bool | None = None, explain: bool = False,
        fields: bool = False, id: str | None = None, ts: float | str | None = None, log: bool = True,
    ) -> Flow[wire.RecommendAnswer]:  # fmt: skip
        """What to show a user, a session, or nobody; see `wire.RecommendAsk`."""
        asked = wire.RecommendAsk(
            user=user, session=session, k=k, context=context or {}, items=None if items is None else list(items),
            where=dict(where or {}), allow=None if allow is None else list(allow), deny=list(deny), seen=seen, explain=explain,
            fields=fields, id=id, ts=ts, log=log,
        )  # fmt: skip
        body = msgspec.json.encode(asked, enc_hook=plain)
        return (yield from self._ask(wire.RecommendAnswer, Call("POST", path_of("recommend", model), body)))

    @Method
    def rank(
        self, model: str, items: Sequence[str], user: str | None = None, *, session: str | None = None, k: int | None = None,
        context: Features | None = None, explain: bool = False, id: str | None = None, ts: float | str | None = None,
        log: bool = True,
    ) -> Flow[wire.RecommendAnswer]:  # fmt: skip
        """One's own candidates in the order in which to show them: all of them, or the first `k`."""
        asked = wire.RecommendAsk(
            user=user, session=session, k=k, context=context or {}, items=list(items), explain=explain, id=id, ts=ts, log=log
        )
        body = msgspec.json.encode(asked, enc_hook=plain)
        return (yield from self._ask(wire.RecommendAnswer, Call("POST", path_of("rank", model), body)))

    @Method
    def similar(self, model: str, item: str, k: int | None = None) -> Flow[list[wire.SimilarItem]]:
        """The items most like one, the most alike first; none if that is not known."""
        call = Call("GET", path_of("similar", model, item) + query_of(k=k))
        return (yield from self._ask(wire.SimilarAnswer, call)).items

    @Method
    def interact(
        self, stream: str, user: str | None, item: str, action: str, *, impression: str | None = None,
        ts: float | str | None = None, context: Features | None = None,
    ) -> Flow[wire.EventsAnswer]:  # fmt: skip
        """Post that a user did something to an item; `impression` is the id of the answer that showed it, if known."""
        event = {"stream": stream, "id": impression, "user": user, "item": item, "action": action, "ts": ts, "x": context}
        return (yield from self._post_one(event))

    @Method
    def shown(
        self, stream: str, user: str | None, items: Sequence[str | Mapping[str, Any]], *, id: str | None = None,
        ts: float | str | None = None, context: Features | None = None,
    ) -> Flow[wire.EventsAnswer]:  # fmt: skip
        """Post a slate that the application made itself: items, or objects of `item`, `position` and `propensity`."""
        event = {"stream": stream, "id": id, "user": user, "items": list(items), "ts": ts, "x": context}
        return (yield from self._post_one(event))

    @Method
    def set_item(
        self, stream: str, item: str, fields: Features, *, ts: float | str | None = None
    ) -> Flow[wire.EventsAnswer]:
        """Post fields of an item: merged over the known ones, None removes one, `available` False takes it out of answers."""
        return (yield from self._post_one({"stream": stream, "item": item, "action": SET, "x": fields, "ts": ts}))

    @Method
    def delete_item(self, stream: str, item: str, *, ts: float | str | None = None) -> Flow[wire.EventsAnswer]:
        """Post that there is no such item any more."""
        return (yield from self._post_one({"stream": stream, "item": item, "action": DELETE, "ts": ts}))

    @Method
    def set_user(
        self, stream: str, user: str, fields: Features, *, ts: float | str | None = None
    ) -> Flow[wire.EventsAnswer]:
        """Post fields of a user, such as the country: they merge over the known ones, None removes one."""
        return (yield from self._post_one({"stream": stream, "user": user, "action": SET, "x": fields, "ts": ts}))

    @Method
    def delete_user(self, stream: str, user: str, *, ts: float | str | None = None) -> Flow[wire.EventsAnswer]:
        """Post that a user is to be forgotten."""
        return (yield from self._post_one({"stream": stream, "user": user, "action": DELETE, "ts": ts}))

    def _post_one(self, event: Mapping[str, Any]) -> Flow[wire.EventsAnswer]:
        answer = yield from self._send([event])
        for wrong in answer.rejected:
            detail = f"{wrong.field}: {wrong.detail}"
            raise Refused(422, {"title": "Rejected", "detail": detail, "field": wrong.field, "reason": wrong.reason})
        return answer
