"""What a page says while it waits, when there is nothing to show, and when something failed: and what to do then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dashboard_world import opened, served

from streamlearn.config import Settings, parse
from streamlearn.serving.examples import VERSION
from streamlearn.store.sqlite import SqliteStore

# What a test takes away, the browser tells of.
REFUSED = (r"^50\d: ", r"console: Failed to load resource")


def one_model(folder: Path) -> Settings:
    """The model "delay" on the stream "flights"."""
    tree = {
        "data_dir": str(folder), "streams": {"flights": {}},
        "models": {"delay": {"stream": "flights", "task": "binary", "pipeline": "logistic"}},
    }  # fmt: skip
    return parse(tree, {})


@pytest.fixture
def young(tmp_path: Path) -> Any:
    """A service that has a model, and has never seen an event. It must outlive the pages: ask for it before `look`."""
    with opened(tmp_path, one_model(tmp_path)) as app, served(app) as url:
        yield url


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("#/", "fleet"), ("#/model/delay", "model"), ("#/model/delay/features", "features"),
        ("#/model/delay/versions", "versions"), ("#/model/delay/labels", "labels"), ("#/audit", "audit"),
    ],
)  # fmt: skip
def test_a_service_that_has_seen_nothing_says_what_to_do(young: str, look: Callable[..., Any], where: str, kind: str) -> None:
    seen = look(young).go(where, kind)
    seen.shot(f"empty-{kind}")
    if kind == "fleet":
        row = seen.get("row-delay")
        assert "Starting" in row.inner_text()
        assert "nothing is published yet" in row.inner_text()
    else:
        told = seen.get("empty").first.inner_text()
        assert len(told.split()) > 6, told


@pytest.fixture
def old_versions(tmp_path: Path) -> Any:
    """A service whose version 2 was dropped, while version 3 is kept."""
    store = SqliteStore(tmp_path / "store.sqlite")
    gone = {"id": "delay@2", "version": 2, "dropped": VERSION["created"] + 90_000.0, "fate": "lost", "promoted": None}
    kept = {"id": "delay@3", "version": 3, "parent": 1, "blobs": {"0": {"bytes": 12_300_000}}}
    docs = {("version", one["id"]): msgspec.json.encode(VERSION | one) for one in (gone, kept)}
    store.put_views({**docs, ("model", "delay"): msgspec.json.encode({"name": "delay", "version": 3})}, 9)
    store.put_version("delay", 3, 0, b"its blob")
    store.close()
    with opened(tmp_path, one_model(tmp_path)) as app, served(app) as url:
        yield url


def test_a_dropped_version_is_told_from_one_that_is_kept(old_versions: str, look: Callable[..., Any]) -> None:
    seen = look(old_versions).go("#/model/delay/versions?version=2", "versions")
    assert "2 versions, 1 kept (12.3 MB)" in seen.text()
    assert "dropped" in seen.get("row-2").inner_text()
    assert "dropped" not in seen.get("row-3").inner_text()
    told = seen.get("version-one").inner_text()
    assert "Its bytes were dropped, since newer versions are kept (retrain.keep_versions)" in told
    seen.shot("versions-dropped")


def test_no_model_at_all(look: Callable[..., Any], tmp_path: Path) -> None:
    with opened(tmp_path, parse({"data_dir": str(tmp_path), "streams": {"flights": {}}}, {})) as app, served(app) as url:
        seen = look(url).go("#/", "fleet")
        assert "configuration" in seen.get("empty").inner_text()
        seen.page.context.close()


def test_a_page_that_waits_says_so(look: Callable[..., Any], world: str) -> None:
    seen = look(world)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    seen.page.route("**/v1/fleet", hold)
    seen.page.goto(f"{world}/#/")
    seen.get("loading").wait_for()
    assert "Loading" in seen.get("loading").inner_text()
    seen.shot("loading-fleet")
    seen.page.wait_for_timeout(50)
    for route in held:
        route.continue_()
    seen.settled("fleet")
    assert seen.get("row-churn").is_visible()


def test_what_failed_is_said_and_can_be_tried_again(look: Callable[..., Any], world: str) -> None:
    seen = look(world)
    seen.allow(*REFUSED)
    problem = {"type": "/problems/store-unavailable", "title": "The store is away", "status": 503, "detail": "disk <b>full</b>"}
    answer = {"status": 503, "body": msgspec.json.encode(problem).decode(), "content_type": "application/problem+json"}
    for where, kind, path in (
        ("#/", "fleet", "**/v1/fleet"), ("#/audit", "audit", "**/v1/audit*"), ("#/model/churn", "model", "**/history*"),
        ("#/case/churn-1", "case", "**/v1/cases/*"),
    ):  # fmt: skip
        seen.page.route(path, lambda route: route.fulfill(**answer))
        seen.page.goto(f"{world}/{where}")
        seen.get("failure").first.wait_for()
        told = seen.get("failure").first.inner_text()
        assert "The store is away" in told
        assert "disk <b>full</b>" in told
        assert "/readyz" in told
        seen.shot(f"failed-{kind}")
        seen.page.unroute(path)
        seen.get("failure").get_by_role("button", name="Try again").first.click()
        seen.settled(kind)
        assert seen.get("failure").count() == 0


@pytest.mark.parametrize("where", ["#/model/nobody", "#/model/nobody/labels", "#/case/nobody-7", "#/nowhere/at/all"])
def test_what_is_not_there_is_said(look: Callable[..., Any], world: str, where: str) -> None:
    seen = look(world)
    seen.allow(r"^404: ", "console: Failed to load resource")
    seen.page.goto(f"{world}/{where}")
    seen.get("failure").first.wait_for()
    told = seen.get("failure").first.inner_text()
    assert where.split("/")[2] in told
    assert "Fleet" in told
