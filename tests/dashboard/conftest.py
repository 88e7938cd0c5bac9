"""A real browser for the dashboard: Debian's chromium, headless, driven by Playwright. Puts `support/` on the path.

A page that complains fails its test: an error in the console, an exception, an answer of 400 or more, a request that failed, a
violation of the Content-Security-Policy, a request to another host than the service's. What a test provokes it names before.
Screenshots are taken where STREAMLEARN_SCREENSHOTS names a folder for them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import pytest

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))

from dashboard_world import build, opened, served, settings_of  # noqa: E402  # it is there from the line above on

ARGS: Final = (
    "--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--hide-scrollbars",
)  # fmt: skip
PATIENCE_MS: Final = 20_000.0  # the machine may be busy
ENDED: Final = "net::ERR_ABORTED"  # a page that is left ends its requests
GUARD: Final = """
addEventListener("securitypolicyviolation", (e) => console.error("CSP: " + e.violatedDirective + " " + e.blockedURI));
"""

REST: Final = """async () => {
  for (const each of document.getAnimations()) if (each.effect.getComputedTiming().endTime < Infinity) each.finish();
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium(lacking: Callable[[str], NoReturn]) -> Iterator[Any]:
    """One browser for all tests, which each have their own profile in it."""
    path = shutil.which("chromium")
    if path is None:
        lacking("needs a browser: install Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        asyncio._set_running_loop(None)
        yield browser
        asyncio._set_running_loop(browser._loop)
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser. Playwright leaves its event loop marked as the thread's running one, which no other test could bear."""
    asyncio._set_running_loop(chromium._loop)
    yield chromium
    asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """The folder for them, if they are wanted."""
    named = os.environ.get("STREAMLEARN_SCREENSHOTS")
    if not named:
        return None
    Path(named).mkdir(parents=True, exist_ok=True)
    return Path(named)


class Look:
    """A page, and what it complained of. `allow`: expressions of complaints that the test provokes."""

    def __init__(self, page: Any, url: str, folder: Path | None) -> None:
        self.page, self.url, self._folder = page, url, folder
        self.complaints: list[str] = []
        self.allowed: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(GUARD)
        page.on("console", lambda message: message.type == "error" and self.complain(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.complain(f"exception: {error}"))
        page.on("request", self._requested)
        page.on("requestfailed", self._failed)
        page.on("response", lambda got: got.status >= 400 and self.complain(f"{got.status}: {got.url}"))
        page.on("dialog", lambda dialog: (self.complain(f"dialog: {dialog.message}"), dialog.dismiss()))

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    def allow(self, *patterns: str) -> None:
        self.allowed += patterns

    def _requested(self, request: Any) -> None:
        parts = urlsplit(request.url)
        self.requests.append(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.url).netloc:
            self.complain(f"another host: {request.url}")

    def _failed(self, request: Any) -> None:
        if request.failure != ENDED:
            self.complain(f"failed: {request.url}: {request.failure}")

    def go(self, hash: str = "#/", page: str = "") -> Look:
        """Open the dashboard there, and wait for the page of that name to be complete."""
        self.page.goto(f"{self.url}/{hash}")
        return self.settled(page)

    def settled(self, page: str = "") -> Look:
        """Wait until the page is there and loads nothing any more."""
        name = f"page-{page}" if page else "page-"
        self.page.wait_for_selector(f'[data-testid^="{name}"]')
        self.page.wait_for_function("() => !document.querySelector('[data-testid=loading], [aria-busy=true]')")
        return self

    def get(self, testid: str) -> Any:
        return self.page.get_by_test_id(testid)

    def shot(self, name: str, *, whole: bool = True) -> None:
        """Let the page come to rest, and take its picture if it is wanted."""
        self.page.evaluate(REST)
        if self._folder is not None:
            self.page.screenshot(path=self._folder / f"{name}.png", full_page=whole, animations="disabled")

    def text(self) -> str:
        found: str = self.page.inner_text("body")
        return found

    def unexpected(self) -> list[str]:
        return [one for one in self.complaints if not any(re.search(pattern, one) for pattern in self.allowed)]


@pytest.fixture
def look(browser: Any, screenshots: Path | None) -> Iterator[Callable[..., Look]]:
    """Makes pages of a service's URL, each in a profile of its own. At the end none may have complained."""
    looks: list[Look] = []
    with ExitStack() as stack:

        def make(url: str, *, width: int = 1280, height: int = 900, theme: str = "light", **options: Any) -> Look:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, locale="en-GB", timezone_id="Europe/Vienna",
                **options,
            )  # fmt: skip
            stack.callback(context.close)
            looks.append(Look(context.new_page(), url, screenshots))
            return looks[-1]

        yield make
    complaints = [one for each in looks for one in each.unexpected()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The files of fifty models with thirty days behind them, made once for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "dashboard-world"
    build(folder)
    return folder


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The process of pytest-xdist that this is, "master" when there is but one."""
    found: str = getattr(request.config, "workerinput", {"workerid": "master"})["workerid"]
    return found


@pytest.fixture(scope="session")
def world(world_folder: Path) -> Iterator[str]:
    """Its URL, where it is served without keys."""
    with opened(world_folder, settings_of(world_folder)) as app, served(app) as url:
        yield url
