"""Settings: what loads, what does not, and that every error names its key and its fix."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamlearn.config import RESERVED, ConfigErrors, DriftSettings, ModelSettings, Settings, load, parse
from streamlearn.config_drift import RECOMMEND
from streamlearn.config_errors import table_at
from streamlearn.errors import ConfigError

MINIMAL = '[streams.s]\n[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n'


def settings(text: str = MINIMAL, **environ: str) -> Settings:
    return parse(tomllib.loads(text), environ)


def errors(text: str, **environ: str) -> dict[str, str]:
    """Key → problem and fix of everything that is wrong with the text."""
    with pytest.raises(ConfigErrors) as caught:
        parse(tomllib.loads(text), environ)
    found = {error.key: f"{error.problem}. {error.fix}" for error in caught.value.errors}
    assert len(found) == len(caught.value.errors), "a key was told twice"
    return found


def test_a_minimal_file_gives_every_default() -> None:
    made = settings()
    assert (made.serve.host, made.serve.port) == ("127.0.0.1", 8321)
    assert made.streams["s"].partitions == 1
    assert made.models["m"].drift.detectors[1].params == {"threshold": 20.0, "delta": 0.005}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().serve.port = 1


def test_model_settings_survive_json() -> None:
    model = settings(MINIMAL + 'labels = [0, 1]\ndefault_label = 0\n[models.m.checkpoint]\ninterval_s = 3').models["m"]
    assert ModelSettings.model_validate_json(model.model_dump_json()) == model
    assert ModelSettings.model_validate(model.model_dump(mode="json")) == model


def test_all_errors_are_told_at_once() -> None:
    found = errors(
        """
        [serve]
        port = "8321"
        prot = 1
        [streams.a]
        partitions = 0
        [streams.B]
        [models.m]
        stream = "c"
        task = "binry"
        """
    )
    assert found == {
        "serve.port": "'8321' is not a whole number. Write one, without quotes",
        "serve.prot": "there is no such setting. Did you mean 'port'?",
        "streams.a.partitions": "0 is out of range. Write a number of at least 1",
        "streams.B": "is not a usable name. Use a–z, 0–9, - and _, 63 characters at most",
        "models.m.stream": "there is no stream 'c'. Write 'B', or add [streams.c]",
        "models.m.task": "'binry' is not known. Write one of 'binary', 'multiclass', 'regression', 'recommend'",
        "models.m.pipeline": "is missing. Add it",
    }


def test_the_text_of_the_error_holds_them_all() -> None:
    with pytest.raises(ConfigErrors) as caught:
        settings("[serve]\nport = -1\nhost = ''\n[streams.s]")
    assert isinstance(caught.value, ConfigError)
    assert str(caught.value).splitlines() == [
        "serve.host: is empty. Write a text that is not",
        "serve.port: -1 is out of range. Write a number of at least 0",
    ]


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("seed = true", "models.m.seed", "True is not a whole number"),
        ("seed = 1.5", "models.m.seed", "1.5 is not a whole number"),
        ("label_wait_s = nan", "models.m.label_wait_s", "nan is"),
        ("label_wait_s = inf", "models.m.label_wait_s", "inf is not a finite number. Write one"),
        ("label_wait_s = '1 day'", "models.m.label_wait_s", "'1 day' is not a number"),
        ("label_wait_s = 0", "models.m.label_wait_s", "Write a number above 0"),
        ("score_fading = 1", "models.m.score_fading", "Write a number below 1"),
        ("labels = 'ab'", "models.m.labels", "'ab' is not a list. Write it in brackets"),
        ("labels = [1, 2, 3]", "models.m.labels", "has two labels, not 3. Write [negative, positive]"),
        ("labels = ['a', 'a']", "models.m.labels", "one is given twice. List each once"),
        ("labels = [0.5, 'a']", "models.m.labels.0", "0.5 is not usable here"),
        ("labels = ['a', 'b']\ndefault_label = 'c'", "models.m.default_label", "Write one of ['a', 'b']"),
        ("labels = [0, 1]\ndefault_label = false", "models.m.default_label", "False is not one of labels"),
        ("default_label = 'no'", "models.m.default_label", "Write true or false, or declare labels"),
        ("default_label = 0.5", "models.m.default_label", "0.5 is not a label"),
        ("loss_scale = 2.0", "models.m.loss_scale", "a binary model has none. Remove the key"),
        ("retrain = 5", "models.m.retrain", "5 is not a table"),
        ("params = [1]", "models.m.params", "[1] is not a table"),
        ("drift = {detectors = []}", "models.m.drift.detectors", "Name at least one"),
        ("drift = {detectors = [{name = 'adwn'}]}", "models.m.drift.detectors.0.name", "Write one of 'adwin', 'page_hinkley'"),
        ("drift = {detectors = [{}]}", "models.m.drift.detectors.0.name", "is missing. Add it: one of 'adwin', 'page_hinkley'"),
        (
            "drift = {detectors = [{name = 'adwin', params = {delta = []}}]}",
            "models.m.drift.detectors.0.params.delta",
            "[] is not usable here",
        ),
        ("drift = {quorum = 3}", "models.m.drift.quorum", "3 can never agree, there are 2 detectors. Write fewer"),
        ("drift = {quorum = 'most'}", "models.m.drift.quorum", "'most'"),
        ("drift = {detectors = [{name = 'ddm', on = 'score'}]}", "models.m.drift.detectors", "it takes 0 and 1 alone"),
        ("drift = {detectors = [{name = 'eddm', every = 2}]}", "models.m.drift.detectors", "it takes 0 and 1 alone"),
        ("drift = {detectors = [{name = 'hddm_w', on = 'log_loss'}]}", "models.m.drift.detectors", "numbers from 0 to 1"),
        ("drift = {detectors = [{name = 'adwin', on = 'mae'}]}", "models.m.drift.detectors", "has no such metric"),
        ("drift = {max_reference = 100}", "models.m.drift.max_reference", "100 is below min_reference, 500"),
        ("trial = {tolerance = 1}", "models.m.trial.tolerance", "1 is out of range. Write a number below 1"),
        ("drift = {harm = -0.1}", "models.m.drift.harm", "-0.1 is out of range. Write a number of at least 0"),
        ("trial = {canary = [0.25, 0.05]}", "models.m.trial.canary", "do not rise. Write them in order, each once"),
        ("trial = {canary = [0.25, 0.25]}", "models.m.trial.canary", "do not rise"),
        ("trial = {canary = [0.25, 1.0]}", "models.m.trial.canary.1", "1.0 is out of range"),
        ("trial = {canary_events = 30000}", "models.m.trial.canary_events", "needs 60000 events, more than horizon_events"),
        ("trial = {horizon_events = 9}", "models.m.trial.horizon_events", "no trial could be won. Write a larger one"),
        ("chekpoint = {}", "models.m.chekpoint", "Did you mean 'checkpoint'?"),
        ("zzz = 1", "models.m.zzz", "there is no such setting. Remove it"),
        ("[models.m.publish]\nmin_intervall_s = 1", "models.m.publish.min_intervall_s", "Did you mean 'min_interval_s'?"),
    ],
)
def test_a_wrong_value_is_explained(line: str, key: str, message: str) -> None:
    found = errors(MINIMAL + line)
    assert list(found) == [key]
    assert message in found[key]


@pytest.mark.parametrize(
    ("task", "line", "wrong"),
    [
        ("regression", "default_label = 1.5", False),
        ("regression", "default_label = 2", False),
        ("regression", "default_label = true", True),
        ("regression", "default_label = 'x'", True),
        ("regression", "loss_scale = 3", False),
        ("regression", "labels = [1, 2]", True),
        ("multiclass", "labels = ['a', 'b', 'c']", False),
        ("multiclass", "labels = [1, true]", False),
        ("multiclass", "default_label = 'anything'", False),
        ("binary", "default_label = 1", False),
        ("binary", "labels = ['no', 'yes']\ndefault_label = 'no'", False),
    ],
)
def test_labels_fit_the_task(task: str, line: str, wrong: bool) -> None:
    text = MINIMAL.replace("binary", task) + line
    if wrong:
        assert list(errors(text)) == [f"models.m.{line.split()[0]}"]
    else:
        assert settings(text).models["m"].task == task


@pytest.mark.parametrize("name", ["B", "a.b", "-a", "a" * 64, "ä", ""])
def test_names_that_cannot_be_used(name: str) -> None:
    found = errors(f'[streams."{name}"]\n[streams.s]\n[models."{name}"]\nstream = "s"\ntask = "binary"\npipeline = "logistic"')
    assert sorted(found) == [f"models.{name}", f"streams.{name}"]


def test_no_stream_and_streams_that_are_no_table() -> None:
    assert errors("")["streams"] == "there is none. Add one, for instance [streams.clicks]"
    assert errors("streams = 3\nmodels = 4") == {
        "streams": "3 is not a table. Write it as a [table]",
        "models": "4 is not a table. Write it as a [table]",
    }


def test_the_nearest_stream_is_offered() -> None:
    found = errors(MINIMAL.replace('stream = "s"', 'stream = "flihgts"') + "[streams.flights]")
    assert found["models.m.stream"] == "there is no stream 'flihgts'. Write 'flights', or add [streams.flihgts]"


def test_the_environment_wins() -> None:
    made = settings(
        MINIMAL + "[serve]\nport = 1",
        STREAMLEARN_SERVE__PORT="9000",
        STREAMLEARN_SERVE__HOST="0.0.0.0",
        STREAMLEARN_MODELS__M__LABELS='["no", "yes"]',
        STREAMLEARN_STREAMS__EXTRA__PARTITIONS="4",
        PATH="/bin",
    )
    assert (made.serve.port, made.serve.host) == (9000, "0.0.0.0")
    assert made.models["m"].labels == ("no", "yes")
    assert made.streams["extra"].partitions == 4


def test_brokers_may_be_one_text_as_kafka_writes_them() -> None:
    found = settings(STREAMLEARN_LOG__KAFKA__BOOTSTRAP="one:9092, two:9093")
    assert found.log.kafka.bootstrap == ("one:9092", "two:9093")
    listed = settings(STREAMLEARN_LOG__KAFKA__BOOTSTRAP='["one:9092"]')
    assert listed.log.kafka.bootstrap == ("one:9092",)
    assert "'two'" in errors(MINIMAL, STREAMLEARN_LOG__KAFKA__BOOTSTRAP="one:9092,two")["log.kafka.bootstrap"]


def test_files_of_secrets_are_no_settings() -> None:
    assert settings(STREAMLEARN_KEYS_FILE="/run/secrets/keys", STREAMLEARN_API_KEYS_FILE="/run/secrets/api_keys") == settings()


def test_the_environment_does_not_change_the_tree_it_is_given() -> None:
    tree: dict[str, Any] = tomllib.loads(MINIMAL + "[serve]\nport = 1")
    parse(tree, {"STREAMLEARN_SERVE__PORT": "2"})
    assert tree["serve"]["port"] == 1


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_variables_that_are_no_settings_are_left_alone(name: str) -> None:
    assert settings(**{name: "anything"}) == settings()


def test_a_wrong_variable_is_named() -> None:
    assert errors(MINIMAL, STREAMLEARN_SERVE__PORT="99999") == {
        "serve.port": "99999 is out of range (set by STREAMLEARN_SERVE__PORT). Write a number of at most 65535"
    }
    assert "set by STREAMLEARN_FOO" in errors(MINIMAL, STREAMLEARN_FOO="1")["foo"]
    assert "is not a table" in errors("data_dir = 'x'", STREAMLEARN_DATA_DIR__X="1")["STREAMLEARN_DATA_DIR__X"]


def test_load_takes_data_dir_from_the_files_folder(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "s.toml"
    file.parent.mkdir()
    file.write_text('data_dir = "../data"\n' + MINIMAL)
    assert load(file, {}).data_dir == tmp_path / "data"
    assert load(file, {"STREAMLEARN_DATA_DIR": str(tmp_path / "other")}).data_dir == tmp_path / "other"


def test_load_expands_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "s.toml"
    file.write_text('data_dir = "~/here"\n' + MINIMAL)
    assert load(file, {}).data_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[serve", "not TOML"), (b"a = 1\na = 2", "not TOML"), (b"\xff\xfe", "not TOML"), (None, "no such file")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigErrors, match=message) as caught:
        load(file, {})
    assert caught.value.key == str(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load(tmp_path, {})


def test_table_at_follows_names_and_places() -> None:
    def fields(*path: str | int) -> set[str]:
        table = table_at(Settings, path)
        return set(table.model_fields) if table else set()

    assert "serve" in fields()
    assert "port" in fields("serve")
    assert "task" in fields("models", "anything")
    assert "alpha" in fields("models", "anything", "trial")
    assert fields("models", "m", "drift", "detectors", 0) == {"name", "on", "every", "params"}
    assert fields("serve", "port") == set()
    assert fields("nowhere") == set()


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("every_s = 0.5", "history.every_s", "1"),
        ("every_s = 60", "history.every_s", "10"),
        ("middle_days = 0.1", "history.middle_days", "fine_hours"),
        ("coarse_days = 2", "history.coarse_days", "middle_days"),
        ("coarse_days = 5000", "history.coarse_days", "ten years"),
        ("max_features = -1", "history.max_features", "0"),
        ("keep = 3", "history.keep", "no such"),
    ],
)
def test_wrong_history_settings_are_told(line: str, key: str, words: str) -> None:
    [(told, text)] = errors(f"{MINIMAL}[history]\n{line}").items()
    assert told == key
    assert words in text


@pytest.mark.parametrize(
    ("shop", "told"),
    [
        ("m", "the task of model 'm' is 'binary'. Write 'r'"),
        ("none", "there is no model 'none'. Write 'r'"),
        ("r", None),
        ("", None),
    ],
)
def test_a_shop_is_over_a_model_that_recommends(shop: str, told: str | None) -> None:
    text = MINIMAL + f'[models.r]\nstream = "s"\ntask = "recommend"\npipeline = "logistic"\n[serve]\nshop = "{shop}"\n'
    if told is None:
        assert settings(text).serve.shop == shop
    else:
        assert errors(text) == {"serve.shop": told}


def test_a_shop_without_any_model_that_recommends_says_what_to_do() -> None:
    found = errors(MINIMAL + '[serve]\nshop = "m"\n')
    assert found == {
        "serve.shop": "the task of model 'm' is 'binary'. Name a model with task = \"recommend\", or remove the key"
    }
    assert "is not a text" in errors(MINIMAL + "[serve]\nshop = 5\n")["serve.shop"]


def test_a_model_that_recommends_publishes_for_the_next_click_unless_it_is_told_otherwise() -> None:
    def budget(task: str, **publish: Any) -> float:
        model = {"stream": "s", "task": task, "pipeline": "logistic", "publish": publish}
        return parse({"streams": {"s": {}}, "models": {"m": model}}, {}).models["m"].publish.budget

    assert budget("binary") == 0.01
    assert budget("recommend") == budget("recommend", min_interval_s=1.0) == 0.1
    assert budget("recommend", budget=0.02) == 0.02


def test_a_model_that_recommends_waits_for_more_before_it_calls_its_noisy_loss_a_drift() -> None:
    def drift(task: str, **written: Any) -> Any:
        model = {"stream": "s", "task": task, "pipeline": "logistic", "drift": written}
        return parse({"streams": {"s": {}}, "models": {"m": model}}, {}).models["m"].drift

    assert drift("binary") == DriftSettings()
    assert drift("recommend").model_dump(include=set(RECOMMEND)) == {
        "detectors": drift("recommend", window=1000).model_dump()["detectors"], "window": 1000, "min_reference": 1000,
    }  # fmt: skip
    assert drift("recommend").detectors[1].params["threshold"] > DriftSettings().detectors[1].params["threshold"]
    own = drift("recommend", window=300, alpha=0.01)
    assert (own.window, own.min_reference, own.alpha) == (300, 1000, 0.01), "what is written stands, the rest is the task's"
