"""Make the screenshots that README shows: `python tests/dashboard/screenshots.py`, with Debian's chromium installed.

They show the fifty models of the browser's tests, made afresh, whose drifts were found and are handled by the real service; and
the shop of `streamlearn demo --recommend` after a few clicks.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE.parents[1] / "docs" / "screenshots"
MOST_BYTES: Final = 200_000
WIDTH: Final = 1160
# By name: the page, what has to be there, the theme, and the height that is shown.
SHOTS: Final = {
    "fleet": ("#/", "[data-testid=row-flight-delays]", "light", 700),
    "model": ("#/model/flight-delays?range=1h", "[data-testid=chart-loss] canvas", "dark", 900),
}
LIKES: Final = 3000
CLICKED: Final = ("The Dark Knight", "Inception", "The Matrix")
sys.path.insert(0, str(HERE / "support"))

from dashboard_world import build, opened, served, settings_of  # noqa: E402  # it is there from the line above on
from shop_demo import demo_shop  # noqa: E402


def main() -> int:
    """Write the files; the exit code is 1 when one is larger than a README should load."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("needs a browser: install Debian's chromium", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamlearn-screenshots-") as name:
        folder = Path(name)
        build(folder)
        with opened(folder, settings_of(folder)) as app, served(app) as url, sync_playwright() as playwright:
            args = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=chromium, args=args, ignore_default_args=["--hide-scrollbars"])
            for shot, (where, wanted, theme, height) in SHOTS.items():
                page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
                page.goto(f"{url}/{where}")
                page.wait_for_selector(wanted)
                page.wait_for_function("() => !document.querySelector('[data-testid=loading], [aria-busy=true]')")
                page.wait_for_function("() => document.querySelector('[data-testid=live-state]').dataset.state === 'live'")
                page.screenshot(path=FOLDER / f"{shot}.png", animations="disabled")
                page.close()
            (folder / "demo").mkdir()
            with demo_shop(folder / "demo", LIKES) as url:
                shop(browser, url)
            browser.close()
    sizes = {shot: (FOLDER / f"{shot}.png").stat().st_size for shot in (*SHOTS, "shop")}
    for shot, size in sizes.items():
        print(f"{FOLDER / shot}.png: {size:,} bytes")
    return 1 if max(sizes.values()) > MOST_BYTES else 0


def shop(browser: Any, url: str) -> None:
    """The shop after a click on each of `CLICKED`, which are found by their titles."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 620}, color_scheme="light")
    page.goto(f"{url}/shop")
    page.wait_for_selector("[data-testid=card]")
    for title in CLICKED:
        page.get_by_label("Find something else").fill(title)
        page.locator("[data-testid=found] button", has_text=title).first.click()
        page.wait_for_function("title => document.body.innerText.includes(`${title}: learned in`)", arg=title)
    page.screenshot(path=FOLDER / "shop.png", animations="disabled")
    page.close()


if __name__ == "__main__":
    raise SystemExit(main())
