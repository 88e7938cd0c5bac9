"""A real service on screen: live without a reload, a drift from its alarm to the promotion, actions by a click, a cut wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from dashboard_service import KEY, Events, Wire, service

from streamlearn.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SLOWLY_MS: Final = 90_000.0
ASKED: Final = (r"^401: ", "console: Failed to load resource.*401")  # before anyone has signed in
CUT: Final = (r"^failed: ", r"console: Failed to load resource: net::ERR_")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Events]]:
    """The service's URL, and the events that flow into it."""
    with service(tmp_path_factory.mktemp("service")) as url, Events(url) as events:
        with Client(url, api_key=KEY) as client:
            client.wait_until_ready(timeout_s=60)
        yield url, events


def signed_in(seen: Any, where: str, page: str) -> Any:
    seen.allow(*ASKED)
    seen.page.set_default_timeout(SLOWLY_MS)
    seen.page.goto(f"{seen.url}/{where}")
    seen.get("page-signin").wait_for()
    seen.page.get_by_label("API key").fill(KEY)
    seen.page.get_by_role("button", name="Sign in").click()
    return seen.settled(page)


def learned(seen: Any) -> int:
    return int(re.sub(r"\D", "", re.search(r"Labels learned\s+([\d,]+)", seen.get("figures").inner_text())[1]))  # type: ignore[index]


def test_figures_change_while_events_flow(running: Any, look: Callable[..., Any]) -> None:
    url, _ = running
    seen = signed_in(look(url), "#/model/bought", "model")
    seen.page.evaluate("() => { window.unchanged = true }")
    before = learned(seen)
    seen.page.wait_for_function(
        "was => Number(/Labels learned\\s+([\\d,]+)/.exec(document.querySelector('[data-testid=figures]').innerText)[1]"
        ".replaceAll(',', '')) > was + 100",
        arg=before,
    )
    assert seen.get("live-state").get_attribute("data-state") == "live"
    assert seen.page.evaluate("() => window.unchanged"), "nobody has loaded the page again"
    seen.shot("live-model")


def test_actions_by_a_click_and_who_they_are_of(running: Any, look: Callable[..., Any]) -> None:
    url, _ = running
    seen = signed_in(look(url), "#/model/bought", "model")
    page = seen.page

    def act(name: str, kind: str, reason: str) -> None:
        page.wait_for_selector(f"[data-testid=action-{name}]:not([aria-disabled])")
        seen.get(f"action-{name}").click()
        seen.get("action-dialog").locator("textarea").fill(reason)
        seen.get("action-confirm").click()
        seen.get("action-dialog").wait_for(state="detached")
        told = seen.get("action-outcome").first
        page.wait_for_function("() => document.querySelector('[data-testid=action-outcome]').dataset.state !== 'asked'")
        assert told.get_attribute("data-state") == "done", told.inner_text()
        assert kind in told.inner_text()

    act("hold", "held", "the shop moves")
    page.wait_for_selector("[data-testid=state][data-state=held]")
    act("resume", "resumed", "it has moved")
    act("silence", "silenced", "we know")
    assert "Silenced until" in seen.get("action-silence").inner_text()
    act("retrain", "case opened", "new assortment")
    act("cancel", "", "not today")
    page.wait_for_selector("[data-testid=action-retrain]:not([aria-disabled])")
    seen.shot("actions-done")
    seen.go("#/audit?model=bought&type=request", "audit")
    asked = seen.get("audit-entry").all_inner_texts()
    for reason in ("the shop moves", "it has moved", "we know", "new assortment", "not today"):
        [line] = [one for one in asked if reason in one]
        assert "ops" in line, line
    seen.shot("audit-of-actions")


def test_a_drift_from_its_alarm_to_the_promotion(running: Any, look: Callable[..., Any]) -> None:
    url, events = running
    seen = signed_in(look(url), "#/", "fleet")
    page = seen.page
    page.wait_for_selector('[data-testid=row-late] [data-testid=state][data-state="healthy"]')
    with Client(url, api_key=KEY) as client:
        while client.model("late").n < 1500:
            page.wait_for_timeout(500)
    page.evaluate(
        """() => {
          window.states = [];
          const look = () => {
            const now = document.querySelector("[data-testid=row-late] [data-testid=state]")?.dataset.state;
            if (now && now !== window.states.at(-1)) window.states.push(now);
          };
          new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributes: true });
          look();
        }"""
    )
    events.flipped = True
    page.wait_for_function("() => window.states.some((one) => ['case', 'retraining', 'trial', 'canary'].includes(one))")
    seen.shot("drift-fleet", whole=False)
    other = signed_in(look(url), "#/case/late-1", "case")
    other.get("story-alarm").wait_for()
    for part in ("story-test", "story-retrain", "story-trial"):
        other.page.wait_for_selector(f"[data-testid={part}]:not([hidden])")
        other.shot(f"drift-{part}")
    other.page.wait_for_selector("[data-testid=case-verdict]")
    other.shot("drift-verdict")
    page.wait_for_function("() => window.states.includes('watch') || window.states.at(-1) === 'healthy'")
    states = page.evaluate("() => window.states")
    assert states[0] == "healthy"
    assert {"trial", "canary"} & set(states), states
    assert "version 2" in other.text()
    third = signed_in(look(url), "#/model/late", "model")
    third.page.wait_for_selector("[data-testid=mark-promoted]", state="attached")
    third.page.wait_for_selector("[data-testid=action-rollback]:not([aria-disabled])")
    third.shot("drift-model")
    third.get("action-rollback").click()
    assert "Version 1 answers all traffic again" in third.get("action-dialog").inner_text()
    third.get("action-reason").fill("the old one was better")
    third.get("action-confirm").click()
    third.page.wait_for_function("() => document.querySelector('[data-testid=action-outcome]')?.dataset.state === 'done'")
    third.page.wait_for_selector("text=version 1")
    with Client(url, api_key=KEY) as client:
        while client.model("late").version != 1 or client.model("late").state != "steady":
            third.page.wait_for_timeout(300)
    third.page.reload()
    third.page.wait_for_selector("[data-testid=action-promote]:not([aria-disabled])")
    third.get("action-promote").click()
    third.page.wait_for_selector("[data-testid=action-dialog] select")
    third.get("action-reason").fill("no, the new one")
    third.get("action-confirm").click()
    with Client(url, api_key=KEY) as client:
        while client.model("late").version == 1:
            third.page.wait_for_timeout(300)
        promoted = [one for one in client.audit(q="no, the new one", order="desc").items if one["type"] == "request"]
    assert [(one["action"], one["by"]) for one in promoted] == [("promote", "key ops")]
    third.page.wait_for_function("() => document.querySelector('[data-testid=action-outcome]')?.dataset.state === 'done'")
    third.shot("promoted-again")


def test_a_cut_wire_is_told_and_what_was_missed_is_made_up_for(running: Any, look: Callable[..., Any]) -> None:
    url, _ = running
    wire = Wire(url)
    seen = look(wire.url)
    seen.allow(*CUT)
    signed_in(seen, "#/audit?model=bought", "audit")
    page = seen.page
    page.wait_for_selector("[data-testid=live-state][data-state=live]")
    wire.cut()
    page.wait_for_selector("[data-testid=live-state][data-state=stale]")
    assert "Stale since" in seen.get("live-state").inner_text()
    seen.shot("stale", whole=False)
    with Client(url, api_key=KEY) as client:
        client.hold("bought", reason="while nobody could see it")
    page.wait_for_timeout(1500)
    assert "while nobody could see it" not in seen.text()
    wire.mend()
    page.wait_for_selector("[data-testid=live-state][data-state=live]")
    page.wait_for_selector("text=while nobody could see it")
    wire.cut()
