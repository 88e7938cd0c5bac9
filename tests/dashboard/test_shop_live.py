"""The shop on the real service of `streamlearn demo --recommend`, in a browser: a click changes what is recommended next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from shop_demo import demo_shop

from streamlearn.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LEARNED_MS: Final = 1000  # what people are promised on a machine that has nothing else to do
CLICKS: Final = 12  # of which the quickest counts: a test's machine may be busy
SLOWLY_MS: Final = 60_000.0


@pytest.fixture(scope="module")
def shop_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the demo's service, once the shop is open."""
    with demo_shop(tmp_path_factory.mktemp("demo"), 800) as url:
        yield url


def test_a_click_changes_what_is_recommended_within_a_second_and_says_why(shop_url: str, look: Callable[..., Any]) -> None:
    seen = look(shop_url)
    page = seen.page
    page.set_default_timeout(SLOWLY_MS)
    page.goto(f"{shop_url}/shop")
    page.wait_for_selector("[data-testid=card]")
    who = page.locator("[data-testid=who] strong").inner_text()

    def cards() -> list[str]:
        found: list[str] = page.eval_on_selector_all("[data-testid=card]", "all => all.map((one) => one.dataset.item)")
        return found

    first = before = cards()
    assert len(before) == 12
    took: list[int] = []
    clicked: list[str] = []
    for _ in range(CLICKS):
        card = page.get_by_test_id("card").nth(1)
        item, title = card.get_attribute("data-item"), card.locator("strong").inner_text()
        card.get_by_test_id("pick").click()
        page.wait_for_function(
            "title => document.querySelector('[data-testid=told]').textContent.startsWith(`${title}: learned in `)"
            " || document.querySelector('[data-testid=told]').textContent.startsWith(`${title}: not learned`)",
            arg=title,
        )
        told = page.locator("[data-testid=told]").inner_text()
        clicked.append(item)
        if "not learned" not in told:
            took.append(int(re.search(r"(\d+) ms", told)[1]))  # type: ignore[index]
            after = cards()
            assert item not in after, "what was clicked is known, and not recommended again"
            assert after != before
            assert page.locator("[data-testid=why]").count() == 12, "each card says why"
            before = after
            if took[-1] <= LEARNED_MS:
                break
    assert took, "no click was learned in two seconds"
    print(f"click → learned → shown: {took} ms")
    assert min(took) <= LEARNED_MS
    assert set(cards()) != set(first), "other films than before"
    words = page.locator("[data-testid=why] li").all_text_contents()
    assert all(re.match(r"[▲▼](raised|lowered) by: \S", one) for one in words), words
    seen.shot("shop-live")
    with Client(shop_url) as client:
        shown = [one.item for one in client.recommend("shop", who, k=50, log=False).items]
        assert not set(clicked) & set(shown)
        nobody = [one.item for one in client.recommend("shop", "nobody-before", k=50, log=False).items]
        assert shown != nobody


def test_a_film_that_is_not_shown_is_found_and_similar_ones_with_it(shop_url: str, look: Callable[..., Any]) -> None:
    seen = look(shop_url)
    page = seen.page
    page.set_default_timeout(SLOWLY_MS)
    page.goto(f"{shop_url}/shop")
    page.wait_for_selector("[data-testid=card]")
    page.get_by_label("Find something else").fill("godfather")
    page.locator("[data-testid=found] button").first.wait_for()
    assert page.locator("[data-testid=found] button").first.inner_text().startswith("The Godfather\n1972")
    page.locator("[data-testid=found] button").first.click()
    page.wait_for_selector("[data-testid=similar]:not([hidden])")
    assert page.locator("[data-testid=similar] h2").inner_text() == "Similar to The Godfather"
    assert page.locator("[data-testid=alike] button").count() == 8
    seen.shot("shop-live-similar")
