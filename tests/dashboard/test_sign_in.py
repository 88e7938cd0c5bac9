"""Signing in with a key, what a key's scopes show, and that the browser holds nothing that a script could read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_world import opened, served, settings_of

from streamlearn.apikeys import given

OPERATOR, WATCHER, WRITER = "operator-secret-0123456789", "watcher-secret-0123456789", "writer-secret-0123456789"
ASKED = (r"^401: ", r"^403: ", "console: Failed to load resource")  # the browser tells of each refusal


@pytest.fixture
def keyed(world_folder: Path) -> Iterator[str]:
    """The world, for those who have a key. It must outlive the pages: ask for it before `look`."""
    keys = [
        given("ops", OPERATOR), given("watcher", WATCHER, frozenset({"read"})), given("feed", WRITER, frozenset({"write"})),
    ]  # fmt: skip
    with opened(world_folder, settings_of(world_folder), keys) as app, served(app) as url:
        yield url


def sign_in(seen: Any, key: str) -> None:
    seen.page.get_by_label("API key").fill(key)
    seen.page.get_by_role("button", name="Sign in").click()


def test_a_key_signs_in_and_out(keyed: str, look: Callable[..., Any]) -> None:
    seen = look(keyed)
    seen.allow(*ASKED)
    seen.page.goto(f"{keyed}/#/model/churn")
    seen.get("page-signin").wait_for()
    seen.shot("signin", whole=False)
    sign_in(seen, "not a key of this service")
    seen.page.wait_for_function("() => document.querySelector('[data-testid=signin-error]').innerText")
    assert "not known" in seen.get("signin-error").inner_text()
    sign_in(seen, OPERATOR)
    seen.settled("model")
    assert "ops" in seen.get("who").inner_text()
    assert seen.get("action-hold").is_visible()
    [cookie] = seen.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], OPERATOR in str(cookie)) == (True, "Strict", False)
    kept = seen.page.evaluate("() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    assert OPERATOR not in kept
    assert "streamlearn_session" not in kept
    seen.page.reload()
    seen.settled("model")
    seen.get("who").get_by_role("button", name="Sign out").click()
    seen.get("page-signin").wait_for()
    assert seen.page.context.cookies() == []


def test_a_key_that_may_only_read_sees_everything_and_no_action(keyed: str, look: Callable[..., Any]) -> None:
    seen = look(keyed)
    seen.allow(*ASKED)
    seen.page.goto(f"{keyed}/")
    seen.get("page-signin").wait_for()
    sign_in(seen, WATCHER)
    seen.settled("fleet")
    assert seen.page.locator("[data-testid^=row-]").count() == 50
    seen.go("#/model/flight-delays", "model")
    assert "operate" in seen.get("actions-missing").inner_text()
    assert seen.page.locator("[data-testid^=action-]").count() == 0
    refused = seen.page.evaluate(
        "async () => (await fetch('v1/models/churn/hold', { method: 'POST', body: '{}',"
        " headers: { 'Content-Type': 'application/json' } })).status"
    )
    assert refused == 403


def test_a_key_that_may_not_read_is_told_what_it_lacks(keyed: str, look: Callable[..., Any]) -> None:
    seen = look(keyed)
    seen.allow(*ASKED)
    seen.page.goto(f"{keyed}/")
    seen.get("page-signin").wait_for()
    sign_in(seen, WRITER)
    seen.get("failure").wait_for()
    assert "read" in seen.get("failure").inner_text()
