"""What check finds: each fault with its key and its fix, all at once; and pipelines that two replays tell apart."""

from __future__ import annotations

import os
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import check as module
from streamlearn.cli import rehearsal
from streamlearn.cli.check import Finding, findings
from streamlearn.cli.main import app
from streamlearn.cli.rehearsal import SETTLED_S, Rehearsal, made_up, rehearse, rehearse_twice
from streamlearn.cli.wiring import open_log, read_settings
from streamlearn.config import Settings
from streamlearn.errors import ModelError
from streamlearn.log import Entry

STREAM = "[streams.s]\n"
MODEL = STREAM + '[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n'
FREE = "[serve]\nport = 0\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "path", list(sys.path))

    def written(text: str) -> tuple[Path, Settings]:
        file = tmp_path / "s.toml"
        file.write_text('data_dir = "data"\n' + FREE + text)
        return file, read_settings(file, {})

    return written


@pytest.fixture
def same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsals that went well, without the processes."""
    went_well = {"m": Rehearsal(True, "", "d", "made-up")}
    monkeypatch.setattr(rehearsal, "rehearse_twice", lambda *_: [went_well, went_well])


def found(file: Path, settings: Settings, **environ: str) -> list[Finding]:
    return list(findings(file, settings, environ))


@pytest.mark.usefixtures("same")
def test_a_sound_configuration_has_nothing_to_say(write) -> None:
    assert found(*write(MODEL)) == []


@pytest.mark.usefixtures("same")
@pytest.mark.parametrize(
    ("text", "environ", "level", "key", "words"),
    [
        (STREAM, {}, "warning", "models", "there is none"),
        (MODEL + "[streams.t]", {}, "note", "streams.t", "no model reads it"),
        (MODEL.replace("[models.m]", "partitions = 4\n[models.m]"), {}, "note", "models.m", "4 partitions"),
        (MODEL + "[log]\nretention_hours = 30", {}, "warning", "log.retention_hours", "Write at least 216, or 0"),
        (
            MODEL + "retrain.window_s = 3600\n[log]\nretention_hours = 48.5", {},
            "warning", "log.retention_hours", "may read 1 h before that again (retrain.window_s). Write at least 49, or 0",
        ),
        (
            MODEL + 'retrain.strategy = {window = "days", days = 9.5}', {},
            "warning", "models.m.retrain.strategy.days", "for 168 h (retrain.window_s): of older records a fit learns those",
        ),
        (
            MODEL + 'retrain.strategy = {window = "days", days = 9.5}', {},
            "warning", "models.m.retrain.strategy.days", "Write window_s = 820800",
        ),
        (MODEL + "[models.m.retrain]\ncatch_up_records = 30000", {}, "error", "models.m.retrain.catch_up_records", "20000"),
        (
            MODEL.replace("[models.m]", "allowed_lateness_s = 1e9\n[models.m]"), {},
            "warning", "streams.s.allowed_lateness_s", "week",
        ),
        (
            MODEL + 'drift.detectors = [{name = "adwin", params = {detla = 1}}]', {},
            "error", "models.m.drift.detectors.adwin.params.detla", "no such parameter. Use some of delta",
        ),
        (
            MODEL + 'retrain.strategy.how = "search"\nretrain.search.candidates = [{pipeline = "logistc"}]', {},
            "error", "models.m.retrain.search.candidates[0]", "did you mean logistic?",
        ),
        (
            MODEL + 'retrain.strategy.how = "search"\nretrain.search.batch_only = "refresh"', {},
            "warning", "models.m.retrain.search.batch_only", "add a schedule to retrain.policies",
        ),
        (
            MODEL + 'retrain.policies = [{name = "debt"}, {name = "dept"}]', {},
            "error", "models.m.retrain.policies[1].name", "there is no policy 'dept'. Did you mean debt?",
        ),
        (
            MODEL + 'retrain.policies = [{name = "cron", params = {schedule = "30 3 * *"}}]', {},
            "error", "models.m.retrain.policies[0].params.schedule", "is not five fields. Write minute, hour",
        ),
        (
            MODEL + 'retrain.policies = [{name = "upf"}]', {},
            "error", "models.m.retrain.policies[0].params.origin", "Run `streamlearn policy-bench`",
        ),
        (MODEL, {"STREAMLEARN_KEYS": "k:xyz"}, "error", "STREAMLEARN_KEYS", "not hexadecimal"),
        (MODEL, {"STREAMLEARN_KEYS_FILE": "/none"}, "error", "STREAMLEARN_KEYS_FILE", "/none cannot be read"),
        (MODEL, {"STREAMLEARN_API_KEYS": "secret"}, "error", "STREAMLEARN_API_KEYS", "not name:secret"),
    ],
)  # fmt: skip
def test_each_fault_has_its_key_and_its_fix(
    write, text: str, environ: dict[str, str], level: str, key: str, words: str
) -> None:
    [finding] = found(*write(text), **environ)
    assert (finding.level, finding.key) == (level, key)
    assert words in finding.text


def test_a_pipeline_that_learns_a_window_at_once_is_refused_with_the_way_out(write) -> None:
    _, settings = write(MODEL.replace("logistic", "sklearn.linear_model:LogisticRegression"))
    told = rehearse(settings, "m", [])
    assert not told.built
    assert "name it among the candidates of a search" in told.problem


@pytest.mark.usefixtures("same")
def test_all_that_is_wrong_with_a_policy_is_told_with_its_place(write) -> None:
    policies = 'retrain.policies = [{name = "never"}, {name = "cron", params = {timezone = "Mars", window = "1-2"}}]'
    told = found(*write(MODEL + policies))
    assert [(finding.level, finding.key.removeprefix("models.m.retrain.")) for finding in told] == [
        ("error", "policies[1].params.schedule"),
        ("error", "policies[1].params.timezone"),
        ("error", "policies[1].params.window"),
    ]


@pytest.mark.usefixtures("same")
def test_the_next_moment_of_a_schedule_is_told(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1_788_000_000.0)  # 2026-08-29 10:40 UTC
    cron = 'retrain.policies = [{name = "cron", params = {schedule = "30 3 * * *", timezone = "Europe/Vienna"}}]'
    assert found(*write(MODEL + cron)) == [
        Finding("note", "models.m.retrain.policies[0]", "the next moment of 30 3 * * * is 2026-08-30 03:30 CEST")
    ]


@pytest.mark.usefixtures("same")
def test_an_address_that_others_reach_needs_a_key(write) -> None:
    file, settings = write(MODEL)
    open_to_all = settings.model_copy(update={"serve": settings.serve.model_copy(update={"host": "0.0.0.0"})})
    [finding] = found(file, open_to_all)
    assert (finding.level, finding.key) == ("error", "serve.host")
    assert "STREAMLEARN_API_KEYS" in finding.text
    assert found(file, open_to_all, STREAMLEARN_API_KEYS="app:0123456789abcdef") == []


DASK = '[executor]\nbackend = "dask"\n'
HOST = 'dask.scheduler = "{}"\n'


@pytest.mark.usefixtures("same")
@pytest.mark.parametrize(
    ("address", "workers", "words"),
    [
        ("tcp://127.0.0.1:8786", 2, []),
        ("tcp://localhost:8786", 0, ["has no worker, so none retrains. Start one"]),
        ("tcp://[::1]:8786", 1, []),
        ("tls://10.0.0.7:8786", 2, ["run all of them on this machine, or take log.backend"]),
        ("tcp://dask.internal:8786", 2, ["run all of them on this machine", "in the clear, and whoever reaches it runs code"]),
    ],
)
def test_a_cluster_that_is_there(write, monkeypatch: pytest.MonkeyPatch, address: str, workers: int, words: list[str]) -> None:
    from streamlearn.retrain import cluster

    monkeypatch.setattr(cluster, "ask", lambda asked: {address: workers}[asked])
    findings = found(*write(MODEL + DASK + HOST.format(address)))
    assert len(findings) == len(words)
    for finding, some in zip(findings, words, strict=True):
        assert (finding.level, finding.key.partition(".")[0]) == ("warning", "executor")
        assert some in finding.text


@pytest.mark.slow
@pytest.mark.usefixtures("same")
def test_a_cluster_that_does_not_answer_is_an_error(write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        [finding] = found(*write(MODEL + DASK + HOST.format(address)))
    assert (finding.level, finding.key) == ("error", "executor.dask.scheduler")
    assert f"the Dask scheduler at {address} does not answer" in finding.text
    assert "Start it, or write where it is" in finding.text


@pytest.mark.usefixtures("same")
def test_dask_that_is_not_installed_is_an_error(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "streamlearn.retrain.cluster", raising=False)
    [finding] = found(*write(MODEL + DASK))
    assert (finding.level, finding.key) == ("error", "executor.backend")
    assert "pip install 'streamlearn[dask]'" in finding.text


@pytest.mark.usefixtures("same")
def test_a_port_that_is_taken_is_a_warning(write) -> None:
    file, settings = write(MODEL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [finding] = found(file, settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": port})}))
    assert (finding.level, finding.key) == ("warning", "serve.port")
    assert f"port {port} on 127.0.0.1 cannot be had (Address already in use)" in finding.text


@pytest.mark.usefixtures("same")
def test_the_log_must_have_the_streams_as_configured(write) -> None:
    _, before = write(MODEL + "[streams.old]")
    open_log(before).close()
    one, two = sorted(found(*write(MODEL.replace("[models.m]", "partitions = 2\n[models.m]"))))[:2]
    assert (one.level, one.key) == ("error", "streams.s.partitions")
    assert "is 2, but the log has" in one.text
    assert "has this stream with 1. Write 1, or" in one.text
    assert two == Finding("note", "models.m", two.text)
    assert [finding.key for finding in found(*write(MODEL))] == ["streams.old"]


@pytest.mark.usefixtures("same")
def test_a_log_that_is_none_is_an_error(write, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.sqlite").write_text("no database at all, but longer than the header of one")
    [finding] = found(*write(MODEL))
    assert (finding.level, finding.key) == ("error", "data_dir")


@pytest.mark.usefixtures("same")
def test_a_folder_that_cannot_be_written(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    [finding] = found(*write(MODEL))
    assert finding == Finding(
        "error", "data_dir", f"{tmp_path}/data cannot be made in {tmp_path} (Permission denied). Name a folder that can"
    )


def rehearsed(monkeypatch: pytest.MonkeyPatch, first: Rehearsal, second: Rehearsal) -> None:
    monkeypatch.setattr(rehearsal, "rehearse_twice", lambda *_: [{"m": first}, {"m": second}])


@pytest.mark.parametrize(
    ("pipeline", "one", "level", "words"),
    [
        ("logistic", Rehearsal(False, "there is no recipe 'x'", "", ""), "error", "there is no recipe 'x'"),
        ("logistic", Rehearsal(True, "raised E: e", "", "made-up"), "error", "raised E: e, on made-up events"),
        ("a.b:c", Rehearsal(True, "raised E: e", "", "made-up"), "warning", "on made-up events; send some events and check"),
        ("a.b:c", Rehearsal(True, "raised E: e", "", "log"), "error", "raised E: e, on log events"),
        ("a.b:c", Rehearsal(True, "", "other", "log"), "error", "two runs over the same events differ"),
    ],
)
def test_a_pipeline_that_fails(
    write, monkeypatch: pytest.MonkeyPatch, pipeline: str, one: Rehearsal, level: str, words: str
) -> None:
    rehearsed(monkeypatch, one, Rehearsal(True, "", "d", "log"))
    [finding] = found(*write(MODEL.replace("logistic", pipeline)))
    assert (finding.level, finding.key) == (level, "models.m.pipeline")
    assert words in finding.text


# Rehearsals, in this process.


@pytest.mark.parametrize(("task", "pipeline"), [("binary", "logistic"), ("multiclass", "softmax"), ("regression", "linear")])
def test_a_recipe_is_rehearsed_on_made_up_events(write, task: str, pipeline: str) -> None:
    _, settings = write(MODEL.replace("binary", task).replace("logistic", pipeline))
    one, two = (rehearse(settings, "m", []) for _ in range(2))
    assert (one.built, one.problem, one.source) == (True, "", "made-up")
    assert len(one.digest) == 64
    assert one == two


def test_what_is_learned_changes_the_digest(write) -> None:
    _, settings = write(MODEL)
    events = [(x, index % 3 == 0) for index, (x, _) in enumerate(made_up())]
    other = [(x, index % 4 == 0) for index, (x, _) in enumerate(made_up())]
    assert rehearse(settings, "m", events).digest != rehearse(settings, "m", other).digest


def test_events_that_the_learner_would_set_aside_are_passed_over(write) -> None:
    _, settings = write(MODEL)
    good = [({"v": 1.0}, True), ({"v": 2.0}, False)]
    odd = [good[0], ({"v": "text"}, True), ({"v": 3.0}, "no label"), good[1]]
    assert rehearse(settings, "m", odd) == rehearse(settings, "m", good)


def test_a_recipe_that_is_not_there_is_not_built(write) -> None:
    _, settings = write(MODEL.replace("logistic", "logistik"))
    one = rehearse(settings, "m", [])
    assert not one.built
    assert "did you mean logistic?" in one.problem


@pytest.mark.parametrize(("metric", "built"), [("log_loss", False), ("accuracy", True)])
def test_a_guardrail_on_probabilities_needs_a_pipeline_that_gives_them(write, tmp_path: Path, metric: str, built: bool) -> None:
    (tmp_path / "hard_pipeline.py").write_text(
        "from river import base\n"
        "class Hard(base.Classifier):\n"
        "    def learn_one(self, x, y): pass\n"
        "    def predict_one(self, x): return True\n"
        "    def predict_proba_one(self, x): raise NotImplementedError\n"
        "def hard(): return Hard()\n"
    )
    guard = f'[[models.m.trial.guardrails]]\nmetric = "{metric}"\nabsolute = 0.1\n'
    _, settings = write(MODEL.replace("logistic", "hard_pipeline:hard") + guard)
    one = rehearse(settings, "m", [])
    assert one.built is built
    assert ("no probabilities, which the guardrail on log_loss needs" in one.problem) is not built


PIPELINES = '''
import random
from river import linear_model

class Wild(linear_model.LogisticRegression):
    def learn_one(self, x, y):
        self.noise = random.random()
        super().learn_one({name: value for name, value in x.items() if not isinstance(value, str)}, y)
    def predict_proba_one(self, x):
        return {True: 0.5, False: 0.5}

class Fussy(Wild):
    def learn_one(self, x, y):
        x["amount"]

class Hashed(Wild):
    def learn_one(self, x, y):
        self.noise = hash("text")

def wild(): return Wild()
def fussy(): return Fussy()
def hashed(): return Hashed()
def tame(seed): return linear_model.LogisticRegression() if seed == 42 else None
def hangs():
    import time
    time.sleep(60)
def crashes():
    import os
    print("told on stdout"); os.write(2, b"told on stderr\\n"); os._exit(9)
'''


@pytest.fixture
def pipelines(tmp_path: Path, write) -> object:
    (tmp_path / "mine.py").write_text(textwrap.dedent(PIPELINES))

    def configured(*names: str) -> tuple[Path, Settings]:
        models = [f'[models.{name}]\nstream = "s"\ntask = "binary"\npipeline = "mine:{name}"\n' for name in names]
        return write(STREAM + "".join(models))

    return configured


def invoke(file: Path, code: int) -> Result:
    result = CliRunner().invoke(app, ["check", str(file)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.slow
def test_pipelines_of_ones_own_are_found_beside_the_configuration_and_tried_twice(pipelines) -> None:
    file, _ = pipelines("wild", "fussy", "hashed")
    lines = invoke(file, 1).stderr.splitlines()
    assert [line.split(":")[:2] for line in lines[:3]] == [
        ["error", " models.wild.pipeline"],
        ["warning", " models.fussy.pipeline"],
        ["error", " models.hashed.pipeline"],
    ]
    assert "two runs over the same events differ" in lines[0]
    assert "raised KeyError: 'amount', on made-up events" in lines[1]
    assert "two runs over the same events differ" in lines[2]
    assert lines[3] == f"{file}: 2 errors"


@pytest.mark.slow
def test_events_of_the_log_are_used_when_there_are_some(pipelines) -> None:
    file, settings = pipelines("fussy")
    log = open_log(settings)
    log.append("s", [Entry(b"k", b'{"stream":"s","id":"%d","x":{"amount":%d},"y":true}' % (n, n)) for n in range(5)]).result()
    log.close()
    time.sleep(SETTLED_S + 0.1)
    first, second = rehearse_twice(file, dict(os.environ))
    assert first == second
    assert (first["fussy"].problem, first["fussy"].source) == ("", "log")


@pytest.mark.slow
def test_a_pipeline_that_hangs_or_crashes_takes_nothing_along(pipelines) -> None:
    environ = dict(os.environ)
    file, _ = pipelines("crashes")
    with pytest.raises(ModelError, match="exit code 9: told on stderr"):
        rehearse_twice(file, environ)
    file, _ = pipelines("hangs")
    with pytest.raises(ModelError, match="within 1 s"):
        rehearse_twice(file, environ, limit_s=1)


@pytest.mark.slow
def test_ok_says_what_there_is(write) -> None:
    file, _ = write(MODEL)
    lines = invoke(file, 0).stdout.splitlines()
    assert lines[0].split() == ["model", "stream", "partitions", "task", "pipeline", "label", "wait"]
    assert lines[1].split() == ["m", "s", "1", "binary", "logistic", "24", "h"]
    assert lines[2] == f"{file}: ok"
    assert not (file.parent / "data").exists()


def test_a_file_that_does_not_load_is_explained_whole(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('[serve]\nport = -1\nprot = 2\n[models.m]\nstream = "t"\n')
    lines = invoke(file, 1).stderr.splitlines()
    assert lines.pop() == f"{file}: 5 errors; pipelines, folder, port and log are tried once it loads"
    assert sorted(line.split(":")[1].strip() for line in lines) == [
        "models.m.pipeline", "models.m.task", "serve.port", "serve.prot", "streams",
    ]  # fmt: skip


@pytest.mark.usefixtures("same")
def test_traces_without_their_library_are_an_error(write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    [finding] = found(*write(MODEL), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert (finding.level, finding.key) == ("error", "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert "pip install 'streamlearn[otel]'" in finding.text


@pytest.mark.usefixtures("same")
def test_what_notifications_need_is_looked_at(write) -> None:
    text = '[notify.targets.ops]\nurl = "https://no-such-host.invalid/"\nsecret_file = "/none"\n'
    assert [(one.level, one.key) for one in found(*write(MODEL + text))] == [("error", "notify.targets.ops.secret_file")]
