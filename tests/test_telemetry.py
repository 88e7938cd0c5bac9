"""Logs are one JSON object a line whatever is said; metrics live in the registry they are given."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamlearn.telemetry import JsonFormatter, Metrics, setup_logging


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


def test_two_apps_do_not_share_counters() -> None:
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.events.labels("accepted").inc(3)
    assert first.registry.get_sample_value("streamlearn_events_posted_total", {"outcome": "accepted"}) == 3
    assert second.registry.get_sample_value("streamlearn_events_posted_total", {"outcome": "accepted"}) is None


def test_every_metric_is_named_for_the_product_and_explained() -> None:
    metrics = Metrics(CollectorRegistry())
    helps = [line for line in generate_latest(metrics.registry).decode().splitlines() if line.startswith("# HELP")]
    assert len(helps) >= 9
    for line in helps:
        _, _, name, text = line.split(" ", 3)
        assert name.startswith("streamlearn_")
        assert text
