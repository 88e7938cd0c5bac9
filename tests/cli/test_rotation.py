"""Secrets are changed while the service runs, under load, by the procedures of docs/rotation.md: no request fails."""

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from streamlearn.cli.fleet import read_secrets
from streamlearn.cli.wiring import read_settings, secret_digests, security
from streamlearn.config import parse
from streamlearn.errors import ConfigError
from streamlearn.keys import KeyRing

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
SCOPES = ("--scope", "write", "--scope", "predict", "--scope", "read")
OLD, NEW = "k1:" + "0a" * 32, "k2:" + "0b" * 32


class TestWhatIsReadAnew:
    """Which files of secrets a reload looks at, and what it refuses before any role is started."""

    def config(self, folder: Path) -> Path:
        path = folder / "s.toml"
        path.write_text(CONFIG)
        return path

    def test_a_changed_file_of_keys_is_seen(self, tmp_path: Path) -> None:
        settings, keys, api = read_settings(self.config(tmp_path), {}), tmp_path / "keys", tmp_path / "api"
        keys.write_text(OLD)
        api.write_text("app:0123456789abcdef")
        environ = {"STREAMLEARN_KEYS_FILE": str(keys), "STREAMLEARN_API_KEYS_FILE": str(api)}
        before, _ = read_secrets(settings, environ)
        assert set(before) == set(environ)
        assert read_secrets(settings, environ)[0] == before
        keys.write_text(f"{OLD}\n{NEW}\n")
        after, _ = read_secrets(settings, environ)
        assert [name for name in before if before[name] != after[name]] == ["STREAMLEARN_KEYS_FILE"]
        assert "0a0a" not in str(after)

    @pytest.mark.parametrize(("name", "text"), [("STREAMLEARN_KEYS_FILE", "k1:zz"), ("STREAMLEARN_API_KEYS_FILE", "nothing")])
    def test_a_file_that_holds_no_secret_is_refused(self, tmp_path: Path, name: str, text: str) -> None:
        path = tmp_path / "secret"
        path.write_text(text)
        with pytest.raises(ConfigError, match=name.removesuffix("_FILE")):
            read_secrets(read_settings(self.config(tmp_path), {}), {name: str(path)})

    def test_a_key_made_on_first_use_counts_too(self, tmp_path: Path) -> None:
        settings = read_settings(self.config(tmp_path), {})
        before, _ = read_secrets(settings, {})
        assert set(before) == {"data_dir"}
        (tmp_path / "data" / "secret.key").write_text(OLD)
        assert read_secrets(settings, {})[0] != before

    def test_brokers_and_the_store_have_theirs_read_anew(self, tmp_path: Path) -> None:
        files = {name: tmp_path / name for name in ("sasl", "ca", "cert", "key", "redis")}
        for name, path in files.items():
            path.write_text(f"{name} one")
        tree = {
            "data_dir": str(tmp_path / "data"), "streams": {"s": {}},
            "log": {"backend": "kafka", "kafka": {
                "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "app",
                "sasl_password_file": str(files["sasl"]), "ssl_cafile": str(files["ca"]), "ssl_certfile": str(files["cert"]),
                "ssl_keyfile": str(files["key"]),
            }},
            "store": {"backend": "redis", "redis": {"url": "redis://app@db1", "password_file": str(files["redis"])}},
        }  # fmt: skip
        settings, environ = parse(tree, {}), {"STREAMLEARN_KEYS": OLD}
        assert security(settings.log.kafka)["sasl_plain_password"] == "sasl one"
        for name, path in files.items():
            before = secret_digests(settings, environ)
            path.write_text(f"{name} two")
            after = secret_digests(settings, environ)
            assert len(before) == 5
            [changed] = [key for key in before if before[key] != after[key]]
            assert name.removesuffix("_") in changed
        assert security(settings.log.kafka)["sasl_plain_password"] == "sasl two", "a role that starts now shows the new one"
        files["sasl"].write_text("")
        with pytest.raises(ConfigError, match=r"log.kafka.sasl_password_file: .* is empty"):
            secret_digests(settings, environ)

    def test_a_ring_takes_over_from_another_when_it_verifies_what_that_signs(self) -> None:
        old, new = b"a" * 32, b"b" * 32
        assert KeyRing({"k1": old, "k2": new}).takes_over(KeyRing({"k1": old}))
        assert KeyRing({"k2": new, "k1": old}).takes_over(KeyRing({"k1": old}))
        assert not KeyRing({"k2": new}).takes_over(KeyRing({"k1": old, "k2": new}))
        assert not KeyRing({"k1": new}).takes_over(KeyRing({"k1": old}))


def wait_for(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


class Running:
    """`streamlearn serve` in a process of its own, asked by a client that never tries again."""

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        self.config, self.out, self.err = config, config.parent / "out", config.parent / "err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        self.environ = kept | dict(environ)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "serve", str(config)], stdout=out, stderr=err, start_new_session=True,
                env=self.environ | {"PYTHONUNBUFFERED": "1"}, cwd=config.parent,
            )  # fmt: skip
        wait_for(lambda: "ready after" in self.out.read_text() or self.process.poll() is not None)
        [self.url] = re.findall(r"API: (http://\S+),", self.out.read_text())
        self.key, self.stop, self.failed, self.answers = "", threading.Event(), list[str](), 0
        self.load = threading.Thread(target=self._load)

    def run(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "streamlearn", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=self.environ)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if words[0] == "keys" else " ".join((done.stdout + done.stderr).split())

    def reload(self, code: int = 0) -> str:
        return self.run("reload", str(self.config), code=code)

    def loaded(self) -> None:
        """Under load from now on, once there is a model to ask."""
        headers = {"X-API-Key": self.key}
        wait_for(lambda: httpx.post(f"{self.url}/v1/predict/m", json={"x": {"v": 1}}, headers=headers).status_code == 200)
        self.load.start()

    def _load(self) -> None:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        n = 0
        while not self.stop.is_set():
            n += 1
            x = {"v": n % 7}
            event = {"stream": "s", "id": f"e{n}", "x": x, "y": n % 7 > 3}
            path, body = ("/v1/events", [event]) if n % 2 else ("/v1/predict/m", {"x": x})
            try:
                headers = {"Content-Type": "application/json", "X-API-Key": self.key}
                connection.request("POST", path, json.dumps(body), headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status not in (200, 202):
                    self.failed.append(f"{path}: {answer.status} {said[:200]!r}")
            except Exception as error:
                self.failed.append(f"{path}: {error!r}")
                connection.close()
            self.answers += 1
            time.sleep(0.01)
        connection.close()

    def learned(self) -> int:
        return int(httpx.get(f"{self.url}/v1/models/m", headers={"X-API-Key": self.key}).json()["n"])

    def learns(self) -> None:
        n = self.learned()
        wait_for(lambda: self.learned() > n + 20)

    def end(self) -> None:
        self.stop.set()
        if self.load.is_alive():
            self.load.join(40)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(**environ: str) -> Running:
        config = tmp_path / "s.toml"
        config.write_text(CONFIG)
        started.append(Running(config, environ))
        return started[-1]

    yield start
    for one in started:
        one.end()
        if one.process.poll() is None:
            family = psutil.Process(one.process.pid).children(recursive=True)
            one.process.send_signal(signal.SIGTERM)
            try:
                one.process.wait(60)
            except subprocess.TimeoutExpired:
                one.process.kill()
            for process in family:
                if process.is_running():
                    process.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_signing_keys_are_changed_under_load(running: Callable[..., Running], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(OLD)
    service = running(STREAMLEARN_KEYS_FILE=str(keys))
    service.loaded()
    service.learns()
    assert "nothing has changed" in service.reload()
    keys.write_text(NEW)  # too soon: what the old one signed could not be read
    assert "Keep it behind the new one" in service.reload(code=1)
    keys.write_text("k1:zz")
    assert "is not hexadecimal" in service.reload(code=1)
    service.learns()
    keys.write_text(f"{OLD}\n{NEW}\n")  # 1: all verify the new one
    assert "STREAMLEARN_KEYS_FILE: the file holds something else" in service.reload()
    service.learns()
    keys.write_text(f"{NEW}\n{OLD}\n")  # 2: it signs
    service.reload()
    before = service.learned()
    assert before > 40, "nothing was forgotten"
    service.learns()
    told = service.run("keys", "signing", "-c", str(service.config))
    assert re.search(r"k2 +signs", told)
    service.end()
    assert service.failed == []
    assert service.answers > 200


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_api_keys_are_changed_by_overlap_under_load(running: Callable[..., Running]) -> None:
    service = running()
    config = str(service.config)
    first = service.run("keys", "make", "app", "-c", config, *SCOPES).strip()
    service.key = first
    wait_for(lambda: httpx.get(f"{service.url}/v1/models").status_code == 401, 5)
    service.loaded()
    service.learns()
    second = service.run("keys", "make", "app", "-c", config, *SCOPES).strip()
    wait_for(lambda: httpx.get(f"{service.url}/v1/models", headers={"X-API-Key": second}).status_code == 200, 5)
    for forwarded, secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):  # as a proxy on this machine says it
        got = httpx.post(f"{service.url}/v1/session", json={"key": second}, headers=forwarded)
        assert (got.status_code, "; Secure" in got.headers["set-cookie"]) == (200, secure)
    service.key = second
    service.learns()
    service.run("keys", "revoke", first.split("_")[1], "-c", config)
    wait_for(lambda: httpx.get(f"{service.url}/v1/models", headers={"X-API-Key": first}).status_code == 401, 5)
    service.learns()
    service.end()
    assert service.failed == []
