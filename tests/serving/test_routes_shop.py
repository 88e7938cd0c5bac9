"""The shop's page over HTTP: there when a model is named for it, its settings, its search, and its files' rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import streamlearn.serving
from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.recommender import Recommender
from streamlearn.serving.assets import MEDIA_TYPES, assets
from streamlearn.serving.routes_shop import FOUND, actions

FOLDER = Path(streamlearn.serving.__file__).parent / "shop"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())


class Shop:
    """A published model over the real estimator."""

    def __init__(self, films: dict[str, dict[str, Any]]) -> None:
        self.estimator = Recommender(RecommendSettings(factors=4), 1)
        for item, fields in films.items():
            self.estimator.set_item(item, fields, 1000.0)

    def answer(self, x: Any) -> Any:
        raise AssertionError("the model recommends")


@pytest.fixture
def open_shop(world: Any) -> Any:
    """The world with a shop over its model `shop`."""
    world.tree["streams"]["clicks"] = {"partitions": 1}
    world.tree["models"] = {"films": {"stream": "clicks", "task": "recommend", "pipeline": "mlp"}}
    world.tree["serve"] = {"shop": "films"}
    return world


def test_every_file_of_the_folder_is_answered_with_its_type(open_shop: Any) -> None:
    assert {path.name for path in FILES} == set(assets("shop"))

    async def story(http: Any) -> None:
        for path in FILES:
            got = await http.get(f"/shop/{path.name}")
            assert (got.status_code, got.content) == (200, path.read_bytes()), path
            assert got.headers["content-type"] == MEDIA_TYPES[path.suffix]
            assert (await http.get(f"/shop/{path.name}", headers={"If-None-Match": got.headers["etag"]})).status_code == 304
        page = await http.get("/shop")
        assert page.content == (FOLDER / "index.html").read_bytes()
        assert "script-src 'self';" in page.headers["content-security-policy"]
        for path in ("", "../app.py", "%2e%2e/app.py", "lib/", "APP.JS", "app.js%00"):
            got = await http.get(f"/shop/{path}")
            assert (got.status_code, got.json()["type"]) == (404, "/problems/not-found"), path

    open_shop.run(story)


@pytest.mark.parametrize("path", ["/shop", "/shop/app.js", "/shop/settings", "/shop/items?q=a"])
def test_without_a_model_for_it_there_is_no_shop(world: Any, path: str) -> None:
    async def story(http: Any) -> None:
        got = await http.get(path)
        assert got.status_code == 404
        assert got.json()["detail"] == "there is no shop here; serve.shop in the configuration names a model for it"

    world.run(story)


def test_the_page_is_told_its_model_and_its_actions(open_shop: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/shop/settings")
        assert got.json() == {"model": "films", "stream": "clicks", "click": "click", "dislike": "dislike"}
        assert got.headers["cache-control"] == "no-store"

    open_shop.run(story)


@pytest.mark.parametrize(
    ("weights", "click", "dislike"),
    [
        ({"view": 0.1, "click": 1.0, "buy": 5.0, "dislike": -1.0}, "click", "dislike"),
        ({"view": 0.1, "buy": 5.0}, "buy", None),
        ({"click": 0.0, "like": 1.0, "hide": -0.5, "report": -2.0}, "like", "report"),
    ],
)
def test_a_click_and_a_dislike_are_actions_of_the_model(weights: dict[str, float], click: str, dislike: str | None) -> None:
    assert actions(RecommendSettings(actions=weights)) == (click, dislike)


FILMS = {
    "1": {"title": "Gravity", "year": 2013, "genres": "Drama|Thriller"},
    "2": {"title": "Zero Gravity"},
    "3": {"title": "Gravity of Loss"},
    "4": {"title": "Rush", "available": False},
    "5": {"year": 1999},
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gravity", ["1", "3", "2"]), ("GRAVITY zero", ["2"]), ("rush", []), ("5", ["5"]), ("%20", None), ("", None),
        ("a" * 101, None),
    ],
)  # fmt: skip
def test_items_are_found_by_words_of_their_title(open_shop: Any, text: str, found: list[str] | None) -> None:
    async def story(http: Any) -> None:
        open_shop.publish("films", content=Shop(FILMS))
        open_shop.hub.holder.poll(0.0)
        got = await http.get(f"/shop/items?q={text}")
        if found is None:
            assert (got.status_code, got.json()["field"]) == (422, "q")
            return
        assert [one["item"] for one in got.json()["items"]] == found
        if found[:1] == ["1"]:
            assert got.json()["items"][0]["fields"] == FILMS["1"]

    open_shop.run(story)


def test_a_search_says_that_nothing_was_learned_and_notices_new_items(open_shop: Any) -> None:
    async def story(http: Any) -> None:
        assert (await http.get("/shop/items?q=film")).json()["type"] == "/problems/not-learned"
        for count in (1, 2 * FOUND):
            open_shop.publish("films", content=Shop({f"f{n}": {"title": f"Film {n}"} for n in range(count)}), offset=count)
            open_shop.clock.advance(10.0)
            open_shop.hub.holder.poll(0.0)
            got = await http.get("/shop/items?q=film")
            assert len(got.json()["items"]) == min(count, FOUND)

    open_shop.run(story)


def test_with_keys_the_page_is_open_and_the_items_are_not(open_shop: Any) -> None:
    open_shop.api_keys = {"ops": "0123456789abcdef"}

    async def story(http: Any) -> None:
        for path in ("/shop", "/shop/app.js", "/shop/settings"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/shop/items?q=a")).status_code == 401

    open_shop.run(story)


def test_no_script_reads_text_as_markup_or_as_code_and_no_other_host_is_asked() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    banned = re.compile(rf"{markup}|\beval\(|new Function|https?://")
    for path in FILES:
        assert banned.search(path.read_text()) is None, path
        assert len(path.read_text().splitlines()) <= 400, path
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|\sstyle=|<style|\son\w+=", page) == []


def test_what_the_page_and_its_modules_name_is_there() -> None:
    serving = FOLDER.parent
    page = (FOLDER / "index.html").read_text()
    named = re.findall(r'(?:src|href)="((?:dashboard|shop)/[^"]+)"', page)
    assert len(named) >= 4
    for one in named:
        assert (serving / one).is_file(), one
    for script in FOLDER.glob("*.js"):
        for one in re.findall(r'from "(\.[^"]+)"', script.read_text()):
            assert (script.parent / one).resolve().is_file(), f"{script.name}: {one}"
