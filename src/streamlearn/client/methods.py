"""How a flow becomes a method of both clients, and how their requests are addressed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload
from urllib.parse import quote, urlencode

from .flows import Flow

P = ParamSpec("P")
T = TypeVar("T")


class Waits:
    """A client whose methods give the answer itself."""


class Awaited:
    """A client whose methods give a coroutine of the answer."""


class Method(Generic[P, T]):
    """A flow as a method: the answer itself on what waits, a coroutine of it on what is awaited."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow = flow
        functools.update_wrapper(self, flow)  # type: ignore[arg-type]  # not a function, but documented as one

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Waits, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Awaited, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return functools.partial(self._start, instance)

    def _start(self, instance: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return instance._run(self._flow(instance, *args, **kwargs))


def path_of(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def query_of(**given: float | str | None) -> str:
    """What is given, as the query of a path."""
    told = {name: value for name, value in given.items() if value is not None}
    return f"?{urlencode(told, quote_via=quote)}" if told else ""
