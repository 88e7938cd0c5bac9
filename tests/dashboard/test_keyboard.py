"""The dashboard without a mouse: what Tab reaches, where the focus goes, what Enter and Escape do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FOCUSED = "() => (document.activeElement?.innerText || document.activeElement?.ariaLabel || '').trim()"
RING = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== "none";
}"""


def focus_on(page: Any, testid: str, most: int = 60) -> None:
    """Press Tab until the element has the focus; every stop on the way must be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement === document.body"):
            continue
        assert page.evaluate(RING), page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)")
        if page.evaluate("() => document.activeElement.dataset.testid") == testid:
            return
    raise AssertionError(f"Tab does not reach {testid}")


def test_a_walk_by_keyboard_alone(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/", "fleet")
    page = seen.page
    page.keyboard.press("Tab")
    assert "Skip" in page.evaluate(FOCUSED)
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    for _ in range(6):
        page.keyboard.press("Tab")
        model = page.evaluate("() => document.activeElement.closest('tr')?.dataset.testid")
        if model is not None:
            break
    assert model is not None, page.evaluate(FOCUSED)
    page.keyboard.press("Enter")
    seen.settled("model")
    page.wait_for_function("() => document.activeElement.tagName === 'H1'")
    assert model.removeprefix("row-") in page.evaluate(FOCUSED)
    page.go_back()
    seen.settled("fleet")


def test_a_dialog_asks_once_and_is_left_by_escape(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/eta-vienna", "model")
    page = seen.page
    focus_on(page, "action-hold")
    page.keyboard.press("Enter")
    dialog = seen.get("action-dialog")
    dialog.wait_for()
    told = dialog.inner_text()
    assert "eta-vienna" in told
    assert "goes on answering" in told
    seen.shot("dialog-hold", whole=False)
    for _ in range(8):
        page.keyboard.press("Tab")
        inside = page.evaluate("() => document.activeElement === document.body || !!document.activeElement.closest('dialog')")
        assert inside, "the focus leaves an open dialog"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.evaluate("() => document.activeElement.dataset.testid") == "action-hold"


def test_an_action_that_makes_no_sense_now_says_why(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/eta-vienna", "model")
    button = seen.get("action-resume")
    assert button.get_attribute("aria-disabled") == "true"
    button.focus()
    seen.page.keyboard.press("Enter")
    assert seen.get("action-dialog").count() == 0
    assert "It is not held" in seen.get("actions").inner_text()


def test_a_heat_map_is_read_by_the_arrow_keys(look: Callable[..., Any], world: str) -> None:
    seen = look(world).go("#/model/flight-delays/features", "features")
    page = seen.page
    page.locator("[data-testid=chart-heat] [tabindex='0']").first.focus()
    before = seen.get("feature-heat").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "was => document.querySelector('[data-testid=feature-heat]').innerText !== was", arg=before
    )
