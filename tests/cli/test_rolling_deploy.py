"""A rolling deploy with real processes: a learner and an API of another river beside an old API, and the way back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamlearn.cli.dev_process import free_ports
from streamlearn.client import Client
from streamlearn.errors import StreamlearnError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CONFIG = """
data_dir = "data"
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
checkpoint = {interval_s = 1}
retrain = {catch_up_records = 5}
"""
# The same program with another river, as far as what it writes and reads can tell.
OTHER = """
from streamlearn.store import codec
codec.river_version = lambda: "99.1.0"
from streamlearn.cli.main import app
app()
"""


class Site:
    """Roles over one folder, each of the build that it is started with."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "s.toml"
        self.config.write_text(CONFIG)
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, other: bool = False, port: int = 0) -> subprocess.Popen[bytes]:
        program = ["-c", OTHER] if other else ["-m", "streamlearn"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        with (self.config.parent / "err").open("ab") as err:
            self.running.append(
                subprocess.Popen(
                    [sys.executable, *program, *arguments, str(self.config)], stderr=err, stdout=err,
                    env=kept | {"STREAMLEARN_SERVE__PORT": str(port)}, start_new_session=True,
                )
            )  # fmt: skip
        return self.running[-1]

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (self.config.parent / "err").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
            process.wait(20)


def wait_for(what: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not _tried(what):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def _tried(what: Callable[[], object]) -> object:
    try:
        return what()
    except StreamlearnError:  # not there yet, or not ready
        return False


def post(client: Client, first: int, count: int) -> None:
    client.send([{"stream": "s", "id": f"e{n}", "x": {"v": n % 7}, "y": n % 7 > 3} for n in range(first, first + count)])


def test_another_river_takes_over_while_the_old_api_answers_and_the_way_back_is_open(site: Site) -> None:
    old_port, new_port = free_ports(2)
    control = site.start("control")
    learner = site.start("learn")
    site.start("serve", "--api-only", port=old_port)
    with Client(f"http://127.0.0.1:{old_port}") as old, Client(f"http://127.0.0.1:{new_port}") as new:
        wait_for(lambda: old.ready().ready)
        post(old, 0, 2000)
        wait_for(lambda: old.model("m").n == 2000)
        wait_for(lambda: old.predict("m", {"v": 6}).position.offset >= 2000)

        new_api = site.start("serve", "--api-only", other=True, port=new_port)
        wait_for(lambda: any("from another build: its river is" in reason for reason in new.ready().degraded))
        assert not new.ready().ready, "it must not take requests before it can answer them"
        site.end(learner)
        time.sleep(1)
        held = old.predict("m", {"v": 6}).position
        learner = site.start("learn", other=True)
        wait_for(lambda: new.ready().ready)
        wait_for(lambda: new.model("m").n == 2000)  # the learner's status follows its publication
        answer = old.predict("m", {"v": 6})
        assert (answer.prediction, answer.position) == (True, held), "the old API goes on with what it holds"
        wait_for(lambda: any("its river is '99.1'" in reason for reason in old.model("m").degraded or ()))
        post(old, 2000, 500)
        wait_for(lambda: new.model("m").n == 2500)
        wait_for(lambda: any(entry.get("kind") == "rebuilt" for entry in new.audit(1000).items))
        wait_for(lambda: new.model("m").degraded is None)

        site.end(learner)  # the deploy is rolled back
        learner = site.start("learn")
        wait_for(lambda: old.model("m").n == 2500 and old.model("m").degraded is None)
        wait_for(lambda: old.predict("m", {"v": 6}).position.offset > 2500)
        assert '"text": "recovered"' in (site.config.parent / "err").read_text()
        for process in (learner, new_api, control):
            site.end(process)
