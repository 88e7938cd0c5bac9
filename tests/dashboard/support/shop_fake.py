"""What the shop's page asks, answered from a few films: a fake service whose every answer a test can foresee."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

FILMS: Final[dict[str, dict[str, Any]]] = {
    f"f{n}": {"title": title, "year": year, "genres": genres}
    for n, (title, year, genres) in enumerate(
        (
            ("Gravity", 2013, "Drama|Sci-Fi|Thriller"), ("Rush", 2013, "Action|Biography|Drama"),
            ("Prisoners", 2013, "Crime|Drama|Thriller"), ("Elysium", 2013, "Action|Drama|Sci-Fi"),
            ("Moon", 2009, "Drama|Mystery|Sci-Fi"), ("Alien", 1979, "Horror|Sci-Fi"), ("Heat", 1995, "Action|Crime|Drama"),
            ("The Dictator's Wedding, or How I Learned to Love a Very Long Title Indeed", 2012, "Comedy"),
            ("Pusher", 1996, "Crime|Thriller"), ("Her", 2013, "Drama|Romance|Sci-Fi"), ("Oldboy", 2003, "Drama|Mystery"),
            ("Zodiac", 2007, "Crime|Drama"), ("<img src=x onerror=alert(1)>", 2001, "<b>Bold</b>|Drama|Mystery"),
            ("Solaris", 1972, "Drama|Mystery|Sci-Fi"), ("Amélie", 2001, "Comedy|Romance"),
        )
    )
}  # fmt: skip
WHY: Final = {
    "popular": [("popular.share", 1.25), ("popular.log", 0.5), ("item.age", -0.25), ("user.count", 0.001)],
    "covisit": [("covisit.share", 0.5), ("covisit.log*user.count", 0.75), ("content.share", 0.75), ("item.heat_6h", 0.25)],
}
PROBLEMS: Final = {
    "not-learned": (503, "Nothing learned yet", "model 'films', shard 0: the model has not learned yet"),
    "log-unavailable": (503, "The log cannot be reached", "the log does not answer"),
}


class FakeShop:
    """Recommends popular films, and after a click those of the clicked film's genres, once asked `lag` times after it."""

    def __init__(self, lag: int = 2) -> None:
        self.lag = lag
        self.problem = ""  # of PROBLEMS, answered to whatever is asked
        self.refuses = ""  # the same for events alone
        self.down = False
        self.items = dict(FILMS)
        self.events: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self._behind = 0

    def install(self, page: Any) -> FakeShop:
        """Answer what the page asks of the API and of the shop."""
        page.route("**/v1/**", self._answer)
        page.route("**/shop/items*", self._answer)
        return self

    def _answer(self, route: Any) -> None:
        if self.down:
            route.abort("connectionrefused")
            return
        parts = urlsplit(route.request.url)
        body = json.loads(route.request.post_data) if route.request.method == "POST" else {}
        path = unquote(parts.path)
        problem = self.problem or (self.refuses if path == "/v1/events" else "")
        if path == "/v1/session":
            route.fulfill(json={"signed_in": True, "scopes": [], "csrf": None, "keys_required": False})
        elif problem:
            status, title, detail = PROBLEMS[problem]
            document = {"type": f"/problems/{problem}", "title": title, "status": status, "detail": detail}
            route.fulfill(status=status, json=document)
        elif path == "/v1/events":
            self.events.append(body)
            self._behind = self.lag
            end = {"shop": {"0": len(self.events)}}
            route.fulfill(json={"accepted": 1, "duplicate": 0, "rejected": [], "warnings": [], "ids": {}, "positions": end})
        elif path == "/v1/recommend/films":
            route.fulfill(json=self._recommend(body))
        elif path == "/v1/rank/films":
            known = [item for item in body["items"] if item in self.items]
            items = [self._item(item, place, "popular") for place, item in enumerate(reversed(known), start=1)]
            route.fulfill(json={"id": "r", "items": items, "unknown": [], "fallback": None})
        elif path.startswith("/v1/similar/films/"):
            genres = set(self.items[path.rpartition("/")[2]]["genres"].split("|"))
            alike = [item for item in self.items if genres & set(self.items[item]["genres"].split("|"))]
            route.fulfill(json={"items": [{"item": item, "score": 0.5} for item in alike if item != path.rpartition("/")[2]]})
        elif path == "/shop/items":
            [words] = parse_qs(parts.query)["q"]
            found = [item for item, film in self.items.items() if words.casefold() in film["title"].casefold()]
            route.fulfill(json={"items": [{"item": item, "fields": self.items[item]} for item in found]})
        else:
            raise AssertionError(f"the page asked {route.request.method} {route.request.url}")

    def _recommend(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        learned = self.events[: len(self.events) if self._behind <= 0 else -1]
        self._behind -= 1
        mine = [event for event in learned if event["user"] == question["user"]]
        clicked = [event["item"] for event in mine if event["action"] == "click"]
        genres = {genre for item in clicked for genre in self.items[item]["genres"].split("|")}
        offered = [item for item in self.items if item not in clicked and item not in question["deny"]]
        offered.sort(key=lambda item: -len(genres & set(self.items[item]["genres"].split("|"))))
        source = "covisit" if clicked else "popular"
        items = [self._item(item, place, source) for place, item in enumerate(offered[: question["k"]], start=1)]
        return {
            "id": question["id"], "model": "films", "version": 1, "age_s": 0.1, "degraded": None, "items": items, "unknown": [],
            "position": {"log": "l", "stream": "shop", "partition": 0, "offset": len(learned)}, "fallback": None,
            "logged": "queued" if question["log"] else "off",
        }  # fmt: skip

    def _item(self, item: str, place: int, source: str) -> dict[str, Any]:
        why = [{"feature": name, "contribution": value} for name, value in WHY[source]]
        return {
            "item": item, "position": place, "score": 0.5 / place, "source": source, "propensity": 0.955, "why": why,
            "fields": self.items[item],
        }  # fmt: skip
