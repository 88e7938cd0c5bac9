"""`streamlearn dev-servers` as a person runs it, `--fetch` on machines that lack something, and tests without servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from redis import Redis
from typer.testing import CliRunner

from streamlearn.cli import dev_servers
from streamlearn.cli.dev_kafka import known_brokers
from streamlearn.cli.main import app
from streamlearn.config import parse
from streamlearn.errors import ConfigError

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"^(Kafka broker \d|redis-server): 127\.0\.0\.1:(\d+) \(process (\d+)\)$", re.M)


class Running:
    """The command in a process of its own, read until it is ready."""

    def __init__(self, arguments: Sequence[object], temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlearn", "dev-servers", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if line.startswith("for a service"):
                return
        raise AssertionError(self.said)

    @property
    def servers(self) -> dict[str, tuple[int, psutil.Process]]:
        return {name: (int(port), psutil.Process(int(pid))) for name, port, pid in ADDRESS.findall(self.said)}

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


Run = Callable[..., Running]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the command makes its temporary folders."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def run(temporary: Path) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(*arguments: object) -> Running:
            running = Running(arguments, temporary)
            stack.enter_context(running.process)
            stack.callback(running.process.kill)
            return running

        yield start


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.usefixtures("kafka_program", "redis_program")
class TestRunning:
    def test_both_run_until_ctrl_c_and_leave_nothing(self, run: Run, temporary: Path) -> None:
        running = run()
        servers = running.servers
        (kafka, broker), (redis, store) = servers["Kafka broker 1"], servers["redis-server"]
        assert known_brokers(kafka) == {1: f"127.0.0.1:{kafka}"}
        with Redis(port=redis) as client:
            assert client.ping()
        assert f"--kafka 127.0.0.1:{kafka} --redis redis://127.0.0.1:{redis}/0" in running.said
        assert f"STREAMLEARN_LOG__KAFKA__BOOTSTRAP=127.0.0.1:{kafka} STREAMLEARN_STORE__BACKEND=redis" in running.said
        said = dict(part.split("=", 1) for part in running.said.rpartition("for a service:")[2].split() if "=" in part)
        settings = parse({"streams": {"s": {}}}, said)
        assert (settings.log.backend, settings.log.kafka.bootstrap) == ("kafka", (f"127.0.0.1:{kafka}",))
        assert (settings.store.backend, settings.store.redis.url) == ("redis", f"redis://127.0.0.1:{redis}/0")
        assert len(list(temporary.glob("streamlearn-servers-*"))) == 1
        assert running.end(signal.SIGINT) == (0, "ended\n")
        assert not broker.is_running()
        assert not store.is_running()
        assert not list(temporary.glob("streamlearn-servers-*"))

    def test_servers_die_with_it_when_it_is_killed(self, run: Run, temporary: Path) -> None:
        running = run()
        processes = [process for _, process in running.servers.values()]
        running.end(signal.SIGKILL)
        gone, alive = psutil.wait_procs(processes, timeout=20)
        assert len(gone) == 2
        assert not alive

    def test_a_server_that_ends_by_itself_is_told(self, run: Run, temporary: Path) -> None:
        running = run("--kafka", 0)
        _, store = running.servers["redis-server"]
        store.terminate()
        rest, _ = running.process.communicate(timeout=60)
        assert running.process.returncode == 1
        assert "redis-server ended by itself" in rest
        assert "User requested shutdown" in rest  # its own last words

    def test_a_folder_of_ones_own_is_kept_and_taken_up_again(self, run: Run, temporary: Path, tmp_path: Path) -> None:
        for expected in (None, b"value"):
            running = run("--kafka", 0, "--folder", tmp_path / "mine")
            with Redis(port=running.servers["redis-server"][0]) as client:
                assert client.get("key") == expected
                client.set("key", "value")
            assert running.end(signal.SIGTERM)[0] == 0
        assert (tmp_path / "mine" / "redis").is_dir()
        assert not list(temporary.iterdir())

    def test_two_brokers_without_redis_keep_their_folder(self, run: Run, temporary: Path, tmp_path: Path) -> None:
        for _ in range(2):  # the second time on other ports, with the data of the first
            running = run("--kafka", 2, "--no-redis", "--folder", tmp_path / "mine")
            servers = running.servers
            assert list(servers) == ["Kafka broker 1", "Kafka broker 2"]
            assert set(known_brokers(servers["Kafka broker 1"][0])) == {1, 2}
            assert "--redis" not in running.said
            assert "REDIS" not in running.said
            assert running.end(signal.SIGINT)[0] == 0


class TestGettingWhatIsMissing:
    @pytest.fixture
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An empty machine: the folder of its programs. What is run there is written into the file `ran`."""
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        return folder

    def put(self, machine: Path, name: str, script: str = "") -> None:
        (machine / name).write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho "{name} $*" >> "{machine}/ran"\n{script}')
        (machine / name).chmod(0o755)

    def fetch(self) -> tuple[int, Sequence[str]]:
        done = CliRunner().invoke(app, ["dev-servers", "--fetch"])
        return done.exit_code, done.output.splitlines()

    def test_nothing_can_be_had(self, machine: Path) -> None:
        code, said = self.fetch()
        assert code == 1
        assert said == [
            "error: dev-servers: java is not installed. Run: apt-get install openjdk-17-jre-headless",
            "error: dev-servers: redis-server is not installed. Run: apt-get install redis-server",
        ]

    def test_everything_is_there(self, machine: Path, tmp_path: Path) -> None:
        self.put(machine, "java")
        self.put(machine, "redis-server")
        (tmp_path / "cache/streamlearn/kafka-4.1.0").mkdir(parents=True)
        assert self.fetch() == (0, ["Kafka 4.1.0 is there", "Redis is there"])
        assert not (machine / "ran").exists()

    def test_root_on_debian_gets_java_and_maven_too(self, machine: Path, tmp_path: Path) -> None:
        maven = 'for each; do case $each in -DoutputDirectory=*) mkdir "${each#*=}";; esac; done'
        self.put(machine, "apt-get", f"""
            for each; do
                case $each in
                    openjdk-17-jre-headless) cp /bin/true "{machine}/java";;
                    maven) printf '#!/bin/sh\nPATH=/usr/bin:/bin\n%s\n' '{maven}' > "{machine}/mvn"; chmod +x "{machine}/mvn";;
                    redis-server) cp /bin/true "{machine}/redis-server";;
                esac
            done
        """)  # fmt: skip
        code, said = self.fetch()
        assert code == 0
        assert said[0] == "installing openjdk-17-jre-headless maven"
        assert said[-3:] == ["Kafka 4.1.0 is there", "installing redis-server", "Redis is there"]
        assert (machine / "ran").read_text().splitlines() == [
            "apt-get -qq update",
            "apt-get -qq -y --no-install-recommends install openjdk-17-jre-headless maven",
            "apt-get -qq update",
            "apt-get -qq -y --no-install-recommends install redis-server",
        ]

    def test_maven_is_not_needed_where_the_jars_are(self, machine: Path, tmp_path: Path) -> None:
        (tmp_path / "cache/streamlearn/kafka-4.1.0").mkdir(parents=True)
        self.put(machine, "apt-get", f'[ $2 = update ] || cp /bin/true "{machine}/java"')
        self.put(machine, "redis-server")
        assert self.fetch() == (0, ["installing openjdk-17-jre-headless", "Kafka 4.1.0 is there", "Redis is there"])

    def test_what_is_not_for_want_of_a_program_installs_nothing(self, machine: Path) -> None:
        self.put(machine, "java")
        self.put(machine, "mvn", "echo 'no network'; exit 1")
        self.put(machine, "redis-server")
        self.put(machine, "apt-get")
        code, said = self.fetch()
        assert code == 1
        assert "Maven could not fetch Kafka 4.1.0: no network" in said[1]
        assert "apt-get" not in (machine / "ran").read_text()

    def test_root_on_debian_gets_both(self, machine: Path, tmp_path: Path) -> None:
        self.put(machine, "java")
        self.put(machine, "mvn", 'for each; do case $each in -DoutputDirectory=*) mkdir "${each#*=}";; esac; done')
        self.put(machine, "apt-get", f'[ $2 = update ] || cp "$0" "{machine}/redis-server"')
        code, said = self.fetch()
        assert code == 0
        assert said[-3:] == ["Kafka 4.1.0 is there", "installing redis-server", "Redis is there"]
        maven, *apt = (machine / "ran").read_text().splitlines()
        assert maven.startswith("mvn -q -B -C -f ")
        assert apt == ["apt-get -qq update", "apt-get -qq -y --no-install-recommends install redis-server"]

    def test_who_is_not_root_is_told_what_to_install(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        self.put(machine, "apt-get")
        code, said = self.fetch()
        assert code == 1
        assert said[-1].endswith("Run: apt-get install redis-server")
        assert not (machine / "ran").exists()

    def test_a_failed_installation_is_told(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put(machine, "apt-get", "echo 'E: no lists' >&2; exit 100")
        code, said = self.fetch()
        assert code == 1
        assert "apt-get -qq update ended with exit code 100: E: no lists. Install by hand: redis-server" in said[-1]
        self.put(machine, "apt-get", "exec sleep 60")
        monkeypatch.setattr(dev_servers, "APT_S", 0.2)
        with pytest.raises(ConfigError, match=r"did not end within 0\.2 s"):
            dev_servers.install(str(machine / "apt-get"), "redis-server")

    def test_there_must_be_something_to_run(self) -> None:
        done = CliRunner().invoke(app, ["dev-servers", "--kafka", "0", "--no-redis"])
        assert done.exit_code == 78
        assert "there is nothing to run. Leave out --kafka 0 or --no-redis" in done.output


@pytest.mark.slow
class TestTestsWithoutServers:
    """Two tests that need a server, and one that needs a disk of its own, where neither can be had."""

    TESTS = (
        "tests/cli/test_dev_redis.py::test_the_shared_one_answers", "tests/cli/test_dev_kafka.py",
        "tests/log/test_log_sqlite.py::test_no_space_for_a_new_log", "-k", "shared or no_space",
    )  # fmt: skip

    def pytest(self, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "mount").symlink_to("/bin/false")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.TESTS],
            env={"PATH": str(tmp_path), "HOME": str(tmp_path), **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_they_are_skipped_with_the_reason(self, tmp_path: Path) -> None:
        done = self.pytest(tmp_path)
        assert done.returncode == 0
        assert "3 skipped" in done.stdout
        assert "no real server to test with: dev-servers: redis-server is not installed" in done.stdout
        assert "no real server to test with: dev-servers: java is not installed" in done.stdout
        assert "needs the right to mount a small tmpfs" in done.stdout

    def test_they_fail_where_servers_are_required(self, tmp_path: Path) -> None:
        done = self.pytest(tmp_path, STREAMLEARN_TEST_SERVERS="require")
        assert done.returncode == 1
        assert "1 failed" in done.stdout
        assert "2 errors" in done.stdout
        assert "needs the right to mount a small tmpfs" in done.stdout
        assert "skipped" not in done.stdout
