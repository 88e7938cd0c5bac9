"""The command line as a person meets it: help, version, errors in words, and exit codes that scripts can trust."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamlearn import __version__
from streamlearn.cli.main import app
from streamlearn.cli.serve import free_port

COMMANDS = [
    "demo", "serve", "learn", "control", "send", "status", "check", "verify", "backup", "reload", "restore",
    "dead-letters", "retrain", "rollback", "hold", "resume", "silence", "rewind", "dev-servers", "drift-bench", "healthy",
    "models", "notify", "policy-bench", "keys", "off-policy", "recommend", "evaluate",
]  # fmt: skip


def run(*arguments: object, code: int = 0, **environ: str) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environ)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def nowhere() -> str:
    return f"http://127.0.0.1:{free_port('127.0.0.1', 0)}"


def test_the_version() -> None:
    assert run("--version").stdout == f"streamlearn {__version__}\n"


def test_help_lists_every_command_with_a_line() -> None:
    listed = re.findall(r"^  ([a-z-]+)  +\S.*$", run("--help").stdout.partition("Commands:")[2], re.M)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    out = run(command, "--help").stdout
    assert f" {command} " in out.splitlines()[0]
    assert len(out.splitlines()[2].strip()) > 20


def test_the_inner_options_are_not_shown() -> None:
    assert "--parent-pid" not in run("learn", "--help").stdout


@pytest.mark.parametrize("command", [["status"], ["retrain", "m"], ["rollback", "m", "--wait"], ["models", "list"]])
def test_a_service_that_is_not_there_is_said_in_words(command: list[str], nowhere: str) -> None:
    err = run(*command, "--url", nowhere, code=1).stderr
    assert err.startswith(f"error: nothing answers at {nowhere} (")
    assert err.endswith("Is the service running (streamlearn serve CONFIG)? --url names another address\n")


def test_the_address_can_come_from_the_environment(nowhere: str) -> None:
    assert f"nothing answers at {nowhere}" in run("status", code=1, STREAMLEARN_URL=nowhere).stderr


def test_send_says_at_once_that_nobody_is_there(tmp_path: Path, nowhere: str) -> None:
    file = tmp_path / "f.csv"
    file.write_text("v\n1\n")
    assert "nothing answers at" in run("send", file, "--stream", "s", "--url", nowhere, code=1).stderr


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("none.csv", ["--stream", "s"], "none.csv: no such file. Name a CSV, NDJSON or Parquet file"),
        ("f.csv", [], "--stream: is missing. Name the stream that the rows belong to"),
        ("f.txt", ["--stream", "s"], "Its name must end in .csv"),
    ],
)
def test_a_file_that_cannot_be_sent_is_explained_before_anything_is_asked(
    tmp_path: Path, nowhere: str, name: str, options: list[str], words: str
) -> None:
    for there in ("f.csv", "f.txt"):
        (tmp_path / there).write_text("v\n1\n")
    assert words in run("send", tmp_path / name, *options, "--url", nowhere, code=78).stderr


def test_a_delimiter_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("v\n1\n")
    assert "write one character" in run("send", tmp_path / "f.csv", "--delimiter", "ab", code=2).stderr


@pytest.mark.parametrize("command", ["serve", "verify", "status", "dead-letters"])
def test_a_wrong_configuration_is_told_in_full_by_every_command(tmp_path: Path, command: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text('[serve]\nport = "x"\n[streams.s]\npartitions = 0\n')
    arguments = {"status": ["--config", file], "dead-letters": ["list", "--config", file]}.get(command, [file])
    lines = run(command, *arguments, code=78).stderr.splitlines()
    assert lines == [
        "error: serve.port: 'x' is not a whole number. Write one, without quotes",
        "error: streams.s.partitions: 0 is out of range. Write a number of at least 1",
    ]


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    err = run("serve", tmp_path / "none.toml", code=78).stderr
    assert err == f"error: {tmp_path / 'none.toml'}: no such file. Name an existing TOML file\n"


def test_resetting_a_model_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('data_dir = "data"\n[streams.s]\n[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n')
    command = [sys.executable, "-m", "streamlearn", "learn", str(file), "--reset", "n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 78
    assert "--reset: there is no model 'n'. Write one of ['m']" in done.stderr
    assert not (tmp_path / "data").exists()


SUPERVISOR = "streamlearn.cli.main, streamlearn.cli.wiring, streamlearn.serving.access"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (SUPERVISOR, "river numpy scipy fastapi httpx uvicorn pyarrow pandas sqlite3"),
        ("streamlearn.serving.app", "river numpy scipy httpx pyarrow pandas sqlite3"),
        ("streamlearn.control.loop, streamlearn.retrain.job", "river scipy fastapi httpx pyarrow pandas sqlite3"),
        ("streamlearn.learning.worker, streamlearn.drift.watch", "fastapi httpx uvicorn pyarrow sqlite3"),
    ],
    ids=["supervisor", "serve", "control", "learn"],
)
def test_what_only_another_role_needs_is_not_imported(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}\nprint(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"
