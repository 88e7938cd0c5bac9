"""The demo as a person runs it: the whole story held to its claims, a killed learner, an interruption, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from streamlearn.cli import demo as demo_module
from streamlearn.cli.demo_report import DRIFT
from streamlearn.cli.main import app
from streamlearn.client import Client

SLOWEST_S = 90


@pytest.fixture
def own_signals() -> Iterator[None]:
    """A command takes the signals over; the tests want them back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_the_help_says_that_the_drift_is_injected() -> None:
    told = " ".join(CliRunner().invoke(app, ["demo", "--help"]).output.split())
    assert "THE DRIFT IS INJECTED" in told
    assert "over 500 miles land late, the others on time, but for 10 %" in told
    for option in ("--keep", "--json", "--port", "--data-dir", "--flights"):
        assert option in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--flights", "5"], "'--flights'"),
        (["--port", "70000"], "'--port'"),
        (["--json", "{folder}/none/out.json"], "there is no folder"),
        (["--data-dir", "{folder}/used"], "holds the events of an earlier run. Name an empty folder"),
        (["--data-dir", "{folder}/file"], "cannot be made"),
    ],
)
@pytest.mark.usefixtures("own_signals")
def test_what_cannot_work_is_refused_at_once(options: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "used" / "data").mkdir(parents=True)
    (tmp_path / "used" / "data" / "log.sqlite").touch()
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["demo", *(option.format(folder=tmp_path) for option in options)])
    assert result.exit_code not in (0, 1)
    assert words in " ".join(result.output.replace("│", " ").split())


def test_a_temporary_folder_is_gone_at_the_end_unless_it_is_kept() -> None:
    with demo_module._folder(None, False) as gone:
        (gone / "file").touch()
    assert not gone.exists()
    with demo_module._folder(None, True) as kept:
        pass
    assert kept.exists()
    kept.rmdir()


class Demo:
    """`streamlearn demo` in a process of its own; what it says is kept in a file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.out = folder / "out.txt"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "demo", *options],
                stdout=out, stderr=out, env={**os.environ, "TMPDIR": str(self.temporary)},
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.out.read_text()

    def until(self, words: str, timeout_s: float = 120.0) -> str:
        """Wait until it has said that; what matched."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = re.search(words, self.text)
            if found:
                return found[0]
            assert self.process.poll() is None, self.text
            time.sleep(0.1)
        raise AssertionError(f"{words!r} was not said in {timeout_s:g} s:\n{self.text}")

    def roles(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def run(*options: str) -> Demo:
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield run
    for demo in started:
        if demo.process.poll() is None:
            family = [psutil.Process(demo.process.pid), *demo.roles()]
            for process in family:
                process.kill()
            demo.process.wait()


def numbers(value: Any) -> Iterator[float]:
    """Every number in a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    else:
        yield value


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_story(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    demo = start("--json", str(file))
    assert demo.process.wait(250) == 0, demo.text
    found = json.loads(file.read_text())

    assert set(found) == {"events", "seconds", "events_per_s", "scores", "freshness_ms", "drift", "versions"}
    assert set(found["events"]) == {"posted", "learned", "lost", "duplicated", "dead"}
    assert set(found["scores"]) == {"model", "no_change", "majority"}
    assert all(set(scores) == {"accuracy", "kappa", "roc_auc"} for scores in found["scores"].values())
    assert set(found["freshness_ms"]) == {"p50", "p99"}
    assert tuple(found["drift"]) == DRIFT
    assert all(set(step) == {"events", "second"} for step in found["drift"].values()), found["drift"]
    assert set(found["versions"]) == {"before", "after"}
    assert all(isinstance(number, int | float) for number in numbers(found))

    events = found["events"]
    assert (events["lost"], events["duplicated"], events["dead"]) == (0, 0, 0)
    assert events["posted"] == events["learned"] > 40_000
    assert found["seconds"] <= SLOWEST_S
    assert found["events_per_s"] > 400
    assert 0 < found["freshness_ms"]["p50"] <= found["freshness_ms"]["p99"]

    model, *baselines = (found["scores"][name] for name in ("model", "no_change", "majority"))
    for baseline in baselines:
        for score in ("accuracy", "kappa", "roc_auc"):
            assert model[score] > baseline[score]

    steps = list(found["drift"].values())
    for name in ("events", "second"):
        assert [step[name] for step in steps] == sorted(step[name] for step in steps)
    assert len({step["second"] for step in steps}) == len(steps)
    assert 0.4 < steps[0]["events"] / (events["posted"] / 2) < 0.6, "the drift comes half way"
    assert found["versions"] == {"before": 1, "after": 2}

    assert "INJECTED: flights over 500 miles land late" in demo.text
    for name in ("alarm", "confirmed", "retraining", "retrained", "trial", "canary", "trial won", "promoted", "recovered"):
        assert re.search(rf"case delay-\d+, {name}: ", demo.text), name
    assert "Where to look next" in demo.text
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_learner_loses_nothing_and_the_service_can_be_kept(start: Start, tmp_path: Path) -> None:
    file, folder = tmp_path / "summary.json", tmp_path / "data"
    demo = start("--keep", "--json", str(file), "--data-dir", str(folder), "--flights", "5000")
    demo.until("flights depart and land")
    time.sleep(1.5)
    [learner] = [one for one in demo.roles() if "learn" in one.cmdline()]
    learner.send_signal(signal.SIGKILL)
    url = demo.until(r"The service is up at http://127\.0\.0\.1:\d+").split()[-1]
    events = json.loads(file.read_text())["events"]
    assert (events["lost"], events["duplicated"], events["dead"]) == (0, 0, 0)
    assert events["posted"] == events["learned"] > 9900
    assert "Roles died and were started again 1 times" in demo.text

    for name in re.findall(r"curl -s (http\S+?)[ ?]", demo.text):
        assert name.startswith(url)
    with Client(url) as client:
        assert client.model("delay").n > 4900
        assert client.predict("delay", demo_module.EXAMPLE).version >= 1
    roles = demo.roles()
    assert demo.interrupt() == 0
    assert not [one for one in roles if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert f"streamlearn serve {folder / 'demo.toml'}" in demo.text
    assert (folder / "data" / "log.sqlite").exists()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_an_interruption_ends_everything(start: Start) -> None:
    demo = start()
    demo.until("flights depart and land")
    roles = demo.roles()
    assert len(roles) >= 3
    assert demo.interrupt() == 130
    assert "interrupted" in demo.text
    assert "Traceback" not in demo.text
    assert not [one for one in roles if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert list(demo.temporary.iterdir()) == []
