"""The demo's shop: what it posts, how its visitors behave, what it refuses, and the configuration that it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from streamlearn.cli import demo_service, demo_shop
from streamlearn.cli.demo_service import service
from streamlearn.cli.demo_shop import CONFIG, MOST
from streamlearn.cli.films import GOOD, Film, Rating, films, ratings
from streamlearn.cli.lifetime import Lifetime
from streamlearn.cli.main import app
from streamlearn.cli.shop_feed import CHUNK, PAUSE_S, SHOWN, Replay, Visitors, familiar, interactions, liked, records
from streamlearn.client import Client
from streamlearn.errors import Refused, Unreachable
from streamlearn.events import decode_event
from streamlearn.wire import EventsAnswer, Rejection

NOW = 1_800_000_000.0
LIKES = [Rating("u1", "a", 8, 100.0), Rating("u2", "b", 9, 160.0), Rating("u1", "c", 7, 400.0)]
KNOWN = [Film("a", "Gravity (2013)", "Drama|Thriller"), Film("b", "(500) Days (2009)", ""), Film("c", "Untitled", "Short")]


class Posted:
    """Takes events; rejects those of the items in `bad`."""

    def __init__(self, *bad: str) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.sizes: list[int] = []
        self.bad = bad

    def __call__(self, events: Iterable[Mapping[str, Any]]) -> EventsAnswer:
        chunk = list(events)
        self.sizes.append(len(chunk))
        rejected = [Rejection(n, "item", "shape", "bad") for n, event in enumerate(chunk) if event["item"] in self.bad]
        self.events += chunk
        return EventsAnswer(len(chunk) - len(rejected), 0, rejected, [], {}, {"shop": {"0": len(self.events)}})


def test_films_are_item_records_with_title_year_and_genres() -> None:
    found = list(records(KNOWN, NOW))
    assert [one["x"] for one in found] == [
        {"title": "Gravity", "year": 2013, "genres": "Drama|Thriller"}, {"title": "(500) Days", "year": 2009},
        {"title": "Untitled", "genres": "Short"},
    ]  # fmt: skip
    assert found[0] == {
        "stream": "shop", "id": "film-a", "item": "a", "action": "$set", "ts": NOW, "x": found[0]["x"]
    }  # fmt: skip


def test_likes_keep_their_distances_and_the_last_one_is_now() -> None:
    found = list(interactions(LIKES, NOW))
    assert [one["ts"] for one in found] == [NOW - 300.0, NOW - 240.0, NOW]
    assert [(one["user"], one["item"], one["action"]) for one in found] == [
        ("u1", "a", "like"), ("u2", "b", "like"), ("u1", "c", "like")
    ]  # fmt: skip
    assert list(interactions([], NOW)) == []


def test_what_is_shipped_makes_events_that_the_service_takes() -> None:
    import msgspec

    likes = liked(ratings())
    assert len(likes) > MOST, "somebody is left to visit"
    assert min(one.rating for one in likes) == GOOD
    events = [*records(films(), NOW), *interactions(likes[:500], NOW)]
    assert len({one["id"] for one in events}) == len(events)
    for one in events:
        decode_event(msgspec.json.encode(one))
    described = {one["item"] for one in events if one["action"] == "$set"}
    assert {one.item for one in likes} <= described
    assert all(one["x"]["year"] > 1800 for one in events if one["action"] == "$set")


def test_the_busiest_users_are_told_first() -> None:
    assert familiar(LIKES, 1) == ["u1"]
    assert familiar(LIKES, 5) == ["u1", "u2"]


def test_a_replay_posts_records_before_likes_in_chunks_and_counts() -> None:
    posted = Posted("b")
    many = [Film(f"f{n}", "T (2000)", "") for n in range(CHUNK + 1)]
    replay = Replay(posted, [*KNOWN, *many], LIKES, NOW)
    replay.run(threading.Event())
    assert posted.sizes == [CHUNK, 4, 3]
    assert [event["action"] for event in posted.events[-4:]] == ["$set", "like", "like", "like"]
    assert posted.events[0]["ts"] == NOW - 300.0 == posted.events[-3]["ts"], "the films are there when the first like comes"
    assert (replay.total, replay.posted, replay.refused, replay.end) == (CHUNK + 7, CHUNK + 5, 2, CHUNK + 7)


def test_a_replay_that_is_stopped_posts_no_more() -> None:
    posted, stop = Posted(), threading.Event()
    stop.set()
    Replay(posted, KNOWN, LIKES, NOW).run(stop)
    assert posted.events == []


class Frontend:
    """A client that recommends the same films to everybody."""

    def __init__(self, *shown: str, fails: dict[str, Exception] | None = None) -> None:
        self.shown, self.fails = shown, fails or {}
        self.asked: list[tuple[Any, ...]] = []
        self.acted: list[tuple[Any, ...]] = []

    def recommend(self, model: str, user: str, *, k: int) -> Any:
        self.asked.append((model, user, k))
        if user in self.fails:
            raise self.fails[user]
        return SimpleNamespace(id=f"i{len(self.asked)}", items=[SimpleNamespace(item=item) for item in self.shown])

    def interact(self, stream: str, user: str, item: str, action: str, *, impression: str | None = None) -> None:
        self.acted.append((stream, user, item, action, impression))


def test_a_visitor_clicks_what_was_shown_and_likes_what_was_not() -> None:
    client = Frontend("b", "x")
    waits: list[float] = []
    visitors = Visitors(cast(Client, client), LIKES)
    visitors.run(lambda seconds: waits.append(seconds) or False)  # type: ignore[func-returns-value]
    assert client.asked == [("shop", "u1", SHOWN), ("shop", "u2", SHOWN), ("shop", "u1", SHOWN)]
    assert client.acted == [
        ("shop", "u1", "a", "like", None), ("shop", "u2", "b", "click", "i2"), ("shop", "u1", "c", "like", None)
    ]  # fmt: skip
    assert (visitors.came, visitors.clicked, visitors.refused) == (3, 1, 0)
    assert waits == [PAUSE_S] * 3


def test_visitors_outlive_a_refusal_and_not_a_lost_service() -> None:
    client = Frontend("b", fails={"u1": Refused(503, {"title": "Nothing learned yet"})})
    visitors = Visitors(cast(Client, client), LIKES)
    visitors.run(lambda seconds: False)
    assert (visitors.came, visitors.refused) == (1, 2)
    away = Visitors(cast(Client, Frontend(fails={"u1": Unreachable("gone")})), LIKES)
    with pytest.raises(Unreachable):
        away.run(lambda seconds: False)
    stopped = Visitors(cast(Client, client), LIKES)
    stopped.run(lambda seconds: True)
    assert stopped.came == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recommend", "--json", "out.json"], "is of the flights"),
        (["--recommend", "--flights", "2000"], "is of the flights"),
        (["--likes", "2000"], "is of the shop: add --recommend"),
        (["--recommend", "--likes", "5"], "'--likes'"),
    ],
)
def test_an_option_of_the_other_demo_is_refused(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())


def test_its_configuration_opens_the_shop(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        def __init__(self, *given: Any, **more: Any) -> None: ...
        def start(self) -> None: ...
        def run(self, stop: threading.Event, kill: threading.Event) -> int:
            stop.wait(10)
            return 0

    monkeypatch.setattr(demo_service, "Supervisor", Idle)
    with service(tmp_path, 0, {}, Lifetime(), name=CONFIG) as running:
        settings = running.settings
        assert (tmp_path / CONFIG).exists()
    assert settings.serve.shop == "shop"
    model = settings.models["shop"]
    assert (model.task, model.stream) == ("recommend", "shop")
    assert {"view", "click", "like"} <= set(model.recommend.actions)
    assert model.recommend.item_fields == ("genres", "title")


def test_a_learner_that_stands_still_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_shop, "SILENT_S", 0.3)
    monkeypatch.setattr(demo_shop, "LOOK_S", 0.01)
    running: Any = SimpleNamespace(url="http://127.0.0.1:1", life=Lifetime(), ended=threading.Event())
    shop = demo_shop.Shop(running, 100)
    monkeypatch.setattr(shop, "_position", lambda: 2)
    with pytest.raises(demo_shop.StreamlearnError, match=r"stood still at record 2 for 0\.3 s"):
        shop._replay(Replay(Posted(), KNOWN, LIKES, NOW))
    monkeypatch.setattr(shop, "_position", lambda: 6)
    assert shop._replay(Replay(Posted(), KNOWN, LIKES, NOW))
    with pytest.raises(demo_shop.StreamlearnError, match="refused 2 of 6 events"):
        shop._replay(Replay(Posted("b"), KNOWN, LIKES, NOW))
