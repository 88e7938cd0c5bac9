"""What applications and people name is shown as text, whatever it is, and nothing of it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dashboard_world import HOSTILE

PAGES = {
    "model": "#/model/guest-book?range=7d", "features": "#/model/guest-book/features", "labels": "#/model/guest-book/labels",
    "versions": "#/model/guest-book/versions", "case": "#/case/guest-book-3", "audit": "#/audit?model=guest-book",
}  # fmt: skip
SHOWN = {  # of HOSTILE, those that a page has to show word for word
    "features": (0, 1, 2, 3, 5), "labels": (0, 1, 2, 3, 5), "case": (0, 1), "audit": (0, 1, 2, 3, 5),
}  # fmt: skip
MARKUP = """() => ({
  scripts: [...document.scripts].map((one) => one.getAttribute("src")),
  images: [...document.images].map((one) => one.getAttribute("src")),
  headings: document.querySelectorAll("h1").length,
  handlers: [...document.querySelectorAll("*")].flatMap((one) => [...one.attributes]).filter((a) => /^on/.test(a.name)).length,
  links: [...document.querySelectorAll("[href]")].map((one) => one.getAttribute("href")).filter((to) => /^\\s*java/i.test(to)),
})"""


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_are_text(look: Callable[..., Any], world: str, name: str) -> None:
    seen = look(world).go(PAGES[name], name)
    page = seen.page
    for summary in page.locator("summary").all()[:12]:
        summary.click()
    seen.shot(f"hostile-{name}")
    text = page.locator("body").text_content()
    for place in SHOWN.get(name, ()):
        assert HOSTILE[place] in text, HOSTILE[place]
    found = page.evaluate(MARKUP)
    assert [src for src in found["scripts"] if not (src or "").startswith("dashboard/")] == []
    assert [src for src in found["images"] if not (src or "").startswith("dashboard/")] == []
    assert (found["headings"], found["handlers"], found["links"]) == (1, 0, [])
    assert "owned" not in page.title()
    if name == "features":
        seen.get("feature-list").get_by_text(HOSTILE[6][:200], exact=True).click()
    page.set_viewport_size({"width": 375, "height": 740})
    seen.settled(name)
    assert page.evaluate("() => document.documentElement.scrollWidth <= Math.max(innerWidth, 375)")


def test_a_hostile_address_is_text_too(look: Callable[..., Any], world: str) -> None:
    seen = look(world)
    seen.allow(r"^404: ", "console: Failed to load resource")
    for name in HOSTILE[:4]:
        seen.page.goto("about:blank")
        seen.page.evaluate("to => { location.href = to }", f"{world}/#/model/{name.replace('%', '%25')}")
        seen.page.wait_for_selector("[data-testid=failure]")
        assert seen.page.locator("img[onerror], script:not([src])").count() == 0
        assert "owned" not in seen.page.title()
