"""The client's methods for looking at what control saw and decided, beside those of `client.Api` itself."""

from __future__ import annotations

from typing import Any, TypeVar

from .. import wire
from .flows import Call, Flow
from .methods import Method, path_of, query_of

T = TypeVar("T")


class Looking:
    """A part of `client.Api`, which gives it `_ask`. Every method raises Refused and Unreachable."""

    def _ask(self, kind: type[T], call: Call) -> Flow[T]:
        raise NotImplementedError

    @Method
    def diff(self, name: str, version: int, other: int) -> Flow[wire.VersionDiff]:
        """What differs between two versions."""
        path = path_of("models", name, "versions", str(version), "diff")
        return (yield from self._ask(wire.VersionDiff, Call("GET", f"{path}?with={other}")))

    @Method
    def marks(
        self, name: str, since: float | str | None = None, until: float | str | None = None
    ) -> Flow[list[wire.Mark]]:
        """What happened to a model in a time, each Unix seconds or RFC 3339: alarms, cases, trials, promotions, holds."""
        call = Call("GET", path_of("models", name, "marks") + query_of(since=since, until=until))
        return (yield from self._ask(wire.Marks, call)).marks

    @Method
    def features(
        self, name: str, since: float | str | None = None, until: float | str | None = None
    ) -> Flow[dict[str, Any]]:
        """The newest look at a model's features with their histograms, and their drift over a time as `heat`."""
        call = Call("GET", path_of("models", name, "features") + query_of(since=since, until=until))
        return (yield from self._ask(dict[str, Any], call))

    @Method
    def labels(self, name: str) -> Flow[dict[str, Any]]:
        """A model's labels: what waits, how late they come, what became of them, and the newest dead letters."""
        return (yield from self._ask(dict[str, Any], Call("GET", path_of("models", name, "labels"))))

    @Method
    def audit(
        self,
        limit: int = 100,
        after: str | None = None,
        *,
        q: str | None = None,
        model: str | None = None,
        type: str | None = None,
        kind: str | None = None,
        by: str | None = None,
        since: float | str | None = None,
        until: float | str | None = None,
        order: str | None = None,
    ) -> Flow[wire.AuditPage]:
        """A page of decisions and requests; its `next` is the `after` of the page that follows, in the same `order`.

        `order`: "asc", which is the default, or "desc". The others are what to search for: `q` words that must all occur, of a
        `model`, a record's `type`, a `kind` of decision or request, whose `by` has this in it, from `since` to before `until`.
        """
        query = query_of(
            limit=limit, after=after, q=q, model=model, type=type, kind=kind, by=by, since=since, until=until, order=order
        )
        return (yield from self._ask(wire.AuditPage, Call("GET", "/v1/audit" + query)))
