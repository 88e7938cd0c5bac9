"""Servers as child processes: started until they answer, killed, frozen, resumed, restarted, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from streamlearn.cli import dev_process
from streamlearn.cli.dev_docker import Docker
from streamlearn.cli.dev_process import LOOPBACK, Local, Server, free_ports, program, tied
from streamlearn.errors import ConfigError, StreamlearnError

# Answers each connection with how often it was started, which it keeps in its folder.
ECHO = """
    import pathlib, socket, sys
    count = pathlib.Path("count")
    count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
    print("listening", flush=True)
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        while True:
            with listening.accept()[0] as connection:
                connection.sendall(count.read_bytes())
"""


class Echo(Server):
    def __init__(self, folder: Path, code: str = ECHO) -> None:
        super().__init__("echo", folder, Local())
        self.port, self.code = free_ports(1)[0], textwrap.dedent(code)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> Sequence[str]:
        return [sys.executable, "-I", "-S", "-c", self.code, str(self.port)]

    def answers(self) -> bool:
        return self.ask(0.5) != b""

    def ask(self, seconds: float = 5.0) -> bytes:
        with socket.create_connection((LOOPBACK, self.port), seconds) as connection:
            return connection.recv(16)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    server = Echo(tmp_path / "echo")
    yield server
    server.kill()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_it_answers_when_start_returns(echo: Echo) -> None:
    assert not echo.running
    assert echo.start() is echo
    assert echo.running
    assert echo.ask() == b"1"
    assert echo.tail() == "listening"


def test_it_is_stopped_at_the_end_of_the_block(echo: Echo) -> None:
    with echo:
        pid = echo.pid
    assert not echo.running
    assert gone(pid)
    echo.stop()  # twice is allowed
    with pytest.raises(ConnectionRefusedError):
        echo.ask()


def test_it_keeps_its_port_and_its_folder_when_it_is_killed_and_restarted(echo: Echo) -> None:
    echo.start()
    address, pid = echo.address, echo.pid
    echo.kill()
    assert gone(pid)
    assert echo.restart().address == address
    assert echo.ask() == b"2"
    assert echo.restart().ask() == b"3"  # also while it runs
    assert echo.tail().splitlines() == ["listening"] * 3


def test_a_frozen_one_keeps_connections_open_and_nobody_answers(echo: Echo) -> None:
    echo.start()
    echo.freeze()
    wait_for(lambda: psutil.Process(echo.pid).status() == psutil.STATUS_STOPPED)
    with pytest.raises(TimeoutError):
        echo.ask(0.3)
    assert echo.running
    echo.resume()
    assert echo.ask() == b"1"


def test_a_frozen_one_can_be_stopped(echo: Echo) -> None:
    echo.start()
    echo.freeze()
    started, pid = time.monotonic(), echo.pid
    echo.stop()
    assert gone(pid)
    assert time.monotonic() - started < dev_process.STOP_S / 2


def test_one_that_ignores_the_wish_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_process, "STOP_S", 0.3)
    deaf = Echo(tmp_path / "deaf", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + textwrap.dedent(ECHO))
    pid = deaf.start().pid
    deaf.stop()
    assert gone(pid)


def test_what_runs_cannot_be_started_again_and_what_does_not_has_no_process(echo: Echo) -> None:
    for act in (echo.freeze, echo.resume, lambda: echo.pid):
        with pytest.raises(StreamlearnError, match="echo is not running"):
            act()
    echo.start()
    with pytest.raises(StreamlearnError, match="echo is running already"):
        echo.start()


def test_one_that_ends_while_it_starts_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broken = Echo(tmp_path / "broken", "for n in range(100): print('line', n, flush=True)\nraise SystemExit('no such disk')")
    with pytest.raises(StreamlearnError, match="echo ended while it started") as caught:
        broken.start()
    assert "no such disk" in str(caught.value)
    assert "line 99" in str(caught.value)
    assert "line 50" not in str(caught.value)


def test_one_that_never_answers_is_killed(tmp_path: Path) -> None:
    silent = Echo(tmp_path / "silent", "import time\nprint('thinking', flush=True)\ntime.sleep(600)")
    silent.launch()
    pid = silent.pid
    with pytest.raises(StreamlearnError, match=r"(?s)did not answer within 0\.5 s.*thinking"):
        silent.await_ready(0.5)
    assert gone(pid)


def test_a_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"nginx is not installed. Run: apt-get install nginx-light"):
        program("nginx", "nginx-light")
    nothing = tmp_path / "nginx"
    nothing.write_text("#!/bin/sh\n")
    nothing.chmod(0o755)
    assert program("nginx", "nginx-light") == str(nothing)


def test_a_command_that_cannot_run_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")  # where the command is not run through an interpreter
    assert tied(["x", "y"], signal.SIGKILL) == ["x", "y"]
    with pytest.raises(StreamlearnError, match="could not be started"):
        Local().run([str(tmp_path / "none")], tmp_path, tmp_path / "log")
    with pytest.raises(StreamlearnError, match="could not be started"):
        Docker(str(tmp_path / "none"), "image").run(["x"], tmp_path, tmp_path / "log")


def test_the_thread_that_starts_it_may_end(echo: Echo) -> None:
    starter = threading.Thread(target=echo.start)
    starter.start()
    starter.join()
    time.sleep(0.3)  # the death of that thread would have reached it by now
    assert echo.running
    assert echo.ask() == b"1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from streamlearn.cli.dev_process import LocalProcess
        print(LocalProcess(["sleep", "600"], Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r})).pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(lambda: psutil.Process(pid).name() == "sleep")
        parent.kill()
    wait_for(lambda: gone(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_does_not_start_for_a_parent_that_is_gone_already(tmp_path: Path) -> None:
    argv = tied(["touch", str(tmp_path / "made")], signal.SIGKILL)
    argv[argv.index(str(os.getpid()))] = "1"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the parent is gone" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the range of outgoing ports where Linux tells it")
def test_free_ports_are_several_free_and_none_that_a_client_may_get() -> None:
    ports = free_ports(30)
    assert len(set(ports)) == 30
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in ports if low <= port <= high]
    for port in ports[:3]:
        with socket.create_server((LOOPBACK, port)):
            pass
    assert free_ports(30) != ports


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_ports(2)

    class Few:
        def sample(self, population: range, count: int) -> list[int]:
            assert first in population
            return [first, second]

    monkeypatch.setattr(dev_process.random, "SystemRandom", Few)
    with socket.create_server((LOOPBACK, first)):
        assert free_ports(1) == [second]
        with pytest.raises(StreamlearnError, match="no 2 free ports"):
            free_ports(2)
