"""Logs are one line an event whatever is said, named alike by every role, and hold no secret."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlearn import logs
from streamlearn.errors import ConfigError
from streamlearn.keys import load_keys, read_secret, secret_text
from streamlearn.logs import JsonFormatter, setup_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level, show = list(root.handlers), root.level, warnings.showwarning
    out = io.StringIO()
    try:
        yield out
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = show
        root.handlers[:] = before
        root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_its_role(stream: io.StringIO) -> None:
    setup_logging("serve", stream)
    logging.getLogger("streamlearn.x").warning("lost %d of %s", 3, "flights")
    [line] = lines(stream)
    assert (line["level"], line["role"], line["logger"]) == ("warning", "serve", "streamlearn.x")
    assert line["text"] == "lost 3 of flights"
    assert line["at"].endswith("Z")
    assert "T" in line["at"]


def test_what_comes_in_extra_is_a_member_but_cannot_replace_one(stream: io.StringIO) -> None:
    setup_logging("learn", stream)
    logging.getLogger("a").info("text", extra={"model": "delay", "offset": 7, "role": "evil", "thing": object()})
    [line] = lines(stream)
    assert (line["model"], line["offset"], line["role"]) == ("delay", 7, "learn")
    assert line["thing"].startswith("<object")


def test_what_uvicorn_paints_for_a_terminal_is_left_out(stream: io.StringIO) -> None:
    setup_logging("serve", stream)
    painted = {"color_message": "Started [\x1b[36m%d\x1b[0m]", "port": 8321}
    logging.getLogger("uvicorn.error").info("Started [%d]", 7, extra=painted)
    [line] = lines(stream)
    assert (line["text"], line["port"]) == ("Started [7]", 8321)
    assert "\\u001b" not in stream.getvalue()


def test_a_line_break_does_not_break_the_line_and_a_traceback_is_kept(stream: io.StringIO) -> None:
    setup_logging("serve", stream)
    try:
        raise ValueError("two\nlines é")
    except ValueError:
        logging.getLogger("a").exception("it\nbroke")
    [line] = lines(stream)
    assert line["text"] == "it\nbroke"
    assert "ValueError: two\nlines é" in line["trace"]


def test_arguments_that_do_not_fit_are_said_rather_than_lost(stream: io.StringIO) -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "%d apples", ("many",), None)
    assert "many" in json.loads(JsonFormatter("serve").format(record))["text"]


def test_setting_up_again_replaces_the_handler(stream: io.StringIO) -> None:
    setup_logging("serve", io.StringIO())
    setup_logging("serve", stream)
    logging.getLogger("a").info("once")
    assert len(lines(stream)) == 1


def test_the_level_is_kept_and_http_clients_are_quiet(stream: io.StringIO) -> None:
    setup_logging("serve", stream, "warning")
    logging.getLogger("a").info("no")
    logging.getLogger("httpx").info("no")
    logging.getLogger("a").warning("yes")
    assert [line["text"] for line in lines(stream)] == ["yes"]
    with pytest.raises(ValueError, match="LOUD"):
        setup_logging("serve", stream, "loud")


def test_warnings_are_logged(stream: io.StringIO) -> None:
    setup_logging("serve", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old ways", UserWarning, stacklevel=1)
    assert "old ways" in lines(stream)[0]["text"]


def test_without_a_stream_it_is_stderr(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    setup_logging("serve")
    logging.getLogger("a").info("here")
    assert lines(stream)[0]["text"] == "here"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_plain_line_and_a_file_json(stream: io.StringIO) -> None:
    terminal = Terminal()
    setup_logging("control", terminal)
    about = {"case": "delay-3", "n": 812, "version": 4, "model": "delay", "why": "two\nlines \x1b[31m", "error": None}
    logging.getLogger("streamlearn.control").info("promoted", extra=about)
    [line] = terminal.getvalue().splitlines()
    assert line[9:] == "  INFO     control  promoted model=delay version=4 case=delay-3 n=812 why=two\\nlines \\x1b[31m"
    assert line[:9].count(":") == 2
    setup_logging("control", stream)
    logging.getLogger("streamlearn.control").info("promoted", extra=about)
    assert lines(stream)[0]["why"] == about["why"]


def test_the_form_can_be_chosen(stream: io.StringIO) -> None:
    setup_logging("control", Terminal(), form="json")
    setup_logging("control", stream, form="pretty")
    try:
        raise ValueError("gone")
    except ValueError:
        logging.getLogger("a").exception("it broke")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR    control  it broke")
    assert rest[-1] == "ValueError: gone"
    with pytest.raises(ValueError, match="xml"):
        setup_logging("control", stream, form="xml")


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_secret_stands_in_a_line_wherever_it_comes(
    form: str, stream: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_hidden", {})
    (tmp_path / "password").write_text("hunter2-of-redis\n")
    read_secret("store.redis.password_file", str(tmp_path / "password"))
    secret_text({"STREAMLEARN_API_KEYS": "ops:opsopsopsopsopsops,ci:cicicicicicicici"}, "STREAMLEARN_API_KEYS")
    load_keys({}, tmp_path / "secret.key")
    made = (tmp_path / "secret.key").read_text().strip().partition(":")[2]
    setup_logging("serve", stream, form=form)
    log = logging.getLogger("a")
    log.info("got hunter2-of-redis and opsopsopsopsopsops", extra={"found": {"deep": ["cicicicicicicici"]}, "x": made})
    log.info("who sent slk_abcd_Zm9vYmFy?")
    log.info("redis://:pass-in-url@host and Authorization: Bearer abc.def-123")
    log.info("%s", "https://hooks.slack.com/services/T0/B0/XYZ", extra={"api_key": "k-1", "webhook": {"password": 12345}})
    try:
        raise ConfigError("k", "hunter2-of-redis", "mend")
    except ConfigError:
        log.exception("refused")
    text = stream.getvalue()
    for secret in ("hunter2", "opsops", "cicici", made, "pass-in-url", "abc.def", "XYZ", "k-1", "12345", "Zm9vYmFy"):
        assert secret not in text, secret
    assert text.count(logs.HIDDEN) >= 8
    assert "redis://:***@host" in text


def test_short_words_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_hidden", {})
    logs.hide("", "a", "abcde")
    assert logs.redacted("a word, abcde") == "a word, abcde"


def test_a_shard_is_named_alike_by_all() -> None:
    assert logs.named("m", 2, "s") == {"model": "m", "shard": 2, "stream": "s", "partition": 2}
    assert logs.named("m", 2, "s", 7)["version"] == 7
