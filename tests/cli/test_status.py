"""The status table: the same from the API and from the store, readable when nothing has started yet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.cli import status
from streamlearn.cli.status import Line, cells, from_api, from_store, inputs, show
from streamlearn.cli.wiring import open_store, read_settings
from streamlearn.config import Settings
from streamlearn.lineage import Backfill
from streamlearn.records import Status
from streamlearn.wire import ModelView, ShardView

BINARY = {
    "window": {"accuracy": 0.8},
    "baselines": {
        "no_change": {"accuracy": 0.6, "window_accuracy": 0.7},
        "majority": {"accuracy": 0.5, "window_accuracy": None},
    },
}


def said(model: str = "m", shard: int = 0, **changes: Any) -> Status:
    values: dict[str, Any] = {
        "model": model, "shard": shard, "generation": 3, "version": 2, "shadow": None, "position": 90, "end": 100, "log": "l",
        "at": 1000.0, "n": 40, "clock": None, "held": None, "counters": {"events": 90, "late": 2, "orphan": 1}, "pending": 5,
        "early": 0, "scores": BINARY, "rate": 12.4, "freshness_ms": {"p50": 20.0, "p99": 150.0},
    }  # fmt: skip
    return Status(**{**values, **changes})


def view(*shards: Status, **changes: Any) -> ModelView:
    values: dict[str, Any] = {
        "name": "m", "stream": "s", "task": "binary", "pipeline": "logistic", "ready": True, "version": 2, "state": "steady",
        "case": "", "degraded": None, "n": 40, "lag": 10, "pending": 5, "dead": 3, "rate": 12.4, "counters": {},
        "scores": BINARY, "control": {},
        "shards": [ShardView(0, 2, None, 40, 0.1, 2.5, None, msgspec.to_builtins(one)) for one in shards],
    }  # fmt: skip
    return ModelView(**{**values, **changes})


def settings(folder: Path, partitions: int = 1) -> Settings:
    file = folder / "s.toml"
    file.write_text(
        f'data_dir = "data"\n[streams.s]\npartitions = {partitions}\n'
        '[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n'
    )
    return read_settings(file, {})


def test_the_api_and_the_store_say_the_same(tmp_path: Path) -> None:
    made = settings(tmp_path)
    store = open_store(made)
    store.claim("m", 0, 3)
    store.put_status("m", 0, 3, msgspec.json.encode(said()))
    store.put_views({("model", "m"): b'{"state": "steady", "case": "", "degraded": null}'}, 1)
    store.close()
    assert from_store(made, 1002.5) == [from_api(view(said()))._replace(degraded=[])]


def test_shards_are_added_up_and_the_worst_is_shown(tmp_path: Path) -> None:
    made = settings(tmp_path, partitions=2)
    store = open_store(made)
    for shard, changes in enumerate(({}, {"at": 990.0, "held": "a broken upstream", "freshness_ms": {"p99": 900.0}})):
        store.put_status("m", shard, 1, msgspec.json.encode(said(shard=shard, **changes)))
    store.put_views({("model", "m"): b'{"state": "trial", "case": "m-3", "degraded": "a confirmed drift"}'}, 1)
    store.close()
    [line] = from_store(made, 1000.0)
    assert (line.n, line.lag, line.dead, line.rate) == (80, 20, 6, 24.8)
    assert (line.freshness_ms, line.age_s) == (900.0, 10.0)
    assert (line.state, line.case, line.degraded) == ("trial", "m-3", ["a confirmed drift", "a broken upstream"])
    assert line.scores == {}


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    [line] = from_store(settings(tmp_path), 0.0)
    assert (line.state, line.version, line.n) == ("not started", None, 0)
    assert not (tmp_path / "data").exists()


def test_a_store_without_a_word_of_the_model(tmp_path: Path) -> None:
    made = settings(tmp_path)
    open_store(made).close()
    [line] = from_store(made, 0.0)
    assert "–" in cells(line)


def test_a_line_shows_scores_beside_the_windowed_baselines() -> None:
    row = cells(from_api(view(said())))
    assert row == ["m", "2", "steady", "40", "accuracy", "0.800", "0.700", "0.500", "10", "12", "150 ms", "2.5 s ago", "3", "–"]


def test_a_canary_is_shown_beside_the_version_from_the_api_and_from_the_store(tmp_path: Path) -> None:
    made, canary = settings(tmp_path), {"version": 3, "share": 0.05, "salt": "m@3"}
    store = open_store(made)
    store.put_status("m", 0, 3, msgspec.json.encode(said()))
    store.put_views({("model", "m"): msgspec.json.encode({"state": "canary", "case": "m-1", "canary": canary})}, 1)
    store.close()
    for line in (*from_store(made, 1002.5), from_api(view(said(), state="canary", control={"canary": canary}))):
        assert cells(line)[1:3] == ["2, 3 at 5 %", "canary"]


@pytest.mark.parametrize(
    ("task", "scores", "shown"),
    [
        (
            "regression",
            {"window": {"mae": 1.25}, "baselines": {"no_change": {"window_mae": 2.0}}},
            ["mae", "1.250", "2.000", "–"],
        ),
        ("multiclass", {"window": {"accuracy": None}, "baselines": {}}, ["accuracy", "–", "–", "–"]),
        ("binary", {}, ["accuracy", "–", "–", "–"]),
    ],
)
def test_each_task_has_its_score(task: str, scores: dict[str, Any], shown: list[str]) -> None:
    line = Line("m", task, None, "", 1_234_567, 0, 0.0, 0, None, None, "", (), scores)
    assert cells(line)[3:8] == ["1,234,567", *shown]


def test_a_silence_is_told_while_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    line = from_api(view(said(), control={"silenced_until": 1_767_225_600.0}))
    show([line], lambda: 1_767_225_599.0)
    assert "m is silenced: nobody is notified before 2026-01-01 00:00:00Z" in capsys.readouterr().out
    show([line], lambda: 1_767_225_600.0)
    assert "silenced" not in capsys.readouterr().out


def test_why_a_model_is_degraded_is_told_below(capsys: pytest.CaptureFixture[str]) -> None:
    show([from_api(view(said(), degraded=["a confirmed drift", "the learner is silent"], case="m-1"))])
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == [
        "model", "version", "state", "learned", "score", "window", "no change", "majority", "lag", "events/s", "fresh p99",
        "seen", "dead", "case",
    ]  # fmt: skip
    assert lines[1].rstrip().endswith("m-1")
    assert lines[2:] == ["m is degraded: a confirmed drift", "m is degraded: the learner is silent"]


def test_what_control_says_of_the_features_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = {"held": "broken input, null_jump: 'a' …", "features": {"drifted": {"b": 1.0, "a": 2.0}, "broken": {"kind": "…"}}}
    made = settings(tmp_path)
    store = open_store(made)
    store.put_views({("model", "m"): msgspec.json.encode(control)}, 1)
    store.close()
    [stored], line = from_store(made, 0.0), from_api(view(said(), control=control))
    assert stored.inputs == line.inputs
    show([line])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "m: held by a diagnosis; it learns again by itself once its input is as it was, or when a person resumes it",
        "m: features have drifted, for which alone it is not retrained: 'a', 'b'",
    ]
    assert from_api(view(said(), control={**control, "held": None})).inputs == line.inputs[1:]


def test_a_changed_contract_is_told_in_words(tmp_path: Path) -> None:
    changes = [{"feature": "c", "what": "appeared", "was": "", "is": "number"}]
    control = {"features": {"drifted": {}, "broken": None}, "contract": {"case": "m-4", "changes": changes}}
    made = settings(tmp_path)
    store = open_store(made)
    store.put_views({("model", "m"): msgspec.json.encode(control)}, 1)
    store.close()
    case = "features came, went or changed their type; case m-4 brings in a version for that: 'c'"
    assert from_store(made, 0.0)[0].inputs == [case]
    left_out = "1,200 events were taken without a feature, which had another type than the model knows"
    counted = msgspec.structs.replace(view(said(), control=control), counters={"features_left_out": 1200})
    assert from_api(counted).inputs == [case, left_out]


def test_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    show([])
    assert capsys.readouterr().out.splitlines()[-1] == "The configuration has no models"


def test_json_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(tmp_path)
    status.status(config=tmp_path / "s.toml", as_json=True)
    [line] = json.loads(capsys.readouterr().out)
    assert line["name"] == "m"
    assert line["state"] == "not started"


def test_what_the_file_says_otherwise_and_how_far_the_past_is_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = settings(tmp_path)
    store = open_store(made)
    store.claim("m", 0, 3)
    behind = said(backfill=Backfill(0, 400, 100), withheld="a publication of m from another build", log_lost_s=7.2)
    store.put_status("m", 0, 3, msgspec.json.encode(behind))
    store.put_views({("model", "m"): msgspec.json.encode({"state": "steady", "differs": "pipeline is 'a'"})}, 1)
    store.close()
    [line] = from_store(made, 1001.0)
    assert line.degraded == [
        "the log could not be read for 7 s",
        "backfill 25 % (100 of 400 records)",
        "not published yet: a publication of m from another build",
    ]
    show([line])
    assert "m serves another model than it is meant to: pipeline is 'a'" in capsys.readouterr().out
    assert from_api(view(control={"differs": "seed"})).differs == "seed"
    assert from_api(view(control={"state": "steady", "version": 2})).differs is None
    assert "version 2, where control has version 3" in str(from_api(view(control={"state": "steady", "version": 3})).differs)
    assert from_api(view(control={"state": "trial", "version": 3})).differs is None


def test_a_confirmed_drift_that_waits_is_told_with_the_reason() -> None:
    told = inputs({"kept": "debt: 3.0 lost events above the reference 0.1000, not more than a retrain costs (20)"}, {})
    assert told == [
        "a confirmed drift waits, for a retrain is not worth its price yet: debt: 3.0 lost events above the reference 0.1000, "
        "not more than a retrain costs (20)"
    ]
    assert inputs({"kept": ""}, {}) == []
