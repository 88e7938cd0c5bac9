"""`streamlearn keys`: made, shown once, listed without a secret, revoked; and that the service starts by them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import keys
from streamlearn.cli.keys import app, known_keys
from streamlearn.cli.wiring import open_log, read_settings
from streamlearn.errors import ConfigError, LogUnavailable
from streamlearn.log import CONTROL
from streamlearn.records import KeyMade, KeyRevoked, decode_control
from streamlearn.serving.access import check_bind

TOKEN = re.compile(r"slk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("STREAMLEARN_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "service.toml"
    path.write_text('data_dir = "data"\n[streams.s]\n[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n')
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def make(config: Path, name: str, *more: str) -> str:
    done = run("make", name, "-c", config, *more)
    assert done.exit_code == 0, done.output
    return str(done.stdout).strip()


def records(config: Path) -> list[Any]:
    log = open_log(read_settings(config, {}))
    try:
        return [decode_control(record.value) for record in log.read(CONTROL, 0, 0, 1000)]
    finally:
        log.close()


def test_a_key_is_made_on_a_log_that_is_new_and_its_secret_alone_goes_to_stdout(config: Path) -> None:
    done = run("make", "shop", "-c", config, "--scope", "write", "--scope", "predict", "--expires", "90d", "--rate", "20")
    assert TOKEN.fullmatch(done.stdout.strip())
    assert "not shown again" in done.stderr
    assert "write, predict, until 2" in done.stderr
    [record] = records(config)
    assert isinstance(record, KeyMade)
    assert (record.name, record.scopes, record.rate) == ("shop", ["write", "predict"], 20.0)
    assert record.expires == pytest.approx(record.at + 90 * 86_400)
    assert done.stdout.strip().split("_", 2)[2] not in (config.parent / "data" / "log.sqlite").read_bytes().decode("latin-1")


def test_they_are_listed_without_a_secret(config: Path) -> None:
    token = make(config, "shop", "--scope", "read")
    done = run("list", "-c", config)
    assert "shop" in done.stdout
    assert token.split("_")[1] in done.stdout
    assert "valid" in done.stdout
    assert token.split("_", 2)[2] not in done.output
    [record] = records(config)
    assert record.digest not in done.output


def test_nothing_to_list_is_said(config: Path) -> None:
    open_log(read_settings(config, {})).close()
    assert "no API keys hold" in run("list", "-c", config).stdout


def test_keys_of_the_environment_are_listed_as_such(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_log(read_settings(config, {})).close()
    monkeypatch.setenv("STREAMLEARN_API_KEYS", "prometheus+read:0123456789abcdef")
    out = run("list", "-c", config).stdout
    assert re.search(r"prometheus +read +STREAMLEARN_API_KEYS", out)
    assert "0123456789abcdef" not in out


def test_a_revoked_key_is_gone_from_the_list_and_says_why_with_all(config: Path) -> None:
    token = make(config, "shop", "--scope", "read")
    done = run("revoke", "shop", "-c", config, "--reason", "it leaked")
    assert "revoked key" in done.stdout
    assert "the last one that held" in done.stdout
    assert isinstance(records(config)[1], KeyRevoked)
    assert "shop" not in run("list", "-c", config).stdout
    assert "it leaked" in run("list", "-c", config, "--all").stdout
    again = run("revoke", token.split("_")[1], "-c", config)
    assert again.exit_code == 78
    assert "was revoked before" in again.stderr


def test_two_keys_of_one_name_overlap_and_are_told_apart_by_id(config: Path) -> None:
    first, second = make(config, "shop", "--scope", "read"), make(config, "shop", "--scope", "read")
    refused = run("revoke", "shop", "-c", config)
    assert "2 keys are named 'shop'" in refused.stderr
    done = run("revoke", first.split("_")[1], "-c", config)
    assert done.exit_code == 0
    assert "the last one" not in done.stdout
    [left] = known_keys(read_settings(config, {}), {})
    assert left.id == second.split("_")[1]
    assert run("revoke", "shop", "-c", config).exit_code == 0, "one alone bears the name now"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["make", "shop"], "--scope: names no scope"),
        (["make", "shop", "--scope", "raed"], "there is no scope 'raed'"),
        (["make", "a b", "--scope", "read"], "NAME: is 'a b'"),
        (["make", "", "--scope", "read"], "NAME"),
        (["make", "shop", "--scope", "read", "--expires", "soon"], "'soon' is no time"),
        (["make", "shop", "--scope", "read", "--expires", "2020-01-01"], "has passed"),
        (["make", "shop", "--scope", "read", "--expires", "0d"], "has passed"),
        (["revoke", "shop"], "there is no key 'shop'"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(config: Path, words: list[str], said: str) -> None:
    open_log(read_settings(config, {})).close()
    done = run(*words, "-c", config)
    assert done.exit_code == 78
    assert said in done.stderr
    assert records(config) == []


def test_without_a_log_there_is_nothing_to_list(config: Path) -> None:
    assert "there is no log" in run("list", "-c", config).stderr


class TestWhetherTheServiceMayStart:
    def test_a_key_of_the_log_is_enough_to_bind_elsewhere(self, config: Path) -> None:
        settings = read_settings(config, {"STREAMLEARN_SERVE__HOST": "0.0.0.0"})
        with pytest.raises(ConfigError, match="keys make NAME"):
            check_bind(settings.serve.host, known_keys(settings, {}))
        make(config, "shop", "--scope", "read")
        check_bind(settings.serve.host, known_keys(settings, {}))
        assert run("revoke", "shop", "-c", config).exit_code == 0
        with pytest.raises(ConfigError, match="there is no API key"):
            check_bind(settings.serve.host, known_keys(settings, {}))

    def test_so_is_one_of_the_environment(self, config: Path) -> None:
        settings = read_settings(config, {"STREAMLEARN_SERVE__HOST": "0.0.0.0"})
        check_bind(settings.serve.host, known_keys(settings, {"STREAMLEARN_API_KEYS": "app:0123456789abcdef"}))

    def test_a_log_that_is_away_matters_only_when_nothing_else_can_tell(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(config, "shop", "--scope", "read")

        def away(*_: object) -> None:
            raise LogUnavailable("away")

        monkeypatch.setattr(keys, "read_keys", away)
        assert known_keys(read_settings(config, {}), {}) == []
        elsewhere = read_settings(config, {"STREAMLEARN_SERVE__HOST": "0.0.0.0"})
        assert len(known_keys(elsewhere, {"STREAMLEARN_API_KEYS": "app:0123456789abcdef"})) == 1
        with pytest.raises(LogUnavailable):
            known_keys(elsewhere, {})
