"""docker-compose.yml and the Dockerfile, as far as they can be held without an engine.

The files are checked by their schema and a linter, and for what they promise: bounded, read-only, nobody is root, no secret in
sight. Then every command, every environment variable and every health check of Kafka, Redis and the roles is run on this
machine as it stands in the file, the addresses and paths of containers replaced by ours. Prometheus and Grafana are not
run: what they are configured with is checked against what the service really tells.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import httpx
import psutil
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from streamlearn.apikeys import SCOPES, given
from streamlearn.cli.dev_kafka import Kafka, known_brokers
from streamlearn.cli.dev_process import LOOPBACK, Local, Server, free_ports
from streamlearn.cli.dev_redis import Redis as RedisProgram
from streamlearn.client import Client
from streamlearn.config import load
from streamlearn.keys import load_keys
from streamlearn.serving.access import check_bind, load_api_keys

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("learn", "control", "serve")
RUN_HERE = {"kafka", "redis", *ROLES}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
TOOLS = Path(sys.executable).parent
BOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((ROOT / "docker" / f"dashboard-{name}.json").read_text(encoding="utf-8"))
    for name in ("fleet", "model", "recommender")
}
NOT_YET = {  # of a service in which nothing has gone wrong, nothing was retrained and nobody is recommended anything, nor waits
    # for a label: tests/test_prometheus.py has them all
    "streamlearn_dead_letters_total", "streamlearn_retrain_seconds_bucket", "streamlearn_trial_e_value",
    "streamlearn_trial_threshold", "streamlearn_drift_statistic", "streamlearn_slate_reward_ratio",
    "streamlearn_slate_clicked_ratio", "streamlearn_recommender_known", "streamlearn_recommender_evicted_total",
    "streamlearn_recommendations_total", "streamlearn_recommended_items_total", "streamlearn_recommend_seconds_bucket",
    "streamlearn_index_recall_ratio", "streamlearn_index_age_seconds", "streamlearn_label_delay_seconds",
}  # fmt: skip
RECOMMENDERS = {"joined", "expired"}  # outcomes that only a recommender tells


def queries(board: Mapping[str, Any]) -> list[str]:
    """What a board asks Prometheus: its panels, and its annotations."""
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return panels + [note["expr"] for note in board["annotations"]["list"]]


def told(*argv: object) -> str:
    done = subprocess.run(list(map(str, argv)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr or f"exit code {done.returncode}"


class TestTheFiles:
    def test_compose_keeps_to_its_schema(self, tmp_path: Path) -> None:
        check = (TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec")
        assert told(*check, "docker-compose.yml") == ""
        wrong = tmp_path / "wrong.yml"
        wrong.write_text(yaml.safe_dump({"services": {"a": {"image": "b:1", "healthchek": {}}}}))
        assert "healthchek" in told(*check, wrong)

    def test_the_linter_has_nothing_to_say_about_the_dockerfile(self, tmp_path: Path) -> None:
        assert told(TOOLS / "hadolint", "--no-color", "Dockerfile") == ""
        wrong = tmp_path / "Dockerfile"
        wrong.write_text("FROM python\nRUN apt-get install curl\n")
        assert "DL3006" in told(TOOLS / "hadolint", "--no-color", wrong)

    def test_the_image_is_slim_built_in_stages_and_nobody_is_root(self) -> None:
        stages = re.findall(r"(?m)^FROM (\S+)( AS \w+)?$", DOCKERFILE)
        assert len(stages) == 2
        assert {image for image, _ in stages} == {"python:3.11-slim-bookworm"}
        final = DOCKERFILE.rpartition("FROM ")[2]
        users = re.findall(r"(?m)^USER (\d+):(\d+)$", final)
        assert users == [("10001", "10001")]
        assert "USER" not in final.partition("USER 10001")[2]
        assert "HEALTHCHECK" in final
        assert re.search(r"(?m)^(ADD|ARG|ENV .*(KEY|PASSWORD|SECRET))", DOCKERFILE) is None

    def test_what_is_copied_into_the_image_is_there_and_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
        assert "*" in ignored
        for sources in re.findall(r"(?m)^COPY (?!--)(.+) \S+$", DOCKERFILE):
            for source in sources.split():
                assert (ROOT / source).exists()
                assert f"!{source.removesuffix('/')}" in ignored

    def test_the_image_bears_the_version_of_the_package(self) -> None:
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        [version] = re.findall(r'(?m)^version = "(.+)"$', project)
        assert {SERVICES[role]["image"] for role in ROLES} == {f"streamlearn:{version}"}

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_each_service_is_bounded_watched_and_may_do_little(self, name: str) -> None:
        service = SERVICES[name]
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), "a tag that moves, or none"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
        assert {"test", "interval", "timeout", "start_period", "retries"} <= service["healthcheck"].keys()
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"]["max-size"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & service.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert not any("docker.sock" in volume for volume in service.get("volumes", ()))
        if service.get("ports"):
            assert "edge" in service["networks"], "an internal network publishes nothing"

    @pytest.mark.parametrize("kind", ["configs", "secrets", "volumes", "networks"])
    def test_everything_named_is_declared_and_everything_declared_is_used(self, kind: str) -> None:
        used = set()
        for service in SERVICES.values():
            for each in service.get(kind, ()):
                used.add(each["source"] if isinstance(each, dict) else each.partition(":")[0])
        assert used == set(COMPOSE[kind])
        if kind == "configs":
            assert all((ROOT / config["file"]).is_file() for config in COMPOSE[kind].values())

    def test_services_wait_for_what_they_need(self) -> None:
        for role in ROLES:
            needs = {name: need["condition"] for name, need in SERVICES[role]["depends_on"].items()}
            assert needs == {"kafka": "service_healthy", "redis": "service_healthy"}

    def test_no_secret_stands_in_a_file(self) -> None:
        for service in SERVICES.values():
            for variable, value in service.get("environment", {}).items():
                if re.search(r"PASSWORD|SECRET|KEYS?$|KEYS?_", variable):
                    assert str(value).startswith("/run/secrets/"), variable
        for secret in COMPOSE["secrets"].values():
            assert list(secret) == ["file"]
            assert secret["file"].startswith("secrets/")
        assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    def test_each_role_gets_no_more_secrets_than_it_reads(self) -> None:
        for role in ROLES:
            named = {value.rpartition("/")[2] for value in SERVICES[role]["environment"].values() if "/run/secrets/" in value}
            assert named == set(SERVICES[role]["secrets"])


def made_secrets(folder: Path) -> Path:
    assert told(ROOT / "docker" / "make-secrets", folder) == ""
    return folder


class TestSecrets:
    def test_each_declared_secret_is_made_and_no_other(self, tmp_path: Path) -> None:
        folder = made_secrets(tmp_path / "secrets")
        assert {path.name for path in folder.iterdir()} == {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}

    def test_they_are_such_as_the_service_takes(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = made_secrets(tmp_path)
        keys = load_api_keys({"STREAMLEARN_API_KEYS_FILE": str(folder / "api_keys")})
        scopes = {key.name: sorted(key.scopes) for key in keys}
        assert scopes == {"app": ["predict", "read", "write"], "ops": sorted(SCOPES), "prometheus": ["read"]}
        assert given("prometheus", (folder / "metrics_key").read_text().strip(), frozenset({"read"})) in keys
        assert len({key.digest for key in keys}) == 3
        load_keys({"STREAMLEARN_KEYS_FILE": str(folder / "signing_keys")}, folder / "unused").sign(b"x")
        check_bind("0.0.0.0", keys)
        assert "can be guessed" not in caplog.text

    def test_they_are_random_and_never_replaced(self, tmp_path: Path) -> None:
        one, other = made_secrets(tmp_path / "one"), made_secrets(tmp_path / "other")
        before = {path.name: path.read_text() for path in one.iterdir()}
        assert all((other / name).read_text() != text for name, text in before.items())
        (one / "redis_password").unlink()
        made_secrets(one)
        after = {path.name: path.read_text() for path in one.iterdir()}
        assert {name for name in before if before[name] != after[name]} == {"redis_password"}


class Here:
    """This machine in the place of the containers: what they call things, and what those are called here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = made_secrets(folder / "secrets")
        self.backend, self.host, self.quorum, self.redis, self.api = free_ports(5)
        self.names = {
            "/run/secrets": str(self.secrets),
            "://:9092": f"://{LOOPBACK}:{self.backend}",
            "kafka:9092": f"{LOOPBACK}:{self.backend}",
            "/dev/tcp/127.0.0.1/9092": f"/dev/tcp/{LOOPBACK}/{self.backend}",
            "://:29092": f"://{LOOPBACK}:{self.host}",
            "127.0.0.1:29092": f"{LOOPBACK}:{self.host}",
            "127.0.0.1:9093": f"{LOOPBACK}:{self.quorum}",
            "/var/lib/kafka/data": str(folder / "kafka" / "data"),
            "@redis:6379": f"@{LOOPBACK}:{self.redis}",
            "port 6379": f"port {self.redis}",
            "-p 6379": f"-p {self.redis}",
            "dir /data": f"dir {folder / 'redis'}",
            "0.0.0.0": LOOPBACK,
            "8321": str(self.api),
        }

    def text(self, there: object) -> str:
        """What a container is given, as it is here. `$$` is how the file writes `$`."""
        here = str(there).replace("$$", "$")
        for name, ours in self.names.items():
            here = here.replace(name, ours)
        return here


class Service(Server):
    """A service of the file, run here: its command, its environment; it answers when its own health check says so."""

    def __init__(self, here: Here, name: str, program: Sequence[str], replica: int = 1) -> None:
        super().__init__(name, here.folder / (name if replica == 1 else f"{name}-{replica}"), Local())
        self._here, self._program, self._service = here, list(program), SERVICES[name]
        self.environ = {key: here.text(value) for key, value in self._service.get("environment", {}).items()}
        self._config = self.folder / "service.toml"

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._here.api}"

    def prepare(self) -> Sequence[str]:
        self._write_config()
        return self._with_environment([*self._program, *map(self._text, self._service["command"])])

    def answers(self) -> bool:
        kind, *test = self._service["healthcheck"]["test"]
        argv = ["sh", "-c", self._text(test[0])] if kind == "CMD-SHELL" else list(map(self._text, test))
        if argv[0] == "streamlearn":
            argv = [*self._program, *argv[1:]]
        done = subprocess.run(self._with_environment(argv), capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def _text(self, there: object) -> str:
        return self._here.text(there).replace("/etc/streamlearn/service.toml", str(self._config))

    def _with_environment(self, argv: Sequence[str]) -> list[str]:
        foreign = [f"--unset={name}" for name in os.environ if name.startswith("STREAMLEARN_")]
        return ["env", *foreign, *(f"{key}={value}" for key, value in self.environ.items()), *argv]

    def _write_config(self) -> None:
        text = (ROOT / COMPOSE["configs"]["service"]["file"]).read_text(encoding="utf-8")
        assert "/var/lib/streamlearn" in text
        self._config.write_text(text.replace("/var/lib/streamlearn", str(self.folder / "data")), encoding="utf-8")


class ImageOfKafka(Service):
    """Kafka as its image starts it: its own wrapper makes the properties of the environment and formats the folder."""

    def __init__(self, here: Here, kafka: Kafka) -> None:
        super().__init__(here, "kafka", [])
        self._kafka, self.properties = kafka, self.folder / "final" / "server.properties"

    def prepare(self) -> Sequence[str]:
        java = [self._kafka.java, *shlex.split(self.environ["KAFKA_HEAP_OPTS"]), "-cp", self._kafka.classpath]
        folders = {name: self.folder / name for name in ("default", "mounted", "final")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
            (folders["default"] / name).touch()
        options = [part for name, path in folders.items() for part in (f"--{name}-configs-dir", str(path))]
        setup = self._with_environment([*java, "kafka.docker.KafkaDockerWrapper", "setup", *options])
        done = subprocess.run(setup, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [*java, "kafka.Kafka", str(self.properties)]


class Stack:
    """All that runs."""

    def __init__(self, here: Here, services: Mapping[str, Service]) -> None:
        self.here, self.services = here, services
        self.url = f"http://{services['serve'].address}"
        lines = (here.secrets / "api_keys").read_text().splitlines()
        secrets = {line.partition(":")[0].partition("+")[0]: line.partition(":")[2] for line in lines}
        self.app_key, self.ops_key = secrets["app"], secrets["ops"]
        self.metrics_key = (here.secrets / "metrics_key").read_text().strip()

    def redis(self, **credentials: str) -> Redis:
        return Redis(port=self.here.redis, retry=None, **credentials)


@pytest.fixture(scope="module")
def stack(
    kafka_program: Kafka,
    redis_program: RedisProgram,
    lacking: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    if kafka_program.host != Local() or redis_program.host != Local():
        lacking("Kafka and Redis are Docker's here; this runs what is installed")
    here = Here(tmp_path_factory.mktemp("compose"))
    ours = [sys.executable, "-P", "-m", "streamlearn"]
    services: dict[str, Service] = {"kafka": ImageOfKafka(here, kafka_program), "redis": Service(here, "redis", [])}
    services |= {role: Service(here, role, ours) for role in ROLES}
    with ExitStack() as running:
        for service in services.values():
            running.callback(service.kill)
        for names in (("kafka", "redis"), ROLES):  # in the order of depends_on
            for name in names:
                services[name].launch()
            for name in names:
                services[name].await_ready(120)
        yield Stack(here, services)


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def learn_flights(client: Client) -> None:
    """Have 400 flights learned, by whichever test comes first."""
    client.send(
        {"stream": "flights", "id": f"f{n}", "key": f"k{n % 7}", "x": {"distance": n % 100}, "y": n % 100 > 50}
        for n in range(400)
    )
    wait_for(lambda: client.models()[0].n == 400)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(300)
class TestRunHere:
    def test_every_service_that_can_be_run_here_is(self, stack: Stack) -> None:
        assert set(stack.services) == RUN_HERE
        assert set(SERVICES) - RUN_HERE == {"prometheus", "grafana"}
        assert all(service.answers() for service in stack.services.values())

    def test_kafka_takes_every_variable(self, stack: Stack) -> None:
        kafka = stack.services["kafka"]
        assert isinstance(kafka, ImageOfKafka)
        lines = dict(line.split("=", 1) for line in kafka.properties.read_text().splitlines() if "=" in line)
        wanted = {
            key.removeprefix("KAFKA_").lower().replace("_", "."): value
            for key, value in kafka.environ.items()
            if key.startswith("KAFKA_") and key != "KAFKA_HEAP_OPTS"
        }
        assert lines == wanted
        assert f"cluster.id={kafka.environ['CLUSTER_ID']}" in (kafka.folder / "data" / "meta.properties").read_text()
        assert known_brokers(stack.here.backend) == {1: f"{LOOPBACK}:{stack.here.backend}"}
        assert known_brokers(stack.here.host) == {1: f"{LOOPBACK}:{stack.here.host}"}

    def test_redis_lets_in_the_service_alone_and_shows_no_password(self, stack: Stack) -> None:
        password = (stack.here.secrets / "redis_password").read_text().strip()
        with stack.redis() as nobody, pytest.raises(AuthenticationError):
            nobody.ping()
        with stack.redis(username="streamlearn", password=password) as service:
            assert service.ping()
            with pytest.raises(NoPermissionError):
                service.set("others", "x")
            with pytest.raises(NoPermissionError):
                service.flushall()
            assert service.dbsize() > 0  # the roles keep their things there
        assert password not in " ".join(psutil.Process(stack.services["redis"].pid).cmdline())

    def test_redis_takes_its_bounds(self, stack: Stack) -> None:
        password = (stack.here.secrets / "redis_password").read_text().strip()
        with stack.redis(username="streamlearn", password=password) as service:
            memory, persistence = service.info("memory"), service.info("persistence")
        assert (memory["maxmemory"], memory["maxmemory_policy"]) == (1 << 30, "noeviction")
        assert persistence["aof_enabled"] == 1

    def test_the_roles_settings_are_those_of_the_file(self, stack: Stack) -> None:
        serve = stack.services["serve"]
        settings = load(serve.folder / "service.toml", serve.environ)
        assert (settings.log.backend, settings.store.backend) == ("kafka", "redis")
        assert (settings.log.kafka.replication, settings.log.kafka.min_insync) == (1, 1)
        assert not (serve.folder / "data" / "secret.key").exists(), "the signing keys come from the secret"

    def test_nobody_without_a_key_is_let_in(self, stack: Stack) -> None:
        assert httpx.get(f"{stack.url}/v1/models").status_code == 401
        assert httpx.get(f"{stack.url}/healthz").status_code == 200

    def test_each_key_does_what_it_is_for(self, stack: Stack) -> None:
        def asked(key: str, method: str, path: str) -> int:
            return httpx.request(method, f"{stack.url}{path}", headers={"X-API-Key": key}).status_code

        for key, reads, acts in ((stack.app_key, 200, 403), (stack.metrics_key, 200, 403), (stack.ops_key, 200, 404)):
            assert asked(key, "GET", "/metrics") == reads
            assert asked(key, "POST", "/v1/models/nosuch/hold") == acts
        assert asked(stack.metrics_key, "POST", "/v1/events") == 403

    def test_events_are_learned_and_predicted_from(self, stack: Stack) -> None:
        with Client(stack.url, api_key=stack.app_key) as client:
            learn_flights(client)
            answer = client.predict("delays", {"distance": 99}, key="k1")
            assert answer.prediction is True
            assert client.ready().degraded == []

    def test_what_prometheus_and_grafana_ask_for_is_told(self, stack: Stack) -> None:
        config = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
        [job] = config["scrape_configs"]
        assert job["static_configs"] == [{"targets": ["serve:8321"]}]
        assert job["authorization"]["credentials_file"].removeprefix("/run/secrets/") in SERVICES["prometheus"]["secrets"]
        targets = {each["target"] for each in SERVICES["prometheus"]["configs"]}
        assert {*config["rule_files"], "/etc/prometheus/prometheus.yml"} == targets
        headers = {"Authorization": f"{job['authorization']['type']} {stack.metrics_key}"}
        with Client(stack.url, api_key=stack.app_key) as client:
            learn_flights(client)
            client.predict("delays", {"distance": 99}, key="k1")

        def scrape() -> str:
            scraped = httpx.get(f"{stack.url}{job['metrics_path']}", headers=headers)
            assert scraped.status_code == 200
            return scraped.text

        groups = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        asked = [rule["expr"] for rule in rules] + [query for board in BOARDS.values() for query in queries(board)]
        recorded = {rule["record"] for rule in rules if "record" in rule}
        found = {name for name in re.findall(r"[\w:]*streamlearn_[\w:]+", " ".join(asked)) if name not in recorded}
        wanted = found - set(NOT_YET)
        assert len(wanted) >= 30
        assert set(NOT_YET) <= found

        def missing() -> set[str]:
            return wanted - set(re.findall(r"(?m)^(streamlearn_\w+)[ {]", scrape()))

        wait_for(lambda: not missing())
        told = scrape()
        for name, label, value in re.findall(r'(streamlearn_\w+)\{(?:[^}]*,)?(\w+)="(\w+)"\}', " ".join(asked)):
            if name in NOT_YET or value in RECOMMENDERS or value == "ndcg":
                continue
            assert re.search(rf'(?m)^{name}{{.*{label}="{value}"', told), f"{name} has no {label}={value}"

    def test_a_second_learner_takes_its_share(self, stack: Stack) -> None:
        ours = [sys.executable, "-P", "-m", "streamlearn"]
        with Service(stack.here, "learn", ours, replica=2) as second:
            wait_for(lambda: '"shard": ' in second.log.read_text())
            assert second.answers()
        wait_for(stack.services["learn"].answers)

    def test_each_role_ends_well_when_it_is_asked_to(self, stack: Stack) -> None:
        for role in ROLES:
            service = stack.services[role]
            service.stop()
            lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
            assert json.dumps(lines[-1]).count("ended") == 1
            assert not [line for line in lines if str(line.get("level", "")).upper() in ("ERROR", "CRITICAL")]


class TestGrafana:
    def test_the_board_and_its_source_are_where_grafana_looks(self) -> None:
        mounted = {each["source"]: each["target"] for each in SERVICES["grafana"]["configs"]}
        source = yaml.safe_load((ROOT / "docker" / "grafana-datasource.yml").read_text())["datasources"][0]
        provider = yaml.safe_load((ROOT / "docker" / "grafana-dashboards.yml").read_text())["providers"][0]
        for name in BOARDS:
            assert Path(mounted[f"dashboard-{name}"]).parent == Path(provider["options"]["path"])
        assert mounted["grafana-datasource"].startswith("/etc/grafana/provisioning/datasources/")
        assert mounted["grafana-dashboards"].startswith("/etc/grafana/provisioning/dashboards/")
        assert source["url"] == "http://prometheus:9090"

    @pytest.mark.parametrize("name", sorted(BOARDS))
    def test_a_board_asks_the_source_alone_and_its_panels_do_not_overlap(self, name: str) -> None:
        board = BOARDS[name]
        source = yaml.safe_load((ROOT / "docker" / "grafana-datasource.yml").read_text())["datasources"][0]
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        sources = [*panels, *board["templating"]["list"], *board["annotations"]["list"]]
        assert {one["datasource"]["uid"] for one in sources} == {source["uid"]}
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        cells = [
            (x, y)
            for at in (panel["gridPos"] for panel in board["panels"])
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24

    def test_boards_show_drift_retrains_and_promotions_and_lead_to_each_other(self) -> None:
        assert {board["uid"] for board in BOARDS.values()} == {f"streamlearn-{name}" for name in BOARDS}
        for board in BOARDS.values():
            names = {note["name"] for note in board["annotations"]["list"] if note["enable"]}
            assert {"Drift alarm", "Drift confirmed", "Retrain", "Promotion", "Rollback"} <= names
            assert board["links"]
            for link in board["links"]:
                assert link["url"].removeprefix("/d/") in {other["uid"] for other in BOARDS.values() if other is not board}
