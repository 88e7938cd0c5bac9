"""Recommendations by the real service: the user's guide as it is written, and the way from a click to the next answer."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from streamlearn.cli.main import app
from streamlearn.client import Client

pytestmark = pytest.mark.slow
GUIDE = (Path(__file__).parents[2] / "docs" / "recommendations.md").read_text(encoding="utf-8")
CONFIG = "\n".join(re.findall(r"```toml\n(.*?)```", GUIDE, re.S))
BEFORE = """
data_dir = "data"
[serve]
port = 0
"""
AFTER = """
[models.shop.publish]
min_interval_s = 0.05
budget = 0.5
[models.shop.checkpoint]
interval_s = 1
"""
WAIT_S = 60.0


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.S)


def commands() -> list[list[str]]:
    """The words of each command of the guide, in order."""
    return [shlex.split(text) for text in re.split(r"(?m)^\$ ", "".join(blocks("console"))) if text.strip()]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """`streamlearn serve` on the guide's configuration; its address."""
    config = tmp_path / "shop.toml"
    config.write_text(BEFORE + CONFIG + AFTER)
    out = tmp_path / "out"
    with out.open("wb") as stdout, (tmp_path / "err").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "streamlearn", "serve", str(config)], stdout=stdout, stderr=stderr, cwd=tmp_path
        )
    try:
        until(lambda: "ready after" in out.read_text() or process.poll() is not None)
        found = re.search(r"API: (http://\S+),", out.read_text())
        assert found is not None, (tmp_path / "err").read_text()
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    errors = [line for line in (tmp_path / "err").read_text().splitlines() if '"level": "error"' in line]
    assert errors == []


def until(what: Callable[[], Any]) -> Any:
    """What `what` gives once it gives something. Fails when that takes too long."""
    end = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def posted(words: list[str]) -> tuple[str, str, str | None, dict[str, str]]:
    """(method, path, body, headers) of a curl command. Fails for an option that is not known here."""
    path, body, headers = "", None, dict[str, str]()
    rest = iter(words[1:])
    for word in rest:
        if word == "-d":
            body = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        else:
            assert word.startswith("localhost:8321/"), word
            path = word.removeprefix("localhost:8321")
    return "GET" if body is None else "POST", path, body, headers


def served(client: Client, ends: dict[str, dict[str, int]]) -> bool:
    """Whether what is served has learned all that was posted."""
    shards = client.model("shop").shards
    return all(one.position is not None and one.position.offset >= ends["visits"].get(str(one.shard), 0) for one in shards)


def test_every_command_of_the_guide_works(service: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("STREAMLEARN_URL", service)
    asked: list[str] = []
    with Client(service) as client, httpx.Client(base_url=service) as http:
        ends: dict[str, dict[str, int]] = {}
        for words in commands():
            if words[0] == "streamlearn":
                result = CliRunner().invoke(app, words[1:])
                assert result.exit_code == 0, result.output
                assert "score" in result.stdout.splitlines()[1]
                asked.append(words[1])
                continue
            assert words[0] == "curl"
            method, path, body, headers = posted(words)
            if path != "/v1/events":
                until(lambda: served(client, ends))
            got = http.request(method, path, content=body, headers=headers)
            assert got.status_code == 200, (path, got.text)
            answer = got.json()
            if path == "/v1/events":
                assert (answer["rejected"], [text for text in answer["warnings"] if "without an id" not in text]) == ([], [])
                ends.setdefault("visits", {}).update(answer["positions"]["visits"])
            else:
                assert answer["items"], path
                assert "old-1" not in {item["item"] for item in answer["items"]}, "it is not available"
            asked.append(path.partition("?")[0])
        for text in blocks("python"):
            exec(compile(text.replace("http://localhost:8321", service), "the guide", "exec"), {})
    assert {"recommend", "/v1/events", "/v1/recommend/shop", "/v1/rank/shop", "/v1/similar/shop/boot-1"} == set(asked)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["1", "2", "3"]


def test_the_next_answer_knows_of_the_last_click_and_the_click_joins_its_slate(service: str) -> None:
    items = {f"{kind}-{n}": {"category": kind} for kind in ("shoes", "hats", "socks") for n in range(4)}
    with Client(service) as client:
        ends = client.send(
            {"stream": "visits", "id": f"r-{item}", "item": item, "action": "$set", "x": x} for item, x in items.items()
        ).positions
        until(lambda: served(client, ends))
        before = client.recommend("shop", "ann", k=12)
        assert {one.item for one in before.items} <= set(items)
        assert before.logged == "queued"
        assert all(0 < one.propensity <= 1 for one in before.items)
        clicked = before.items[0].item
        client.interact("visits", "ann", clicked, "click", impression=before.id)
        began = time.monotonic()
        until(lambda: clicked not in {one.item for one in client.recommend("shop", "ann", k=12, log=False).items})
        print(f"the next answer was another one {time.monotonic() - began:.2f} s after the click")

        def joined() -> dict[str, int] | None:
            counts = client.model("shop").counters
            return counts if counts.get("joined", 0) + counts.get("early_clicks", 0) else None

        counts = until(joined)
        assert counts["impressions"] == 1
        assert counts["item_records"] == len(items)
        gone = before.items[1].item
        client.set_item("visits", gone, {"available": False})
        until(lambda: gone not in {one.item for one in client.recommend("shop", "bob", k=12, log=False).items})
        client.set_item("visits", gone, {"available": True})
        until(lambda: gone in {one.item for one in client.recommend("shop", "bob", k=12, log=False).items})
        near = client.recommend("shop", "ann", where={"category": "hats"}, explain=True, fields=True, log=False)
        assert {item.fields["category"] for item in near.items if item.fields} == {"hats"}
        assert all(item.why is not None for item in near.items)
        metrics = client.metrics()
        assert re.search(r'streamlearn_recommendations_total\{fallback="\w+",logged="queued",model="shop"\} 1\.0', metrics)
