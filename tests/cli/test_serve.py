"""The whole service as processes: starts, says where to look, takes events, answers, survives, drains; and refuses to start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from streamlearn.cli.roles import EXIT_CONFIG
from streamlearn.cli.serve import free_port, listen, only_one, roles
from streamlearn.client import Client
from streamlearn.errors import ConfigError, Unreachable

CONFIG = """
data_dir = "data"
[serve]
port = 0
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
checkpoint = {interval_s = 1}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "s.toml"
    file.write_text(CONFIG)
    return file


def test_one_service_a_folder(tmp_path: Path) -> None:
    taken = rf"another streamlearn serve \(process {os.getpid()}\). Stop that one"
    with only_one(tmp_path), pytest.raises(ConfigError, match=taken):
        only_one(tmp_path).__enter__()
    with only_one(tmp_path):
        assert (tmp_path / "serve.lock").read_text() == f"{os.getpid()}\n"


def test_ports(tmp_path: Path) -> None:
    port = free_port("127.0.0.1", 0)
    assert port > 0
    with listen("127.0.0.1", port) as taken:
        assert taken.getsockname() == ("127.0.0.1", port)
        with pytest.raises(ConfigError, match=r"cannot be had \(Address already in use\). Stop what listens there"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


def test_addresses_that_are_not_ours() -> None:
    with pytest.raises(ConfigError, match=r"serve\.host: nothing is known as 'no-such-host\.invalid'"):
        free_port("no-such-host.invalid", 0)
    with pytest.raises(ConfigError, match=r"serve\.host: 192\.0\.2\.1 is no address of this machine"):
        free_port("192.0.2.1", 0)


def test_the_roles_follow_their_parent(tmp_path: Path) -> None:
    made = roles(tmp_path / "s.toml", {"A": "b"})
    assert [child.name for child in made] == ["learn", "control", "serve"]
    assert all(child.argv[-2:] == ["--parent-pid", "{parent}"] for child in made)
    assert "--api-only" in made[2].argv
    assert all(child.environ == {"A": "b"} for child in made)


class Service:
    """`streamlearn serve` in a process of its own; what it says is kept in files."""

    def __init__(self, config: Path, *options: str, **environ: str) -> None:
        self.out, self.err = config.parent / "out", config.parent / "err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "serve", str(config), *options],
                stdout=out, stderr=err, env=kept | environ | {"PYTHONUNBUFFERED": "1"}, cwd=config.parent,
            )  # fmt: skip
        self.family: list[psutil.Process] = []

    def said(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.out.read_text()), self.err.read_text()
            found.extend(re.finditer(pattern, self.out.read_text()))
            return bool(found)

        wait_for(look, seconds)
        return found[0]

    def ready(self) -> str:
        url = self.said(r"API: (http://\S+),")[1]
        self.said("ready after")
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return url

    def pids(self) -> dict[str, int]:
        line = self.said(r"started (.*); their logs")[1]
        return {name: int(pid) for name, pid in re.findall(r"(\w+) \(process (\d+)\)", line)}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)

    def logs(self) -> list[dict[str, object]]:
        """Every line; but what Python's own tracker of semaphores says when the process that it serves was killed."""
        said = re.sub(r"(?m)^.*resource_tracker: There appear.*\n(  warnings\.warn\(.*\n)?", "", self.err.read_text())
        return [json.loads(line) for line in said.splitlines()]


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(config: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def run(*options: str, **environ: str) -> Service:
        started.append(Service(config, *options, **environ))
        return started[-1]

    yield run
    for service in started:
        family = service.family
        if service.process.poll() is None:
            family = family or psutil.Process(service.process.pid).children(recursive=True)
            service.process.kill()
        service.process.wait(20)
        for process in family:
            if not gone(process):
                process.kill()


def streamlearn(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "streamlearn", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(count: int, first: int = 0) -> str:
    lines = [f"{n},{n % 7},{'ab'[n % 2]},{str(n % 7 > 3).lower()}" for n in range(first, first + count)]
    return "\n".join(["id,v,c,late", *lines]) + "\n"


def learned(client: Client) -> int:
    return client.model("m").n


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_service_from_start_to_end(config: Path, start: Callable[..., Service]) -> None:
    service = start()
    url = service.ready()
    file = config.parent / "rows.csv"
    file.write_text(rows(2000))
    sent = streamlearn("send", file, "--stream", "s", "--id", "id", "--label", "late", "--url", url)
    assert "rows.csv: 2000 accepted, 0 repeated, 0 rejected" in sent
    with Client(url) as client:
        wait_for(lambda: learned(client) == 2000)
        answer = client.predict("m", {"v": 6, "c": "a"})
        assert answer.prediction is True

        again = streamlearn("send", file, "--stream", "s", "--id", "id", "--label", "late", "--url", url)
        assert "2000 accepted" in again  # the door does not know; the learner drops them
        wait_for(lambda: client.model("m").counters.get("duplicate_features") == 2000)
        assert learned(client) == 2000

        assert re.search(r"^m +1 +steady +2,000 +accuracy", streamlearn("status", "--url", url), re.M)
        refused = streamlearn("rollback", "m", "--wait", "--url", url, code=1)
        assert "request refused: " in refused
        assert "no champion before it" in refused

        # Each role in turn is killed and comes back by itself, with nothing lost.
        for name, pid in service.pids().items():
            os.kill(pid, signal.SIGKILL)
            service.said(rf"{name} was ended by SIGKILL; starting it again in 0\.5 s")
        wait_for(lambda: _is_ready(client))
        file.write_text(rows(500, first=2000))
        streamlearn("send", file, "--stream", "s", "--id", "id", "--label", "late", "--url", url)
        wait_for(lambda: learned(client) == 2500)

    assert service.end() == 0
    assert service.out.read_text().splitlines()[-1] == "ended: every role was drained"
    ended = [line["role"] for line in service.logs() if line["text"] == "ended"]
    assert sorted(map(str, ended)) == ["control", "learn", "serve"]
    assert all(map(gone, service.family))
    verified = streamlearn("verify", config)
    assert re.search(r"^m +0 +[\d,]+ +2,500 +same ", verified, re.M)
    assert re.search(r"^m +1 +steady +2,500 ", streamlearn("status", "--config", config), re.M)


def _is_ready(client: Client) -> bool:
    try:
        return client.ready().ready
    except Unreachable:
        return False


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_process_outlives_a_killed_supervisor(config: Path, start: Callable[..., Service]) -> None:
    service = start("--logs", str(config.parent / "logs"))
    service.ready()
    assert len(service.family) >= 3
    service.end(signal.SIGKILL)
    wait_for(lambda: all(map(gone, service.family)), 20)
    assert service.err.read_text() == ""
    roles_said = {json.loads(line)["role"] for line in (config.parent / "logs").read_text().splitlines()}
    assert roles_said == {"learn", "control", "serve"}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ctrl_c_drains_and_a_second_service_is_refused_meanwhile(config: Path, start: Callable[..., Service]) -> None:
    service = start()
    service.ready()
    assert "is in use by another streamlearn serve" in streamlearn("serve", config, code=EXIT_CONFIG)
    assert service.end(signal.SIGINT) == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_open_live_streams_do_not_hold_up_the_end(config: Path, start: Callable[..., Service]) -> None:
    service = start()
    url = service.ready()
    told: list[str] = []
    ended: list[float] = []

    def look() -> None:
        with httpx.stream("GET", f"{url}/v1/live", params={"topics": "fleet,model:m"}, timeout=30) as stream:
            for line in stream.iter_lines():
                told.append(line)  # seen by the other thread as it comes
        ended.append(time.monotonic())

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    wait_for(lambda: told.count("event: fleet") >= 3 and told.count("event: model") >= 3)
    asked = time.monotonic()
    assert service.end() == 0
    for reader in readers:
        reader.join(10)
    assert len(ended) == 3
    assert max(ended) - asked < 4


@pytest.mark.slow
def test_a_pipeline_that_cannot_be_built_ends_the_service_and_is_named(config: Path, start: Callable[..., Service]) -> None:
    config.write_text(CONFIG.replace("logistic", "logistik"))
    service = start()
    assert service.process.wait(60) == EXIT_CONFIG
    assert "learn cannot run with this configuration (see its message above); stopping" in service.out.read_text()
    [told] = [line for line in service.logs() if "did you mean logistic?" in str(line["text"])]
    assert told["role"] == "learn"


@pytest.mark.slow
def test_what_is_wrong_at_the_start_is_told_before_anything_runs(config: Path) -> None:
    assert "STREAMLEARN_API_KEYS" in _refused(config, "0.0.0.0", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use" in _refused(config, "127.0.0.1", taken.getsockname()[1])
    config.write_text("[serve]\nport = -1\nprot = 1")
    assert streamlearn("serve", config, code=EXIT_CONFIG).count("error: ") == 3
    assert streamlearn("learn", config, code=EXIT_CONFIG).count("prot") == 1


def _refused(config: Path, host: str, port: int) -> str:
    config.write_text(CONFIG.replace("port = 0", f'host = "{host}"\nport = {port}'))
    return streamlearn("serve", config, code=EXIT_CONFIG)
