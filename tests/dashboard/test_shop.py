"""The shop in a browser: a click and what follows from it, in words; its states; both themes, a phone, the keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from dashboard_world import opened, served
from shop_fake import FakeShop

from streamlearn.config import parse

SERIOUS: Final = ("serious", "critical")
DOWN: Final = (r"^failed: ", r"^50\d: ", r"console: Failed to load resource")
TREE: Final[dict[str, Any]] = {
    "streams": {"shop": {}},
    "models": {"films": {"stream": "shop", "task": "recommend", "pipeline": "mlp"}},
    "serve": {"shop": "films"},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the page; what it asks is answered by a fake."""
    folder = tmp_path_factory.mktemp("shop")
    with opened(folder, parse(TREE | {"data_dir": str(folder)}, {})) as app, served(app) as found:
        yield found


class Shop:
    """The page over the fake."""

    def __init__(self, seen: Any, fake: FakeShop) -> None:
        self.seen, self.page, self.fake = seen, seen.page, fake

    def open(self) -> Shop:
        self.page.goto(f"{self.seen.url}/shop")
        self.page.wait_for_selector("[data-testid=card]")
        return self

    def cards(self) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all("[data-testid=card]", "all => all.map((one) => one.dataset.item)")
        return found

    def listed(self, testid: str) -> list[str]:
        items = self.seen.get(testid).locator("[data-item]")
        found: list[str] = items.evaluate_all("all => all.map((one) => one.dataset.item)")
        return found

    def why(self, item: str) -> list[str]:
        found: list[str] = self.page.locator(f"[data-item={item}] [data-testid=why] li").all_text_contents()
        return found

    def told(self, words: str) -> str:
        """Wait until the page says so; the whole of it."""
        self.page.wait_for_function("words => document.querySelector('[data-testid=told]').textContent.match(words)", arg=words)
        return str(self.seen.get("told").inner_text())

    def click(self, item: str) -> str:
        self.page.locator(f"[data-item={item}] [data-testid=pick]").click()
        return self.told("learned in")

    def who(self) -> str:
        return str(self.page.locator("[data-testid=who] strong").inner_text())

    def violations(self) -> list[str]:
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['target']}: {node['html'][:200]}"
            for one in found if one["impact"] in SERIOUS for node in one["nodes"]
        ]  # fmt: skip


@pytest.fixture
def shop(look: Callable[..., Any], url: str) -> Callable[..., Shop]:
    def make(lag: int = 2, **options: Any) -> Shop:
        seen = look(url, **options)
        return Shop(seen, FakeShop(lag).install(seen.page))

    return make


def test_a_click_is_posted_with_its_impression_and_changes_what_is_shown(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    before = here.cards()
    assert before[0] == "f0"
    assert len(before) == 12
    first = here.fake.asked[0]
    assert (first["k"], first["explain"], first["fields"], first["log"]) == (12, True, True, True)
    told = here.click("f4")
    assert re.fullmatch(r"Moon: learned in \d+ ms", told)
    [event] = here.fake.events
    assert event == {"stream": "shop", "user": here.who(), "item": "f4", "action": "click", "id": first["id"]}
    assert here.who().startswith("visitor-")

    polls = here.fake.asked[1:]
    assert len({ask["id"] for ask in polls}) == 1, "the answer that is shown is the one that was found to know"
    assert polls[0]["id"] != first["id"]
    assert [ask["log"] for ask in polls] == [False] * (len(polls) - 1) + [True], "what nobody saw is not logged"
    after = here.cards()
    assert "f4" not in after
    assert after[0] == "f13", "Solaris shares all of its genres with Moon"
    assert here.page.locator("[data-item=f13] [data-testid=fresh]").is_visible(), "it was not among the twelve before"
    assert here.page.locator("[data-item=f0] [data-testid=fresh]").count() == 0


def test_a_card_says_why_in_words_that_are_true(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    assert here.why("f0") == ["▲raised by: popular", "▼lowered by: how new it is"]
    here.click("f4")
    assert here.why("f13") == [
        "▲raised by: often liked together with Moon", "▲raised by: shares genres: Drama, Mystery, Sci-Fi",
        "▲raised by: how liked it is these days",
    ]  # fmt: skip
    assert here.why("f7")[:2] == ["▲raised by: goes with what you clicked", "▲raised by: like what you clicked"], (
        "it was found to go with none and to share nothing, so nothing is named"
    )
    numbers = here.page.locator("[data-item=f13]")
    numbers.locator("summary").click()
    shown = numbers.get_by_test_id("numbers").inner_text()
    for words in ("Propensity", "0.9550", "covisit.log*user.count", "+0.750"):
        assert words in shown


def test_every_feature_of_the_ranking_has_words(shop: Callable[..., Shop]) -> None:
    from streamlearn.config_recommend import SOURCES, RecommendSettings
    from streamlearn.recommend.features import Features

    here = shop().open()
    features = Features(RecommendSettings())
    names = [name for name in features.names if name not in features.constant]
    lacking = here.page.evaluate(
        """async (names) => {
          const { hasWords, kindOf } = await import("/shop/words.js");
          return names.filter((name) => !hasWords(kindOf(name)));
        }""",
        names,
    )
    assert lacking == []
    of_sources = "async (names) => { const words = await import('/shop/words.js'); return names.map(words.sourceWords); }"
    assert not set(here.page.evaluate(of_sources, list(SOURCES))) & set(SOURCES)


def test_last_clicks_similar_films_and_what_was_not_shown(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    assert "None yet" in here.page.inner_text("main")
    here.click("f4")
    here.click("f13")
    assert here.listed("clicks") == ["f13", "f4"]
    assert here.seen.get("similar").locator("h2").inner_text() == "Similar to Solaris"
    assert here.listed("alike") == ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f9"], "as they are alike, not as ranked"
    here.page.get_by_label("Find something else").fill("amé")
    found = here.seen.get("found").locator("button")
    found.wait_for()
    assert found.inner_text().startswith("Amélie")
    found.click()
    assert "Amélie: learned" in here.told("Amélie: learned in")
    assert here.fake.events[-1]["item"] == "f14"
    assert here.fake.events[-1]["id"] not in {ask["id"] for ask in here.fake.asked}, "no slate has shown it"
    assert here.page.get_by_label("Find something else").input_value() == ""
    here.page.get_by_label("Find something else").fill("xyz")
    here.page.wait_for_selector("text=Nothing is called “xyz”")


def test_what_is_disliked_is_posted_and_not_shown_again(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    here.page.locator("[data-item=f1] [data-testid=dislike]").click()
    here.told("Rush: learned in")
    assert here.fake.events[0]["action"] == "dislike"
    assert "f1" not in here.cards()
    here.open()
    assert "f1" not in here.cards()
    assert here.fake.asked[-1]["deny"] == ["f1"]


def test_the_visitor_is_kept_made_anew_or_another_user(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    me = here.who()
    here.click("f4")
    assert here.open().who() == me
    assert here.seen.get("clicks").inner_text().startswith("Moon")
    here.page.get_by_label("A user's id").fill("4711")
    here.page.get_by_role("button", name="Look as this user").click()
    here.page.wait_for_selector("text=You look as user 4711")
    here.page.wait_for_function("() => document.querySelectorAll('[data-testid=card]').length")
    assert here.fake.asked[-1]["user"] == "4711"
    here.page.get_by_role("button", name="Be yourself again").click()
    here.page.wait_for_selector("[data-testid=card]")
    assert here.who() == me
    here.seen.get("anew").click()
    here.page.wait_for_selector("[data-testid=card]")
    assert here.who().startswith("visitor-")
    assert here.who() != me
    assert "None yet" in here.page.inner_text("main")


def test_nothing_learned_yet_is_told_and_looked_at_again(shop: Callable[..., Shop]) -> None:
    here = shop()
    here.seen.allow(*DOWN)
    here.fake.problem = "not-learned"
    here.page.goto(f"{here.seen.url}/shop")
    here.page.wait_for_selector("text=Nothing learned yet")
    here.seen.shot("shop-not-learned")
    here.fake.problem = ""
    here.page.wait_for_selector("[data-testid=card]")


def test_a_service_that_is_away_is_told_and_what_is_there_stays(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    here.seen.allow(*DOWN)
    here.fake.down = True
    here.page.locator("[data-item=f4] [data-testid=pick]").click()
    here.seen.get("failure").wait_for()
    assert "The service cannot be reached" in here.seen.get("failure").inner_text()
    assert len(here.cards()) == 12
    here.seen.shot("shop-away")
    assert here.violations() == []
    here.fake.down, here.fake.refuses = False, "log-unavailable"
    here.page.get_by_role("button", name="Try again").click()
    here.page.wait_for_selector("text=The log cannot be reached")
    assert here.seen.get("failure").count() == 1
    here.fake.refuses = ""
    here.page.get_by_role("button", name="Try again").click()
    here.told("Moon: learned in")
    assert here.seen.get("failure").count() == 0
    assert [event["item"] for event in here.fake.events] == ["f4"]


def test_a_learner_that_stands_still_is_told_after_two_seconds(shop: Callable[..., Shop]) -> None:
    here = shop(lag=10**6).open()
    here.page.locator("[data-item=f4] [data-testid=pick]").click()
    told = here.told("not learned within")
    assert 2000 <= int(re.search(r"(\d+) ms", told)[1]) < 8000  # type: ignore[index]


def test_an_empty_shop_says_so(shop: Callable[..., Shop]) -> None:
    here = shop()
    here.fake.items = {}
    here.page.goto(f"{here.seen.url}/shop")
    here.page.wait_for_selector("text=There is nothing to show")


def test_both_themes_and_a_phone(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    here.click("f4")
    page = here.page
    assert page.locator("h1").count() == 1
    assert "onerror" in page.inner_text("main"), "a title is text, whatever it holds"
    assert page.locator("main img, main b").count() == 0
    here.seen.shot("shop-light")
    assert here.violations() == []
    page.emulate_media(color_scheme="dark")
    here.seen.shot("shop-dark")
    assert here.violations() == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 375, "height": 740})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
    here.seen.shot("shop-phone")
    assert here.violations() == []


def test_the_keyboard_is_enough(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    page = here.page
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.testid === 'pick'"):
            break
    item = page.evaluate("() => document.activeElement.closest('[data-item]').dataset.item")
    assert item == "f0"
    page.keyboard.press("Enter")
    here.told("Gravity: learned in")
    assert page.evaluate("() => document.activeElement.id") == "for-you", "the card is gone, the shelf is where one was"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.dataset.testid") == "pick"


def test_a_page_that_was_clicked_twice_shows_the_last(shop: Callable[..., Shop]) -> None:
    here = shop().open()
    here.page.evaluate(
        "() => ['f4', 'f14'].forEach((item) => document.querySelector(`[data-item=${item}] [data-testid=pick]`)?.click())"
    )
    here.page.locator("[data-item=f5] [data-testid=pick]").click()
    here.told("Alien: learned in")
    assert {event["item"] for event in here.fake.events} == {"f4", "f5"}
    assert not {"f4", "f5"} & set(here.cards())


