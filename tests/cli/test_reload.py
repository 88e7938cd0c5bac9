"""A running service takes in a changed file: models come, change and go under load, and no request is refused or broken off."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streamlearn.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PAUSE_S = 0.02  # of each client: the roles that start meanwhile need the machine, too
HEAD = 'data_dir = "data"\n[serve]\nport = 0\n[streams.s]\n'
MODEL = '[models.{name}]\nstream = "s"\ntask = "binary"\npipeline = "{pipeline}"\n{more}\n'


def configuration(**models: str) -> str:
    """A file with these models: a pipeline, and more lines after it."""
    parts = [pipeline.partition("\n") for pipeline in models.values()]
    return HEAD + "".join(
        MODEL.format(name=name, pipeline=pipeline, more=more) for name, (pipeline, _, more) in zip(models, parts, strict=True)
    )


class Service:
    """`streamlearn serve` in a process of its own; what it says is kept in files."""

    def __init__(self, config: Path, **environ: str) -> None:
        self.config, self.out, self.err = config, config.parent / "out", config.parent / "err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "serve", str(config)], stdout=out, stderr=err, start_new_session=True,
                env=kept | environ | {"PYTHONUNBUFFERED": "1"}, cwd=config.parent,
            )  # fmt: skip
        self.url = self.said(r"API: (http://\S+),")[1]
        self.said("ready after")
        self.client = Client(self.url)

    def said(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.out.read_text()), self.err.read_text()
            found.extend(re.finditer(pattern, self.out.read_text()))
            return bool(found)

        wait_for(look, seconds)
        return found[-1]

    def role(self, name: str) -> int:
        [found] = [one.pid for one in psutil.Process(self.process.pid).children() if name in one.cmdline()]
        return int(found)

    def reload(self, outcome: str = "done") -> None:
        """As a process manager asks for it, without the command's own look at the file before."""
        mark = self.out.read_text().count(f"reload: {outcome}")
        os.kill(self.process.pid, signal.SIGHUP)
        wait_for(lambda: self.out.read_text().count(f"reload: {outcome}") > mark, 200)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def wait_for(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def reload(config: Path, *options: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "streamlearn", "reload", str(config), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    started: list[Service] = []

    def run(text: str) -> Service:
        config = tmp_path / "s.toml"
        config.write_text(text)
        started.append(Service(config))
        return started[-1]

    yield run
    for service in started:
        service.client.close()
        if service.process.poll() is None:
            family = psutil.Process(service.process.pid).children(recursive=True)
            service.process.kill()
            service.process.wait(20)
            for process in family:
                if process.is_running():
                    process.kill()


class Load:
    """Clients that keep their connections alive and never try again: what fails, fails here."""

    def __init__(self, url: str, clients: int = 6) -> None:
        self.place = url.removeprefix("http://")
        self.stop = threading.Event()
        self.failed: list[str] = []
        self.answers = 0
        self.ids = iter(range(10**9))
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection(self.place, timeout=30)
        while not self.stop.is_set():
            with self.lock:
                n = next(self.ids)
            x = {"v": n % 7, "c": "ab"[n % 2]}
            path, body = "/v1/predict/m", json.dumps({"x": x})
            if number % 3 == 0:
                event = {"stream": "s", "id": f"e{n}", "x": x, "y": n % 7 > 3}
                path, body = "/v1/events", json.dumps([event])
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status not in (200, 202):
                    self.failed.append(f"{path}: {answer.status} {said[:200]!r}")
            except Exception as error:
                self.failed.append(f"{path}: {error!r}")
                connection.close()
            self.answers += 1
            time.sleep(PAUSE_S)
        connection.close()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(40)


def names(client: Client) -> list[str]:
    return [model.name for model in client.models()]


def test_models_come_change_and_go_under_load_and_no_request_fails(start: Callable[[str], Service]) -> None:
    service = start(configuration(m="logistic"))
    load = Load(service.url)
    try:
        wait_for(lambda: service.client.model("m").n > 300)
        before = {name: service.role(name) for name in ("learn", "control", "--api-only")}
        service.config.write_text(configuration(m="logistic\ntrial = {alpha = 0.1}", second="naive_bayes"))
        told = reload(service.config)
        assert "added: second, which reads from its start" in told
        assert "changed: models.m.trial.alpha from 0.05 to 0.1: at once" in told
        after = {name: service.role(name) for name in before}
        assert not set(before.values()) & set(after.values()), "every role is another process"
        assert names(service.client) == ["m", "second"]
        wait_for(lambda: service.client.model("second").n > 300)
        assert service.client.predict("second", {"v": 6, "c": "a"}).prediction in (True, False)

        service.config.write_text(configuration(m="logistic"))
        service.reload()
        assert names(service.client) == ["m"]
        service.said(r"removed: second, which stops learning and answering; its checkpoints, versions and audit stay")
    finally:
        load.end()
    assert load.failed == []
    assert load.answers > 500
    assert service.end() == 0


def test_what_cannot_be_taken_in_is_refused_and_nothing_changes(start: Callable[[str], Service]) -> None:
    service = start(configuration(m="logistic"))
    pids = {name: service.role(name) for name in ("learn", "control", "--api-only")}
    for text, problem in (
        ("[models.m\n", "not TOML"),
        (configuration(m="logistik"), "did you mean logistic"),
        (configuration(m='logistic\nlabels = ["a", "b"]'), "give the changed model a name of its own"),
        (configuration(m="logistic").replace("port = 0", "port = 9"), "it needs a restart of the service"),
        (configuration(m="logistic").replace("[streams.s]", "[streams.s]\npartitions = 2"), "partitions for good"),
    ):
        service.config.write_text(text)
        assert problem in reload(service.config, code=78 if "TOML" in problem else 1)
    service.reload("refused")
    assert pids == {name: service.role(name) for name in pids}
    os.kill(service.role("learn"), signal.SIGKILL)
    service.said("learn was ended by SIGKILL; starting it again")
    wait_for(lambda: service.role("learn") != pids["learn"] if _there(service) else False)
    service.client.send([{"stream": "s", "id": "one", "x": {"v": 1}, "y": True}])
    wait_for(lambda: service.client.model("m").n == 1), "a role that dies comes back with what was accepted last"
    service.config.write_text(configuration(m="logistic"))
    assert "nothing has changed" in reload(service.config)
    assert service.end() == 0
    assert "no streamlearn serve runs over" in reload(service.config, code=78)


def _there(service: Service) -> bool:
    return any("learn" in one.cmdline() for one in psutil.Process(service.process.pid).children())


def test_a_model_that_was_removed_goes_on_where_it_was_or_is_refused_as_another(start: Callable[[str], Service]) -> None:
    both = configuration(m="logistic", second="naive_bayes")
    service = start(both)
    load = Load(service.url, 3)
    try:
        wait_for(lambda: service.client.model("second").n > 20)
        service.config.write_text(configuration(m="logistic"))
        service.reload()
        assert names(service.client) == ["m"]
        head, tail = both.split("[models.second]")
        other = tail.replace("binary", "regression").replace("naive_bayes", "linear")
        service.config.write_text(f"{head}[models.second]{other}")
        told = reload(service.config, code=1)
        assert "refused by the service: learn cannot run with this configuration" in told, "only its checkpoint tells"
        n = service.client.model("m").n
        wait_for(lambda: service.client.model("m").n > n)
        assert names(service.client) == ["m"]

        service.config.write_text(both)
        service.reload()
        assert names(service.client) == ["m", "second"]
        lines = [json.loads(line) for line in service.err.read_text().splitlines()]
        told_of = [line["text"] for line in lines if line["role"] == "learn" and line.get("model") == "second"]
        assert told_of[-1] == "recovered", "it goes on from its checkpoint"
    finally:
        load.end()
    assert load.failed == []
    assert service.end() == 0
