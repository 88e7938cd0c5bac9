"""What the README tells people to type works, as curl would send it, against the configuration that it shows."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from streamlearn.config import parse

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CONFIG = re.search(r"```toml\n(.*?)```", README, re.S)
LIVE = "/v1/live?topics=fleet,model:delays&for_s=1"
FORM = "application/x-www-form-urlencoded"  # what curl says of -d when it is told nothing else


def commands() -> list[list[str]]:
    """The words of each curl command, over all of its lines."""
    shown = "".join(re.findall(r"```console\n(.*?)```", README, re.S))
    return [shlex.split(text, comments=True)[1:] for text in re.split(r"(?m)^\$ ", shown) if text.startswith("curl ")]


def ask_of(words: list[str]) -> tuple[str, str, str | None, dict[str, str]]:
    """(method, path, body, headers) that curl makes of its arguments. Fails for an option that is not known here."""
    path, body, headers = "", None, dict[str, str]()
    rest = iter(words)
    for word in rest:
        if word == "-d":
            body = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name.lower()] = value
        elif word not in ("-s", "-N"):
            assert word.startswith("localhost:8321/"), word
            path = word.removeprefix("localhost:8321")
    if body is not None:
        headers = {"content-type": FORM} | headers
    return "GET" if body is None else "POST", path, body, headers


def test_the_curl_commands_work(world: Any) -> None:
    assert CONFIG is not None
    world.tree = tomllib.loads(CONFIG[1])
    world.publish_all()
    paths = []

    async def story(http: Any) -> None:
        for words in commands():
            method, path, body, headers = ask_of(words)
            path += "&for_s=1" if path.startswith("/v1/live") else ""  # else it would go on for minutes
            got = await http.request(method, path, content=body, headers=headers)
            assert got.status_code == (202 if path.endswith("/promote") else 200), (path, got.text)
            paths.append(path)
            if path == "/v1/events":
                answer = got.json()
                assert (answer["accepted"], answer["rejected"], answer["warnings"]) == (2, [], [])
            if path.startswith("/v1/predict"):
                assert got.json()["logged"] == "queued"
            if path == LIVE:
                assert "event: fleet" in got.text

    world.run(story)
    assert paths == ["/v1/events", "/v1/predict/delays", "/v1/models/delays", "/v1/cases", LIVE, "/v1/models/delays/promote"]


def test_what_curl_sends_by_itself_would_be_refused(world: Any) -> None:
    """So the README has to name the type: a form is what any web page can send without asking."""

    async def story(http: Any) -> None:
        got = await http.post("/v1/events", content="{}", headers={"content-type": FORM})
        assert got.status_code == 415

    world.run(story)


def test_the_configuration_loads() -> None:
    assert CONFIG is not None
    settings = parse(tomllib.loads(CONFIG[1]), {})
    assert settings.models["delays"].stream == "flights"


def test_an_option_that_this_test_does_not_know_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match="--json"):
        ask_of(["-s", "localhost:8321/v1/events", "--json", "{}"])
