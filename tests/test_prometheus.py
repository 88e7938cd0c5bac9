"""Prometheus: the alert rules by promtool, and a real one that scrapes the real service through a scripted drift.

Every query of the Grafana boards and every alert's expression is run against that Prometheus over HTTP.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
import yaml

from streamlearn.cli.ports import free_port
from streamlearn.client import Client

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
GROUPS: list[dict[str, Any]] = yaml.safe_load((DOCKER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"]: rule for group in GROUPS for rule in group["rules"] if "record" in rule}
TESTS: dict[str, Any] = yaml.safe_load((DOCKER / "alerts.test.yml").read_text(encoding="utf-8"))
BOARDS = {
    name: json.loads((DOCKER / f"dashboard-{name}.json").read_text(encoding="utf-8"))
    for name in ("fleet", "model", "recommender")
}
CONFIG = """
data_dir = "data"
[serve]
port = 0
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "hoeffding_tree"
params = { max_depth = 1, grace_period = 100 }
checkpoint = { interval_s = 1 }
[models.m.drift]
detectors = [{ name = "page_hinkley", params = { threshold = 30.0, delta = 0.05 } }]
window = 300
[models.m.trial]
min_events = 300
watch_events = 600
canary_events = 50
[streams.visits]
allowed_lateness_s = 1
[models.shop]
stream = "visits"
task = "recommend"
pipeline = "logistic"
checkpoint = { interval_s = 1 }
[models.shop.recommend]
exact_items = 20
window_s = 10
item_fields = ["kind"]
"""
SETTINGS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [RULES]
scrape_configs:
  - job_name: streamlearn
    metrics_path: /metrics
    static_configs: [{targets: ["ADDRESS"]}]
"""
POST_S = 0.1  # a batch of BATCH events every so often
BATCH = 60
ITEMS = 60  # more than `exact_items`, so that there is an index
MOST_SERIES = 700


@pytest.fixture(scope="module", autouse=True)
def tools(lacking: Callable[[str], NoReturn]) -> None:
    for name in ("promtool", "prometheus"):
        if shutil.which(name) is None:
            lacking(f"there is no {name}: install Debian's package prometheus")


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False, timeout=100)


class TestRules:
    def test_the_rules_are_sound(self, tmp_path: Path) -> None:
        done = promtool("check", "rules", DOCKER / "alerts.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        wrong = tmp_path / "wrong.yml"
        wrong.write_text("groups: [{name: a, rules: [{alert: B, expr: 'rate(x)'}]}]")
        assert promtool("check", "rules", wrong).returncode != 0

    @pytest.mark.slow
    def test_every_alert_fires_when_it_must_and_not_before(self) -> None:
        done = promtool("test", "rules", DOCKER / "alerts.test.yml")
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.slow
    def test_the_tests_see_a_wrong_rule(self, tmp_path: Path) -> None:
        """Of one alert alone: all of them take half a minute of the machine."""
        rules = (DOCKER / "alerts.yml").read_text(encoding="utf-8")
        tests = [test for test in TESTS["tests"] if any(one["alertname"] == "LagGrows" for one in test["alert_rule_test"])]
        (tmp_path / "alerts.test.yml").write_text(yaml.safe_dump(TESTS | {"tests": tests}))
        (tmp_path / "alerts.yml").write_text(rules)
        assert promtool("test", "rules", tmp_path / "alerts.test.yml").returncode == 0
        (tmp_path / "alerts.yml").write_text(rules.replace("> 10000", "> 1000000"))
        done = promtool("test", "rules", tmp_path / "alerts.test.yml")
        assert done.returncode != 0
        assert "LagGrows" in done.stdout + done.stderr

    def test_prometheus_takes_its_configuration(self, tmp_path: Path) -> None:
        text = (DOCKER / "prometheus.yml").read_text()
        (tmp_path / "key").touch()
        text = text.replace("/etc/prometheus/alerts.yml", str(DOCKER / "alerts.yml")).replace(
            "/run/secrets/metrics_key", str(tmp_path / "key")
        )
        (tmp_path / "prometheus.yml").write_text(text)
        done = promtool("check", "config", tmp_path / "prometheus.yml")
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("name", sorted(ALERTS))
    def test_each_is_tested_where_it_fires_and_where_it_does_not(self, name: str) -> None:
        tests = [test for group in TESTS["tests"] for test in group["alert_rule_test"] if test["alertname"] == name]
        assert any(test.get("exp_alerts") for test in tests)
        assert any(not test.get("exp_alerts") for test in tests)

    @pytest.mark.parametrize("name", sorted(ALERTS))
    def test_each_says_how_bad_it_is_what_it_saw_and_where_to_read_on(self, name: str) -> None:
        rule = ALERTS[name]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert "{{ $" in rule["annotations"]["description"] or name == "ControlIsSilent"


class Feed(threading.Thread):
    """Posts labelled events and asks for predictions until told to stop; once `turned`, labels depend on another feature."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="feed")
        self.turned, self.halt, self.error = threading.Event(), threading.Event(), None
        self._client, self._draw, self._count = client, random.Random(7), 0
        rare = {ITEMS - 1, ITEMS}
        client.send(
            [
                {"stream": "visits", "item": f"i{at}", "action": "$set", "x": {"kind": "rare" if at in rare else f"k{at % 5}"}}
                for at in range(1, ITEMS + 1)
            ]
        )

    def run(self) -> None:
        try:
            while not self.halt.wait(POST_S):
                self._post()
                self._visit()
        except Exception as error:  # told by the test
            self.error = error

    def _post(self) -> None:
        events, asked = [], None
        for _ in range(BATCH):
            self._count += 1
            a, b = self._draw.choice((0.0, 1.0)), self._draw.choice((0.0, 1.0))
            label = (b if self.turned.is_set() else a) > 0.5
            if self._draw.random() < 0.05:
                label = not label
            events.append({"stream": "s", "id": f"e{self._count}", "x": {"a": a, "b": b}, "y": label})
            asked = {"a": a, "b": b}
        if self._count % 600 == 0:
            events.append({"stream": "s", "id": f"odd{self._count}", "x": {"a": 0.0, "b": 0.0}, "y": "neither"})
        self._client.send(events)
        assert asked is not None
        self._client.predict("m", asked, id=f"q{self._count}")

    def _visit(self) -> None:
        """Somebody finds an item, is shown a slate and acts on it, sometimes on what it did not show."""
        user, found = f"u{self._draw.randrange(40)}", f"i{self._draw.randrange(1, ITEMS - 1)}"
        self._client.send([{"stream": "visits", "user": user, "item": found, "action": "view"}])
        if not self._count % 300:
            self._client.recommend("shop", user=user, where={"kind": "rare"}, k=5)
        slate = self._client.recommend("shop", user=user, k=5)
        if slate.items:
            item = self._draw.choice(slate.items).item if self._draw.random() < 0.9 else f"i{ITEMS}"
            self._client.send([{"stream": "visits", "user": user, "item": item, "action": "click", "id": slate.id}])


class Prometheus:
    """A real one over a folder."""

    def __init__(self, folder: Path, address: str) -> None:
        port = free_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        settings = SETTINGS.replace("RULES", str(DOCKER / "alerts.yml")).replace("ADDRESS", address)
        (folder / "prometheus.yml").write_text(settings)
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

    def get(self, path: str, **params: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def series(self, query: str, since: float) -> list[dict[str, Any]]:
        """What a graph from `since` to now shows."""
        now = time.time()
        found = self.get("query_range", query=query, start=since, end=now, step=2)["result"]
        return [one for one in found if any(value != "NaN" for _, value in one["values"])]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Scene:
    """The service, what is posted to it, and the Prometheus that scrapes it, once a drift has run its course."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.began = time.time()
        (folder / "s.toml").write_text(CONFIG)
        self.out, self.err = folder / "out", folder / "err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "streamlearn", "serve", "s.toml"], stdout=out, stderr=err, cwd=folder,
                env=kept | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        stack.callback(self.end_service)
        wait_for(lambda: re.search(r"API: http://\S+,", self.out.read_text()))
        found = re.search(r"API: (http://\S+),", self.out.read_text())
        assert found is not None
        self.url = found[1]
        self.prometheus = Prometheus(folder, self.url.removeprefix("http://"))
        stack.callback(self.prometheus.close)
        self.client = stack.enter_context(Client(self.url))
        self.client.wait_until_ready(60)
        self.feed = Feed(stack.enter_context(Client(self.url)))
        self.feed.start()
        stack.callback(self._end_feed)
        wait_for(lambda: self.model().n > 2000 and self.client.model("shop").n > 0)
        self.feed.turned.set()
        wait_for(lambda: self.decided().get("recovered"))
        wait_for(lambda: self.prometheus.series('streamlearn_store_size_bytes{model="shop"}', self.began))  # rarely looked at
        time.sleep(10)  # for rates over a minute to have what they need, and what was decided last to be scraped

    def model(self) -> Any:
        assert self.feed.error is None, self.feed.error
        return self.client.model("m")

    def decided(self) -> Mapping[str, int]:
        found: Mapping[str, int] = self.model().control.get("decisions", {})
        return found

    def _end_feed(self) -> None:
        self.feed.halt.set()
        self.feed.join(30)

    def end_service(self) -> None:
        if self.service.poll() is None:
            self.service.terminate()
            self.service.wait(60)


def wait_for(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def scene(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path_factory.mktemp("prometheus"), stack)


# What stays empty while nothing goes wrong, though the series it is made of are there. (Each alert is made to fire by
# docker/alerts.test.yml; that the series it asks for are there is held here, too.)
QUIET = {
    'model="m",kind=~"rolled_back|not_recovered"': "nothing is rolled back here",
    'model=~"m",kind=~"rolled_back|not_recovered"': "nothing is rolled back here",
    'model="m",kind=~"held|resumed"': "nobody holds it",
    'model=~"m",kind=~"held|resumed"': "nobody holds it",
}


def panels() -> Iterator[Any]:
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            model = "shop" if name == "recommender" else "m"
            for target in panel.get("targets", ()):
                yield pytest.param(filled(target["expr"], model), id=f"{name}-{panel['id']}{target['refId']}")
        for number, note in enumerate(board["annotations"]["list"]):  # of what the shop has had no drift to show
            yield pytest.param(filled(note["expr"]), id=f"{name}-note{number}")


def filled(query: str, model: str = "m") -> str:
    """A query as Grafana sends it, with the variables of the boards."""
    query = query.replace("$model", model).replace("$metric", "accuracy")
    assert "$" not in query
    return query


@pytest.mark.slow
@pytest.mark.timeout(400)
class TestRealPrometheus:
    def test_the_target_is_up_and_its_series_are_bounded(self, scene: Scene) -> None:
        [target] = scene.prometheus.get("targets", state="active")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        [up] = scene.prometheus.get("query", query='up{job="streamlearn"}')["result"]
        assert up["value"][1] == "1"
        [count] = scene.prometheus.get("query", query='count({__name__=~"streamlearn_.+"})')["result"]
        print(f"two models of one shard, one a recommender: {count['value'][1]} series")
        assert 150 < int(count["value"][1]) < MOST_SERIES

    def test_names_and_labels_keep_to_the_conventions(self, scene: Scene) -> None:
        text = httpx.get(f"{scene.url}/metrics", timeout=20).text
        assert "streamlearn_label_delay_events{" in text
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.stdout + done.stderr == ""

    def test_the_drift_was_seen_from_alarm_to_recovery(self, scene: Scene) -> None:
        found = {
            one["metric"]["kind"]: int(one["value"][1])
            for one in scene.prometheus.get("query", query='streamlearn_decisions_total{model="m"}')["result"]
        }
        for kind in ("case_opened", "confirmed", "retrain_started", "retrained", "trial_started", "promoted", "recovered"):
            assert found[kind] >= 1, kind
        assert found["rolled_back"] == 0
        [alarms] = scene.prometheus.get("query", query='streamlearn_drift_alarms_total{model="m"}')["result"]
        assert int(alarms["value"][1]) >= 1
        states = scene.prometheus.series('streamlearn_model_state{model="m"} == 1', scene.began)
        seen = {one["metric"]["state"] for one in states}
        assert "steady" in seen
        assert seen & {"trial", "canary", "watch"}  # each of these may end between two looks

    @pytest.mark.parametrize("query", list(panels()))
    def test_every_query_of_the_boards_has_data(self, scene: Scene, query: str) -> None:
        found = scene.prometheus.series(query, scene.began)
        if any(part in query for part in QUIET):
            assert found == []
            every = re.sub(r"(?s)^.*?(streamlearn_\w+\{[^}]*\}).*$", r"\1", query)
            assert scene.prometheus.series(every, scene.began), f"nothing is told of {every}"
        else:
            assert found

    @pytest.mark.parametrize("name", sorted(BOARDS))
    def test_every_variable_of_a_board_has_values(self, scene: Scene, name: str) -> None:
        for variable in BOARDS[name]["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            values = scene.prometheus.get(f"label/{found[2]}/values", **{"match[]": filled(found[1])})
            assert values

    @pytest.mark.parametrize("name", sorted(ALERTS | RECORDED))
    def test_every_rule_is_evaluated_and_asks_for_series_that_are_there(self, scene: Scene, name: str) -> None:
        rules = [rule for group in scene.prometheus.get("rules")["groups"] for rule in group["rules"]]
        [rule] = [rule for rule in rules if rule["name"] == name]
        assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
        expression = (ALERTS | RECORDED)[name]["expr"]
        scene.prometheus.get("query", query=expression)
        asked = set(re.findall(r"(?:streamlearn_\w+|model:\w+:\w+|\bup)(?:\{[^}]*\})?", expression))
        assert asked
        for selector in asked:
            selector = re.sub(r'status=~"5\.\."', 'status=~"2.."', selector)  # there is no error of its own here
            selector = re.sub(r'reason=~"orphan\|late"', 'reason=~"unknown_label"', selector)  # another reason
            assert scene.prometheus.get("query", query=selector)["result"], f"nothing is told of {selector}"

    def test_nothing_is_wrong(self, scene: Scene) -> None:
        firing = scene.prometheus.get("query", query='ALERTS{alertstate="firing"}')["result"]
        assert {one["metric"]["alertname"] for one in firing} <= {"DeadLettersRise"}

    def test_a_service_that_ends_is_seen_to_be_down(self, scene: Scene) -> None:
        scene.feed.halt.set()
        scene.feed.join(30)
        scene.end_service()
        wait_for(lambda: [one["value"][1] for one in scene.prometheus.get("query", query="up")["result"]] == ["0"], 20)
        wait_for(lambda: scene.prometheus.get("query", query='ALERTS{alertname="ServeIsDown"}')["result"], 20)
