"""The dashboard's files over HTTP: all there, nothing else, kept by the browser while they are the same; and their rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import streamlearn.serving
from streamlearn.serving.assets import MEDIA_TYPES, assets

FOLDER = Path(streamlearn.serving.__file__).parent / "dashboard"
OWN = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and "vendor" not in path.parts]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def test_every_file_of_the_folder_is_answered_with_its_type(world: Any) -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {name(path) for path in files} == set(assets("dashboard"))

    async def story(http: Any) -> None:
        for path in files:
            got = await http.get(f"/dashboard/{name(path)}")
            assert got.status_code == 200, path
            assert got.content == path.read_bytes(), path
            assert got.headers["content-type"] == MEDIA_TYPES[path.suffix], path
            assert got.headers["x-content-type-options"] == "nosniff"

    world.run(story)


def test_the_root_is_the_page_and_the_operations_are_at_api(world: Any) -> None:
    async def story(http: Any) -> None:
        got = await http.get("/")
        assert got.content == (FOLDER / "index.html").read_bytes()
        assert got.headers["content-type"] == "text/html; charset=utf-8"
        assert "curl" in (await http.get("/api")).text
        assert "see /api for all paths" in (await http.get("/nowhere")).json()["detail"]

    world.run(story)


def test_a_file_that_a_browser_has_is_not_sent_again(world: Any) -> None:
    async def story(http: Any) -> None:
        first = await http.get("/dashboard/app.js")
        assert first.headers["cache-control"] == "no-cache"
        for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
            again = await http.get("/dashboard/app.js", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
        other = await http.get("/dashboard/style.css", headers={"If-None-Match": first.headers["etag"]})
        assert other.status_code == 200

    world.run(story)


@pytest.mark.parametrize(
    "path",
    [
        "", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "lib/../../app.py", "lib/..%2f..%2fapp.py", "lib", "lib/", "no.js",
        "//etc/passwd", "%2fetc%2fpasswd", "app.js%00", "APP.JS", "index.html/", "%5c..%5capp.py",
    ],
)  # fmt: skip
def test_nothing_else_is_answered(world: Any, path: str) -> None:
    async def story(http: Any) -> None:
        got = await http.get(f"/dashboard/{path}")
        assert got.status_code == 404
        assert got.json()["type"] == "/problems/not-found"
        assert b"create_app" not in got.content

    world.run(story)


def test_no_script_reads_text_as_markup_or_as_code() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    banned = re.compile(rf"{markup}|\beval\(|new Function")
    for path in FOLDER.rglob("*.js"):
        assert banned.search(path.read_text()) is None, path


def test_the_page_has_no_script_or_style_of_its_own_and_asks_no_other_host() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\sstyle=|<style|\son\w+=", page) == []
    for path in OWN:
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text())) - {"http://www.w3.org/2000/svg"}
        assert hosts == set(), path


def test_what_the_page_and_its_modules_name_is_there() -> None:
    page = (FOLDER / "index.html").read_text()
    named = re.findall(r'(?:src|href)="(dashboard/[^"]+)"', page)
    assert len(named) >= 4
    for one in named:
        assert (FOLDER / one.removeprefix("dashboard/")).is_file(), one
    for script in SCRIPTS:
        for one in re.findall(r'from "(\.[^"]+)"', script.read_text()):
            assert (script.parent / one).resolve().is_file(), f"{name(script)}: {one}"


@pytest.mark.parametrize("path", OWN, ids=name)
def test_a_file_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_charting_library_is_there_with_its_licence() -> None:
    assert "MIT" in (FOLDER / "vendor" / "LICENSE.uPlot").read_text()
    assert "https://github.com/leeoniya/uPlot (v1.6.32)" in (FOLDER / "vendor" / "uPlot.esm.js").read_text()[:400]
