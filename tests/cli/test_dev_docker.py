"""Servers in containers, through a stand-in for Docker's client that runs the same command on this machine.

It shows that the command line is whole, that signals go by the engine and that nothing stays; the engine itself is not tried.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamlearn.cli import dev_docker
from streamlearn.cli.dev_docker import Docker
from streamlearn.cli.dev_redis import FORGET, IMAGE, RedisServer, find_redis
from streamlearn.errors import ConfigError

# docker run … --name NAME … --entrypoint COMMAND IMAGE ARGUMENTS, docker kill --signal NAME CONTAINER, docker info
CLIENT = f"""#!{sys.executable} -IS
import json, os, pathlib, signal, sys
here, arguments = pathlib.Path(__file__).parent, sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments[0] == "info":
    sys.exit((here / "down").exists())
if arguments[0] == "kill":
    os.kill(int((here / arguments[3]).read_text()), getattr(signal, arguments[2]))
if arguments[0] == "run":
    (here / arguments[arguments.index("--name") + 1]).write_text(str(os.getpid()))
    entry = arguments.index("--entrypoint") + 1
    os.environ["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    os.execvp(arguments[entry], [arguments[entry], *arguments[entry + 2:]])
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in, the only program on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(CLIENT)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def calls(client: Path) -> list[list[str]]:
    return [json.loads(line) for line in (client / "calls").read_text().splitlines()]


def test_an_engine_is_found_when_it_answers(client: Path) -> None:
    assert Docker.find("image:1") == Docker(str(client / "docker"), "image:1")
    (client / "down").touch()
    assert Docker.find("image:1") is None


def test_no_engine_is_found_without_a_client_or_when_it_hangs(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (client / "docker").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(dev_docker, "ENGINE_S", 0.2)
    assert Docker.find("image:1") is None
    (client / "docker").unlink()
    assert Docker.find("image:1") is None


def test_the_image_is_used_only_when_nothing_is_installed(client: Path) -> None:
    found = find_redis()
    assert found.host == Docker(str(client / "docker"), IMAGE)
    assert found.command == "redis-server"
    (client / "redis-server").symlink_to("/bin/true")
    assert find_redis().command == str(client / "redis-server")
    (client / "redis-server").unlink()
    (client / "down").touch()
    with pytest.raises(ConfigError, match=r"redis-server is not installed\. Run: apt-get install redis-server"):
        find_redis()


def test_the_command_shares_the_network_the_folder_and_the_user() -> None:
    made = Docker("docker", "image:1").argv(["server", "--port", "1"], Path("/data"), "me")
    assert made[:2] == ["docker", "run"]
    assert made[-5:] == ["--entrypoint", "server", "image:1", "--port", "1"]
    options = dict(zip(made[3:-5:2], made[4:-5:2], strict=True))
    assert made[2] == "--rm"
    assert options == {
        "--name": "me",
        "--network": "host",
        "--user": f"{os.getuid()}:{os.getgid()}",
        "--volume": "/data:/data",
        "--workdir": "/data",
    }


@pytest.mark.redis
def test_a_server_in_a_container_is_started_frozen_killed_and_restarted(
    redis_program: object, client: Path, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path / "redis", find_redis(), *FORGET)
    with server:
        process = psutil.Process(server.pid)
        server.freeze()
        deadline = time.monotonic() + 10
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.resume()
        server.kill()
        assert not process.is_running()
        server.restart()
        assert server.answers()
    assert not server.running
    sent = [call[2] for call in calls(client) if call[0] == "kill"]
    assert sent[:3] == ["SIGSTOP", "SIGCONT", "SIGKILL"]
    assert [name for name in sent[3:] if name != "SIGCONT"] == ["SIGTERM"]
    names = [call[call.index("--name") + 1] for call in calls(client) if call[0] == "run"]
    assert len(set(names)) == 2
