"""Every error that is raised on purpose has a problem type; a problem's body and headers are what RFC 9457 and 9110 ask for."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from streamlearn import errors
from streamlearn.serving import problems
from streamlearn.serving.problems import CATALOGUE, ProblemError, of_error, of_event, respond


def example(kind: type[errors.StreamlearnError]) -> errors.StreamlearnError:
    """An instance with whatever its constructor asks for."""
    given = {"retry_after": 2.5, "field": "x.a", "reason": "shape", "problem": {}}
    names = list(inspect.signature(kind).parameters) if kind.__init__ is not Exception.__init__ else []
    return kind(*(given.get(name, 1 if name in {"first", "end", "offset"} else "text") for name in names if name != "args"))


def tree(kind: type[errors.StreamlearnError]) -> list[type[errors.StreamlearnError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in tree(child))]


EXPECTED = {
    "EventError": "rejected",
    "Overloaded": "overloaded",
    "LogError": "log-unavailable",
    "LogUnavailable": "log-unavailable",
    "LogFull": "full",
    "UnknownStream": "log-unavailable",
    "PositionExpired": "log-unavailable",
    "ForeignLog": "log-unavailable",
    "StoreError": "store-unavailable",
    "StoreUnavailable": "store-unavailable",
    "StoreFull": "full",
    "Fenced": "store-unavailable",
}


@pytest.mark.parametrize("kind", [kind for kind in tree(errors.StreamlearnError) if kind.__module__ == "streamlearn.errors"])
def test_every_error_of_the_tree_is_a_problem(kind: type[errors.StreamlearnError]) -> None:
    problem = of_error(example(kind))
    assert problem.kind == EXPECTED.get(kind.__name__, "internal")
    assert problem.status == CATALOGUE[problem.kind].status


def test_an_event_error_keeps_field_reason_and_index() -> None:
    problem = of_event(errors.EventError("out_of_range", "x.n", "does not fit"), 3)
    assert (problem.kind, problem.extra) == ("rejected", {"index": 3, "field": "x.n", "reason": "out_of_range"})
    assert of_event(errors.EventError("malformed", "$", "not JSON")).kind == "malformed"


@pytest.mark.parametrize(("after", "header"), [(0.25, "1"), (1.0, "1"), (1.2, "2"), (30.0, "30")])
def test_retry_after_is_whole_seconds_and_at_least_one(after: float, header: str) -> None:
    response = respond(of_error(errors.Overloaded("busy", after)), "/v1/events")
    assert response.headers["retry-after"] == header
    assert json.loads(response.body)["retry_after"] == after


def test_a_problem_document() -> None:
    response = respond(ProblemError("not-found", "no model", {"field": "model"}, {"X-A": "b"}), "/v1/models/x")
    assert json.loads(response.body) == {
        "type": "/problems/not-found", "title": "No such thing", "status": 404, "detail": "no model",
        "instance": "/v1/models/x", "field": "model",
    }  # fmt: skip
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-a"] == "b"
    assert "retry-after" not in response.headers


def test_every_status_that_may_pass_says_when_to_come_back() -> None:
    for kind, entry in CATALOGUE.items():
        if entry.status in (503, 507):
            assert "retry-after" in respond(ProblemError(kind, "d"), "/").headers, kind


def test_every_problem_of_the_catalogue_is_raised_somewhere_and_none_is_missing_from_it() -> None:
    source = "".join(path.read_text() for path in Path(problems.__file__).parent.glob("*.py"))
    used = set(re.findall(r'ProblemError\(\s*"([a-z-]+)"', source)) | {"malformed", "rejected", "not-found", "method"}
    assert used == set(CATALOGUE)
