"""The supervisor with real child processes: restart, backoff, drain, kill, failing for good, orphans that end themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streamlearn.cli.supervisor import EXIT_CONFIG, Backoff, Child, Hopeless, Supervisor

pytestmark = pytest.mark.slow
QUICK = Backoff(first=0.05, longest=0.4, well=60)
FOREVER = "import time\nwhile True: time.sleep(60)"


def child(name: str, code: str, *arguments: object) -> Child:
    return Child(name, [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), *map(str, arguments)])


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


class Run:
    """A supervisor that runs in a thread."""

    def __init__(self, *children: Child, **options: object) -> None:
        self.said: list[str] = []
        self.stop, self.kill = threading.Event(), threading.Event()
        self.code: int | None = None
        self.supervisor = Supervisor(children, say=self.said.append, **{"backoff": QUICK, **options})  # type: ignore[arg-type]  # options differ by test
        self.supervisor.start()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run(self.stop, self.kill)

    def end(self) -> int | None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.code


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    made: list[Run] = []
    yield made
    for run in made:
        run.kill.set()
        run.end()
        run.supervisor.kill()


def test_a_drain_lets_children_finish_and_succeeds(tmp_path: Path, runs: list[Run]) -> None:
    code = """
        import signal, sys, time, pathlib
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(.3), pathlib.Path(sys.argv[1], "drained").touch(), sys.exit(0)))
        pathlib.Path(sys.argv[1], "up").touch()
        while True: time.sleep(60)
    """
    runs.append(Run(child("a", code, tmp_path)))
    wait_for((tmp_path / "up").exists)
    assert runs[0].end() == 0
    assert (tmp_path / "drained").exists()
    assert runs[0].said == []


def test_a_child_that_dies_is_started_again(runs: list[Run]) -> None:
    runs.append(Run(child("a", FOREVER), child("b", FOREVER)))
    supervisor = runs[0].supervisor
    before = supervisor.pids()
    os.kill(before["a"], signal.SIGKILL)
    wait_for(lambda: supervisor.pids().get("a", before["a"]) != before["a"])
    assert supervisor.pids()["b"] == before["b"]
    assert supervisor.restarts() == {"a": 1, "b": 0}
    assert runs[0].said == ["a was ended by SIGKILL; starting it again in 0.05 s"]
    assert runs[0].end() == 0


def test_what_a_dead_child_had_started_is_ended_too(tmp_path: Path, runs: list[Run]) -> None:
    code = """
        import subprocess, sys, time, pathlib
        inner = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
        pathlib.Path(sys.argv[1], "draft").write_text(str(inner.pid))
        pathlib.Path(sys.argv[1], "draft").rename(pathlib.Path(sys.argv[1], "pid"))
        time.sleep(600)
    """
    runs.append(Run(child("a", code, tmp_path)))
    wait_for((tmp_path / "pid").exists)
    grandchild = psutil.Process(int((tmp_path / "pid").read_text()))
    os.kill(runs[0].supervisor.pids()["a"], signal.SIGKILL)
    wait_for(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_the_wait_doubles_up_to_a_bound(runs: list[Run]) -> None:
    runs.append(Run(child("a", "raise SystemExit(3)")))
    wait_for(lambda: len(runs[0].said) >= 6)
    waits = [line.rpartition("in ")[2] for line in runs[0].said[:6]]
    assert waits == ["0.05 s", "0.1 s", "0.2 s", "0.4 s", "0.4 s", "0.4 s"]
    assert "a ended with exit code 3;" in runs[0].said[0]
    assert runs[0].end() == 0


def test_the_wait_is_short_again_after_a_child_ran_well() -> None:
    now, said = 0.0, list[str]()
    supervisor = Supervisor([child("a", FOREVER)], say=said.append, backoff=Backoff(1, 30, well=60), clock=lambda: now)
    supervisor.start()
    try:
        for ran, expected in ((5, "1 s"), (5, "2 s"), (59, "4 s"), (61, "1 s"), (1, "2 s")):
            now += ran
            os.kill(supervisor.pids()["a"], signal.SIGKILL)
            wait_for(lambda: supervisor.tick() is None and not supervisor.pids())
            assert said[-1].endswith(f"in {expected}")
            now += 30
            supervisor.tick()
    finally:
        supervisor.kill()


def test_a_backoff_never_overflows() -> None:
    assert Backoff(1, 30).delay(10_000) == 30


def test_a_child_that_cannot_be_helped_stops_everything(runs: list[Run]) -> None:
    runs.append(Run(child("good", FOREVER), child("bad", f"raise SystemExit({EXIT_CONFIG})")))
    runs[0].thread.join(20)
    assert runs[0].code == EXIT_CONFIG
    assert runs[0].supervisor.pids() == {}
    assert runs[0].said == ["bad cannot run with this configuration (see its message above); stopping"]


STUBBORN = """
    import signal, sys, time, pathlib
    signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1], "asked").touch())
    pathlib.Path(sys.argv[1], "up").touch()
    while True: time.sleep(60)
"""


def test_what_does_not_drain_in_time_is_killed_and_named(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(Run(child("stubborn", STUBBORN, tmp_path), child("good", FOREVER), drain_s=0.5))
    wait_for((tmp_path / "up").exists)
    assert runs[0].end() == 1
    assert (tmp_path / "asked").exists()
    assert runs[0].said == ["killed, since it did not end within 0.5 s: stubborn"]


def test_the_second_request_kills_at_once(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(Run(child("stubborn", STUBBORN, tmp_path), drain_s=600))
    wait_for((tmp_path / "up").exists)
    runs[0].stop.set()
    wait_for((tmp_path / "asked").exists)
    runs[0].kill.set()
    assert runs[0].end() == 1
    assert runs[0].supervisor.pids() == {}


def test_a_program_that_is_not_there_leaves_nothing_behind() -> None:
    supervisor = Supervisor([child("a", FOREVER), Child("b", ["/no/such/program"])], say=print)
    with pytest.raises(FileNotFoundError):
        supervisor.start()
    assert supervisor.pids() == {}


def test_a_restart_that_fails_is_tried_again(tmp_path: Path) -> None:
    program, said, now = tmp_path / "program", list[str](), 0.0
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    supervisor = Supervisor([Child("a", [str(program)])], say=said.append, clock=lambda: now)
    supervisor.start()
    wait_for(lambda: supervisor.tick() is None and said)
    program.unlink()
    now += 100
    supervisor.tick()
    assert "a could not be started" in said[-1]
    supervisor.kill()


def test_stderr_goes_where_it_is_told_and_the_parent_is_named(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as file:
        argv = [sys.executable, "-I", "-S", "-c", "import sys; print(sys.argv[1], file=sys.stderr)", "--parent-pid={parent}"]
        supervisor = Supervisor([Child("a", argv, dict(os.environ))], say=print, stderr=file.fileno())
        supervisor.start()
        wait_for(lambda: not supervisor.pids())
        supervisor.kill()
    assert (tmp_path / "err").read_text() == f"--parent-pid={os.getpid()}\n"


POLITE = """
    import signal, sys, time, pathlib
    folder = pathlib.Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: ((folder / f"{sys.argv[2]} asked").touch(), time.sleep(.2), sys.exit(0)))
    (folder / f"{sys.argv[2]} up").touch()
    while True: time.sleep(60)
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Supervisor]:
    """Two children that end when they are asked to."""
    made = Supervisor([child("a", POLITE, tmp_path, "a1"), child("b", POLITE, tmp_path, "b1")], say=print, backoff=QUICK)
    made.start()
    wait_for(lambda: (tmp_path / "a1 up").exists() and (tmp_path / "b1 up").exists())
    yield made
    made.kill()


def test_children_are_drained_before_others_take_their_places(tmp_path: Path, pair: Supervisor) -> None:
    before = pair.pids()
    pair.restart([child("a", POLITE, tmp_path, "a2")], threading.Event())
    assert (tmp_path / "a1 asked").exists()
    assert not psutil.pid_exists(before["a"])
    assert pair.pids()["a"] != before["a"]
    assert pair.pids()["b"] == before["b"]
    wait_for((tmp_path / "a2 up").exists)
    pair.tick()
    assert pair.drain(threading.Event()) == 0


def test_a_new_child_takes_over_once_it_is_ready(tmp_path: Path, pair: Supervisor) -> None:
    before, seen = pair.pids(), list[bool]()

    def ready() -> bool:
        seen.append(psutil.pid_exists(before["a"]) and not (tmp_path / "a1 asked").exists())
        return (tmp_path / "a2 up").exists()

    assert pair.replace(child("a", POLITE, tmp_path, "a2"), ready, 20, threading.Event()) is None
    assert all(seen), "the old one was there all the time"
    assert (tmp_path / "a1 asked").exists()
    after = pair.pids()
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    os.kill(after["a"], signal.SIGKILL)
    wait_for(lambda: pair.tick() is None and pair.pids().get("a", after["a"]) != after["a"])


@pytest.mark.parametrize(
    ("code", "why"), [("raise SystemExit(3)", "ended with exit code 3"), (FOREVER, "was not ready within")]
)
def test_a_new_child_that_is_no_good_leaves_the_old_one(pair: Supervisor, tmp_path: Path, code: str, why: str) -> None:
    before = pair.pids()
    problem = pair.replace(child("a", code), lambda: False, 0.5, threading.Event())
    assert problem is not None
    assert problem.startswith(f"the new a {why}")
    assert pair.pids() == before
    assert pair.replace(Child("a", ["/no/such/program"]), lambda: True, 1, threading.Event()) is not None
    assert pair.pids() == before
    assert not (tmp_path / "a1 asked").exists()


def test_another_that_fails_for_good_meanwhile_is_told_and_leaves_nothing_behind(pair: Supervisor, tmp_path: Path) -> None:
    ready = (tmp_path / "never").exists
    pair.restart([child("b", "import time, sys; time.sleep(1); sys.exit(78)")], threading.Event())
    with pytest.raises(Hopeless, match="b cannot run with this configuration"):
        pair.replace(child("a", POLITE, tmp_path, "a2"), ready, 20, threading.Event())
    assert not [one for one in psutil.Process().children() if "a2" in one.cmdline()]
    pair.restart([child("b", POLITE, tmp_path, "b2")], threading.Event())
    wait_for((tmp_path / "b2 up").exists)


def test_who_runs_is_known_and_a_failure_is_seen_while_watching(pair: Supervisor) -> None:
    stop, quitter = threading.Event(), child("b", "import time, sys; time.sleep(0.5); sys.exit(78)")
    pair.watch(0.3, stop)
    before = pair.child("b")
    pair.restart([quitter], stop)
    assert before is not quitter
    assert pair.child("b") is quitter
    with pytest.raises(Hopeless, match="b cannot run with this configuration"):
        pair.watch(30, stop)
    stop.set()
    started = time.monotonic()
    pair.watch(30, stop)
    assert time.monotonic() - started < 5


def test_a_file_descriptor_is_inherited(tmp_path: Path) -> None:
    read, write = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), b'here')"
    supervisor = Supervisor([child("a", code, write)._replace(fds=(write,))], say=print)
    supervisor.start()
    assert os.read(read, 10) == b"here"
    supervisor.kill()
    os.close(read)
    os.close(write)


ORPHAN = """
import pathlib, sys, threading, time
from streamlearn.cli.lifetime import Lifetime
folder = pathlib.Path(sys.argv[1])
life = Lifetime()
life.catch_signals()
life.follow(int(sys.argv[2]), grace_s=float(sys.argv[3]))
(folder / "up").touch()
life.stop.wait()
(folder / "stopping").touch()
if sys.argv[4] == "hang": time.sleep(600)
(folder / "drained").touch()
"""

PARENT = """
import subprocess, sys, time, os
from streamlearn.cli.supervisor import Child, Supervisor
supervisor = Supervisor([Child("a", [sys.executable, "-c", sys.argv[1], sys.argv[2], "{parent}", *sys.argv[3:]])], say=print)
supervisor.start()
print(supervisor.pids()["a"], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["drain", "hang"])
def test_children_end_by_themselves_when_the_supervisor_is_killed(tmp_path: Path, how: str) -> None:
    arguments = [sys.executable, "-c", PARENT, ORPHAN, str(tmp_path), "0.5", how]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        wait_for((tmp_path / "up").exists)
        killed = time.monotonic()
        parent.kill()
    wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert time.monotonic() - killed < 5
    assert (tmp_path / "stopping").exists()
    assert (tmp_path / "drained").exists() == (how == "drain")
