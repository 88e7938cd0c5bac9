"""`streamlearn recommend`: what it asks of the service, and how it shows what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import recommend
from streamlearn.cli.main import app
from streamlearn.client import Client
from streamlearn.errors import ConfigError
from streamlearn.serving.examples_recommend import ANSWER, EXPLAINED


class Service:
    """Answers the same to every question, and remembers it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.asked = answer, list[tuple[str, Any]]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=self.answer)

    @contextmanager
    def connected(self, *_: object) -> Iterator[Client]:
        yield Client("http://localhost", transport=httpx.MockTransport(self))


def run(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], *words: str, code: int = 0) -> tuple[Service, Result]:
    service = Service(answer)
    monkeypatch.setattr(recommend, "connected", service.connected)
    result = CliRunner().invoke(app, ["recommend", *words])
    assert result.exit_code == code, result.output
    return service, result


def test_a_slate_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    service, result = run(monkeypatch, ANSWER, "shop", "--user", "ann")
    assert service.asked == [("/v1/recommend/shop", {"user": "ann", "log": False})], "looking teaches nothing"
    first, header, *rows = result.stdout.splitlines()
    assert first == "shop, version 1, learned to clicks 0/41230, 0.3 s ago; impression 8c1f, queued"
    assert header.split() == ["#", "item", "score", "source", "propensity"]
    assert [row.split() for row in rows] == [
        ["1", "shoe-9", "0.3100", "covisit", "0.9550"], ["2", "hat-4", "0.2200", "popular", "0.9550"],
    ]  # fmt: skip


def test_reasons_fields_and_what_is_amiss_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [one | {"fields": {"title": "A hat", "price": 4}} for one in EXPLAINED["items"]]
    answer = EXPLAINED | {"items": items, "degraded": ["the learner is late"], "unknown": ["x-1"], "fallback": "popular"}
    _, result = run(monkeypatch, answer, "shop", "--explain", "--fields")
    assert "short of candidates: popular items helped out" in result.stdout
    assert "covisit +1.40, popular +0.30" in result.stdout
    assert "seen_category -0.20" in result.stdout
    assert "title=A hat, price=4" in result.stdout
    assert result.stderr.splitlines() == ["degraded: the learner is late", "unknown to the model: x-1"]


def test_all_options_reach_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "shop --user ann -k 3 --context hour=9 --context device=phone --where category=shoes --where category=hats "
        '--where size="42" --item a --item b --deny c --seen --explain --fields --log --json'
    )
    service, result = run(monkeypatch, ANSWER, *words.split())
    [(_, asked)] = service.asked
    assert asked == {
        "user": "ann", "k": 3, "context": {"hour": 9, "device": "phone"}, "items": ["a", "b"], "deny": ["c"], "seen": False,
        "where": {"category": ["shoes", "hats"], "size": ["42"]}, "explain": True, "fields": True,
    }  # fmt: skip
    assert json.loads(result.stdout)["items"][0]["item"] == "shoe-9"


def test_nothing_to_show_is_said_and_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    _, result = run(monkeypatch, ANSWER | {"items": [], "logged": "off"}, "shop", code=1)
    assert result.stdout.endswith("impression 8c1f, not logged\n")
    assert "nothing to show" in result.stderr


@pytest.mark.parametrize("text", ["category", "=shoes", ""])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no NAME=VALUE\. Write --where category=shoes"):
        recommend.pairs("--where", [text])
