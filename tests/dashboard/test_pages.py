"""Every page over fifty models and thirty days: both themes, a phone's width, what axe finds, and nothing that complains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

# By name: where it is, its page, and what must be on it.
PAGES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "fleet": ("#/", "fleet", ("row-flight-delays", "row-eta-aarhus", "state")),
    "model": ("#/model/flight-delays", "model", ("figures", "actions", "chart-metric", "chart-loss", "chart-traffic")),
    "features": ("#/model/flight-delays/features", "features", ("feature-heat", "feature-list", "chart-heat")),
    "versions": ("#/model/flight-delays/versions", "versions", ("version-list", "version-lineage", "version-served")),
    "labels": ("#/model/support-topic/labels", "labels", ("labels-waiting", "labels-outcomes", "labels-dead", "labels-newest")),
    "audit": ("#/audit", "audit", ("audit-entry", "audit-search", "audit-more")),
    "case-recovered": ("#/case/flight-delays-1", "case", ("case-test", "case-trial", "case-verdict")),
    "case-canary": ("#/case/flight-delays-2", "case", ("case-test", "case-trial", "actions")),
    "case-trial": ("#/case/checkout-fraud-1", "case", ("case-trial",)),
    "case-retraining": ("#/case/ad-clicks-eu-1", "case", ("story-retrain",)),
    "case-alarm": ("#/case/parcel-late-1", "case", ("story-alarm",)),
    "model-held": ("#/model/loan-default", "model", ("figures", "action-resume", "chart-metric")),
}
SERIOUS: Final = ("serious", "critical")


def violations(page: Any) -> list[str]:
    """What axe finds that shuts people out, one line an element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']}: {node['html'][:200]}"
        for one in found if one["impact"] in SERIOUS for node in one["nodes"]
    ]  # fmt: skip


def background(page: Any) -> float:
    """How bright the page is, from 0 to 255."""
    found: float = page.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3)"
        ".reduce((sum, part) => sum + Number(part), 0) / 3"
    )
    return found


def too_wide(page: Any) -> list[str]:
    """The elements that reach beyond the page's right edge and can be scrolled to, if the page can be scrolled sideways."""
    found: list[str] = page.evaluate(
        """() => {
          const { scrollWidth, clientWidth } = document.documentElement;
          if (scrollWidth <= Math.max(clientWidth, innerWidth)) return [];
          return [...document.querySelectorAll("body *")]
            .filter((one) => one.getBoundingClientRect().right > clientWidth + 1)
            .map((one) => `${one.tagName}.${one.className} ${one.getBoundingClientRect().right}`).slice(0, 10);
        }"""
    )
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_both_themes_and_on_a_phone(look: Callable[..., Any], world: str, name: str) -> None:
    where, kind, wanted = PAGES[name]
    seen = look(world).go(where, kind)
    page = seen.page
    for testid in wanted:
        assert seen.get(testid).first.is_visible(), testid
    assert page.locator("h1").count() == 1
    assert page.title().endswith("streamlearn")
    assert background(page) > 200
    seen.shot(f"{name}-light")
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert background(page) < 60
    seen.shot(f"{name}-dark")
    assert violations(page) == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 375, "height": 740})
    seen.settled(kind)
    seen.shot(f"{name}-phone")
    assert too_wide(page) == []


def test_the_fleet_shows_the_worst_first_and_every_state_in_words(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/", "fleet")
    rows = seen.page.locator("[data-testid^=row-]")
    assert rows.count() == 50
    states = {
        row.removeprefix("row-"): seen.get(row).get_by_test_id("state").inner_text()
        for row in rows.evaluate_all("all => all.map(one => one.dataset.testid)")
    }
    told = {name: states[name] for name in ("checkout-fraud", "flight-delays", "ad-clicks-eu", "parcel-late", "loan-default")}
    assert told == {
        "checkout-fraud": "Trial", "flight-delays": "Canary", "ad-clicks-eu": "Retraining", "parcel-late": "Case open",
        "loan-default": "Held",
    }  # fmt: skip
    order = list(states)
    healthy = [place for place, name in enumerate(order) if states[name] == "Healthy"]
    assert max(order.index(name) for name in told) < min(healthy)
    seen.get("row-checkout-fraud").get_by_role("link").first.click()
    seen.settled("model")
    assert seen.page.locator("h1").inner_text().startswith("checkout-fraud")


def test_a_model_at_every_range(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/flight-delays", "model")
    page = seen.page
    page.wait_for_selector("[data-testid=chart-metric] canvas")
    buttons = page.locator("[data-range]")
    names = buttons.evaluate_all("all => all.map(one => one.dataset.range)")
    assert (names[0], names[-1]) == ("5m", "30d")
    for name in names:
        with page.expect_response(lambda got: "/history" in got.url and got.ok) as answered:
            page.locator(f'[data-range="{name}"]').click()
        told = answered.value.json()
        seen.settled("model")
        assert page.locator(f'[data-range="{name}"]').get_attribute("aria-pressed") == "true"
        assert 2 <= len(told["at"]) <= 2000
        for what in ("metric", "loss", "traffic", "freshness"):
            assert page.locator(f"[data-testid=chart-{what}] canvas").count() == 1, (name, what)
        seen.shot(f"model-{name}")
    assert told["until"] - told["since"] == pytest.approx(30 * 86_400, rel=0.05)
    assert told["at"][0] < told["until"] - 28 * 86_400
    kinds = page.locator("[data-testid^=mark-]").evaluate_all("all => all.map(one => one.dataset.testid)")
    assert {"mark-case", "mark-promoted", "mark-trial"} <= set(kinds)


def test_hovering_reads_values_and_a_drag_zooms_every_chart(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/flight-delays?range=24h", "model")
    page = seen.page
    over = page.locator("[data-testid=chart-metric] .u-over")
    box = over.bounding_box()
    resting = seen.get("cursor-time").inner_text()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)
    page.wait_for_function("was => document.querySelector('[data-testid=cursor-time]').innerText !== was", arg=resting)
    before = [one["x"] for one in _cursors(page)]
    assert len(before) >= 3
    assert max(before) - min(before) < 2.0, "the cursor stands at one time in all charts"
    page.mouse.down()
    with page.expect_response(lambda got: "/history" in got.url and got.ok) as answered:
        page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=8)
        page.mouse.up()
    told = answered.value.json()
    assert told["until"] - told["since"] == pytest.approx(0.3 * 86_400, rel=0.1)
    seen.settled("model")
    assert page.locator('[data-range][aria-pressed="true"]').count() == 0
    seen.shot("model-zoomed")
    seen.get("zoom-back").click()
    seen.settled("model")
    assert page.locator('[data-range="24h"]').get_attribute("aria-pressed") == "true"


def _cursors(page: Any) -> list[dict[str, float]]:
    found: list[dict[str, float]] = page.evaluate(
        "() => [...document.querySelectorAll('.u-cursor-x')].filter(one => one.offsetParent)"
        ".map(one => ({ x: one.getBoundingClientRect().left }))"
    )
    return found


def test_theme_and_time_zone_are_chosen_and_kept(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/case/flight-delays-1", "case")
    page = seen.page
    utc = page.locator("time").first.inner_text()
    seen.get("zone").click()
    local = page.locator("time").first.inner_text()
    assert utc != local
    seen.get("theme").select_option("dark")
    assert background(page) < 60
    page.reload()
    seen.settled("case")
    assert background(page) < 60
    assert page.locator("time").first.inner_text() == local
    seen.get("theme").select_option("light")
    page.emulate_media(color_scheme="dark")
    assert background(page) > 200


def test_versions_are_compared_and_the_audit_is_searched(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/flight-delays/versions", "versions")
    page = seen.page
    page.locator("[data-testid^=compare-]").nth(0).check()
    page.locator("[data-testid^=compare-]").nth(1).check()
    seen.get("version-diff").wait_for()
    seen.shot("versions-compared")
    seen.go("#/audit", "audit")
    entries = seen.get("audit-entry")
    assert entries.count() == 50
    seen.get("audit-more").click()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=audit-entry]').length > 50")
    seen.get("audit-q").fill("warehouse")
    seen.get("audit-search").click()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=audit-entry]').length < 10")
    seen.settled("audit")
    words = " ".join(entries.all_inner_texts())
    assert "warehouse" in words
    assert "key night-shift" in words
    entries.first.locator("summary").click()
    assert "took_effect" in entries.first.locator("pre").inner_text()
    seen.shot("audit-search")
