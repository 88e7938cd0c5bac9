"""drift-bench on a file with injected drifts and on a log or a part of it: the table, the recommendation, what is refused."""

from __future__ import annotations

import builtins
import json
import random
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import wiring
from streamlearn.cli.drift_bench import Swap, sounded
from streamlearn.cli.main import app
from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.drift.offline import Shown, Tape, alarms
from streamlearn.drift.watch import DriftWatch
from streamlearn.events import encode
from streamlearn.log import Entry

CONFIG = """
data_dir = "data"
[streams.s]
partitions = 2
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
labels = ["no", "yes"]
drift = { window = 200, gap = 50, min_reference = 200 }  # the old one
[models.r]
stream = "s"
task = "regression"
pipeline = "linear"
"""


def rows(path: Path, count: int) -> Path:
    """A concept that is easily learned, with a tenth of the labels wrong."""
    rng = random.Random(4)
    lines = ["a,b,y,z"]
    for _ in range(count):
        a, b = rng.random(), rng.random()
        wrong = rng.random() < 0.1
        lines.append(f"{a:.4f},{b:.4f},{'yes' if (a + b > 1) ^ wrong else 'no'},{a - b:.4f}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows(tmp_path_factory.mktemp("csv") / "rows.csv", 9000)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows(tmp_path_factory.mktemp("csv") / "short.csv", 2500)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "s.toml"
    path.write_text(CONFIG)
    return path


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["drift-bench", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_injected_drifts_are_found_and_a_setting_is_recommended(config: Path, csv: Path, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "p.svg", tmp_path / "n.json"
    told = run(
        config, "m", csv, "--label", "y", "--drop", "z", "--inject", 2, "--within", 1500, "--budget", 30,
        "--plot", picture, "--json", numbers,
    ).stdout  # fmt: skip
    assert f"Read: {csv}" in told.replace("\n", "")
    report = json.loads(numbers.read_text())
    assert (report["labelled"], report["drifts"]) == (9000, [3000, 6000])
    results = {one["name"]: one for one in report["settings"]}
    assert set(results) == {
        "as configured", "adwin", "page_hinkley threshold 10", "page_hinkley threshold 20", "page_hinkley", "kswin", "ddm",
        "eddm", "fhddm", "hddm_a", "hddm_w", "dummy",
    }  # fmt: skip
    configured = results["as configured"]
    assert configured["confirmed"]["found"] == 2
    assert configured["confirmed"]["false"] == 0
    assert configured["confirmed"]["mtd"] < 600
    assert 0 < configured["raw"]["mtd"] < configured["confirmed"]["mtd"]
    assert results["dummy"]["raw"]["alarms"] == 9
    assert results["dummy"]["raw"]["false"] > results["dummy"]["confirmed"]["false"], "the confirmation sees through it"
    best = results[report["recommended"]]
    assert best["confirmed"]["found"] == 2
    assert best["confirmed"]["mtd"] == min(
        one["confirmed"]["mtd"] for one in results.values() if one["confirmed"]["found"] == 2 and one["confirmed"]["false"] == 0
    )
    assert f"Recommended for at most 30 false confirmations per 100,000 stable events: {report['recommended']}" in told
    assert "\n[models.m.drift]\n" in told
    assert "drifts after 3,000, 6,000" in told
    drawn = picture.read_text()
    assert "<svg" in drawn
    assert len(drawn) > 10_000


OLD = "drift = { window = 200, gap = 50, min_reference = 200 }  # the old one\n"
RICH = """[models.m.drift]
detectors = [
    {name = "page_hinkley", params = {threshold = 15.0}}, {name = "adwin", every = 4}, {name = "hddm_w"},
    {name = "adwin", on = "score", params = {delta = 0.01}},
]
quorum = 2
within = 300
window = 120
gap = 40
min_reference = 210
max_reference = 3000
alpha = 0.04
harm = 0.01
[models.m.drift.features]
hold = false
"""


@pytest.mark.parametrize("old", [OLD, RICH], ids=["plain", "rich"])
def test_the_recommendation_is_what_was_measured_and_can_be_pasted(config: Path, short: Path, tmp_path: Path, old: str) -> None:
    numbers = tmp_path / "n.json"
    config.write_text(CONFIG.replace(OLD, old))
    told = run(
        config, "m", short, "--label", "y", "--drop", "z", "--inject", 1, "--budget", 1000, "--window", 90, "--alpha", 0.2,
        "--json", numbers,
    ).stdout  # fmt: skip
    report = json.loads(numbers.read_text())
    [measured] = [one["drift"] for one in report["settings"] if one["name"] == report["recommended"]]
    pasted = told[told.index("[models.m.drift]") : told.index("wrote ")]
    table = tomllib.loads(pasted)["models"]["m"]["drift"]
    assert DriftSettings.model_validate(table) == DriftSettings.model_validate(measured)
    config.write_text(CONFIG.replace(OLD, pasted))
    assert wiring.read_settings(config, {}).models["m"].drift == DriftSettings.model_validate(measured)


def test_confirmations_are_varied_for_the_configured_detectors(config: Path, short: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "n.json"
    told = run(
        config, "m", short, "--label", "y", "--drop", "z", "--inject", 1, "--budget", 1000, "--json", numbers,
        "--window", 200, "--window", 60, "--alpha", 0.05, "--alpha", 0.01,
    ).stdout  # fmt: skip
    found = {one["name"]: one for one in json.loads(numbers.read_text())["settings"]}
    windows = {name: (one["drift"]["window"], one["drift"]["alpha"]) for name, one in found.items() if "configured" in name}
    assert windows == {
        "as configured": (200, 0.05),
        "as configured, window 200, alpha 0.01": (200, 0.01),
        "as configured, window 60, alpha 0.05": (60, 0.05),
        "as configured, window 60, alpha 0.01": (60, 0.01),
    }
    assert len(found) == 4 + 11, "each detector alone is confirmed as configured"
    assert {one["drift"]["window"] for name, one in found.items() if name not in windows} == {200}
    assert {tuple(found[name]["alarms"]) for name in windows} == {tuple(found["as configured"]["alarms"])}
    assert all(one["drift"]["gap"] == 50 for one in found.values())
    for name, (window, _) in windows.items():
        assert max(case["end_n"] - case["alarm_n"] for case in found[name]["cases"]) <= window
        assert name in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--window", 29], "--window: 29 is out of range. Write a number of at least 30"),
        (["--alpha", 1.0], "--alpha: 1.0 is out of range. Write a number below 1"),
        (["--harm", 0.1, "--harm", -0.1], "--harm: -0.1 is out of range"),
        (["--from", 10], "--from: is a place in the log, and a file is read. Leave one of them out"),
    ],
)
def test_options_that_cannot_be_are_refused(config: Path, short: Path, words: list[Any], told: str) -> None:
    assert told in run(config, "m", short, "--label", "y", *words, code=78).stderr


def taped(count: int) -> Tape:
    rng = random.Random(3)
    losses = [float(rng.random() < (0.1 if n < count / 2 else 0.6)) for n in range(count)]
    return Tape("binary", count, [Shown("loss", loss, n - 1, n) for n, loss in enumerate(losses, 1)])


def drift_of(quorum: str | int, within: int, *detectors: DetectorSettings) -> DriftSettings:
    return DriftSettings(detectors=detectors, quorum=quorum, within=within, gap=0, min_reference=30)  # type: ignore[arg-type]


def every(count: int, on: str = "loss") -> DetectorSettings:
    return DetectorSettings.model_validate({"name": "dummy", "on": on, "params": {"t_0": count}})


@pytest.mark.parametrize(
    ("quorum", "within", "expected"),
    [
        ("any", 50, [100, 150, 200, 300, 400, 450, 500, 600]),
        ("all", 50, [300, 600]),
        (2, 51, [150, 300, 450, 600]),  # those that agreed have to sound anew
        ("all", 101, [150, 300, 450, 600]),
    ],
)
def test_raw_alarms_keep_to_the_quorum(quorum: str | int, within: int, expected: list[int]) -> None:
    assert sounded(taped(620), drift_of(quorum, within, every(100), every(150))) == expected


@pytest.mark.parametrize("quorum", ["any", "majority", "all"])
def test_the_first_raw_alarm_is_the_first_one_in_service(quorum: str) -> None:
    tape = taped(3000)
    detectors = [
        DetectorSettings.model_validate({"name": name, "params": given})
        for name, given in (("page_hinkley", {"threshold": 10.0}), ("adwin", {}), ("hddm_a", {}))
    ]
    drift = drift_of(quorum, 400, *detectors)
    watch = DriftWatch.new(drift, "binary")
    first = next(one.n for one in tape.shown if watch.update(one.value, one.offset, one.n) is not None)
    assert sounded(tape, drift)[0] == first
    if quorum == "any":
        assert sounded(tape, drift) == alarms(tape, detectors)


def test_without_known_drifts_it_says_so(config: Path, csv: Path) -> None:
    told = run(config, "m", csv, "--label", "y", "--drop", "z").stdout
    assert "drifts after none known" in told
    assert "inject some" in told
    assert "Recommended" not in told


def test_numbers_are_mirrored_and_detectors_of_classes_left_out(config: Path, short: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "n.json"
    run(config, "r", short, "--label", "z", "--drop", "y", "--inject", 1, "--json", numbers)
    report = json.loads(numbers.read_text())
    names = [one["name"] for one in report["settings"]]
    assert "ddm" not in names
    assert "hddm_w" in names
    assert report["settings"][0]["confirmed"]["found"] == 1


def into_log(config: Path, first: int, count: int, turns: int = 2000) -> None:
    """Questions and labels of the events from `first` on; from the event `turns` on the other label is the right one."""
    settings = wiring.read_settings(config, {})
    rng = random.Random(first)
    with wiring.opened(settings, {}) as world:
        entries = []
        for n in range(first, first + count):
            a = rng.random()
            body: dict[str, Any] = {"stream": "s", "id": f"e{n}", "ts": float(n), "x": {"a": a}}
            entries.append(Entry(f"e{n}".encode(), encode(body)))
            label = {"stream": "s", "id": f"e{n}", "ts": float(n), "y": "yes" if (a > 0.5) ^ (n >= turns) else "no"}
            entries.append(Entry(f"e{n}".encode(), encode(label)))
        world.log.append("s", entries).result()


def test_a_log_is_read_where_no_file_is_given(config: Path, tmp_path: Path) -> None:
    into_log(config, 0, 3000)
    numbers = [tmp_path / f"{shard}.json" for shard in range(2)]
    for shard in range(2):
        told = run(config, "m", "--shard", shard, "--json", numbers[shard]).stdout
        assert "none known" in told
    labelled = [json.loads(path.read_text())["labelled"] for path in numbers]
    assert sum(labelled) == 3000
    assert min(labelled) > 1000
    report = json.loads(numbers[0].read_text())
    assert report["source"] == {"stream": "s", "shard": 0, "from": 0, "to": 2 * labelled[0]}
    one = report["settings"][0]
    assert [case["confirmed"] for case in one["cases"]] == [True]
    assert abs(one["cases"][0]["change_n"] - labelled[0] * 2 / 3) < 150, "the change that is in the data is found"
    run(config, "m", "--shard", 2, code=78)


def read_part(config: Path, numbers: Path, *words: object) -> tuple[int, int, int]:
    """(from, to, labelled events) of partition 0."""
    run(config, "m", "--json", numbers, *words)
    report = json.loads(numbers.read_text())
    return report["source"]["from"], report["source"]["to"], report["labelled"]


def test_a_part_of_the_log_is_named_by_offsets_or_times(config: Path, tmp_path: Path) -> None:
    into_log(config, 0, 300)
    time.sleep(0.02)
    between = datetime.fromtimestamp(time.time(), UTC).isoformat()
    time.sleep(0.02)
    into_log(config, 300, 300)
    numbers = tmp_path / "n.json"
    _, end, labelled = read_part(config, numbers)
    assert (end, labelled > 200) == (2 * labelled, True)
    assert read_part(config, numbers, "--from", 100, "--to", 200) == (100, 200, 50)
    assert read_part(config, numbers, "--from", "0/100") == (100, end, labelled - 50)
    _, middle, before = read_part(config, numbers, "--to", between)
    start, _, after = read_part(config, numbers, "--from", between)
    assert (start, before + after, before > 100) == (middle, labelled, True)
    assert read_part(config, numbers, "--to", "2999-01-01T00:00:00Z") == (0, end, labelled)
    assert f"Read: stream s, partition 0, offsets 100 to {end:,}" in run(config, "m", "--from", 100).stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "soon"], "--from: 'soon' is no place in the log. Write an offset, PARTITION/OFFSET, or a time such as"),
        (["--from", 90, "--to", 90], "--from: no record lies from 90 on and before 90: partition 0 has the offsets from 40"),
        (["--to", 40], "--to: no record lies from 40 on and before 40"),
        (["--from", "2999-01-01T00:00:00Z"], "--from: no record lies from"),
        (["--from", 39], "--from: 39 is not held: partition 0 has the offsets from 40 up to"),
        (["--to", 99999], "--to: 99999 is not held"),
        (["--from", "2001-01-01T00:00:00Z"], "--from: 2001-01-01T00:00:00Z is not held"),
        (["--to", "1/50"], "--to: 1/50 lies in partition 1. Write --shard 1"),
    ],
)
def test_a_part_that_is_not_there_is_refused(config: Path, words: list[Any], told: str) -> None:
    into_log(config, 0, 200)
    with wiring.opened(wiring.read_settings(config, {}), {}) as world:
        assert world.log.trim("s", 0, 40) == 40
    assert told in run(config, "m", *words, code=78).stderr


def test_a_picture_may_be_a_png(config: Path, tmp_path: Path) -> None:
    into_log(config, 0, 200)
    picture = tmp_path / "x.png"
    assert f"wrote {picture}" in run(config, "m", "--plot", picture).stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_progress_is_shown_on_stderr_to_people_alone(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into_log(config, 0, 200)
    alone = run(config, "m")
    assert alone.stderr == "", "nobody watches"
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    watched = run(config, "m")
    for what in ("learning", "judging"):
        assert what in watched.stderr
        assert what not in watched.stdout
    assert "as configured" in watched.stdout
    assert "as configured" not in watched.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "FILE"], "there is no model 'x'. Write one of ['m', 'r']"),
        (["m", "FILE"], "nothing here has a label"),
        (["m", "FILE", "--label", "y", "--plot", "p.pdf"], "p.pdf is neither .svg nor .png"),
        (["m", "FILE", "--label", "c"], "c"),
    ],
)
def test_what_cannot_be_is_refused(config: Path, csv: Path, words: list[str], told: str) -> None:
    result = run(config, *[str(csv) if word == "FILE" else word for word in words], code=78)
    assert told in result.stderr


def test_a_picture_needs_its_library(config: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    result = run(config, "m", csv, "--label", "y", "--plot", "p.svg", code=78)
    assert "pip install 'streamlearn[plot]'" in result.stderr


def test_a_row_that_is_no_event_is_named(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("a,y\n1,yes\n2\n")
    result = run(config, "m", path, "--label", "y", code=78)
    assert "row 2" in result.stderr


def test_rows_may_have_times_of_their_own(config: Path, tmp_path: Path) -> None:
    """They count as appended then: a log that took them in at the epoch would have them come from the future."""
    path, numbers = tmp_path / "times.csv", tmp_path / "n.json"
    times = ["1700000000", "2026-11-27T12:00:00Z", "2026-11-27T12:00:01Z", "soon"]
    path.write_text("\n".join(["t,a,y", *(f"{time},1,yes" for time in times)]) + "\n")
    result = run(config, "m", path, "--label", "y", "--ts", "t", "--json", numbers)
    assert json.loads(numbers.read_text())["labelled"] == 3
    assert "1 record could not be learned; the first, at 3: time, ts: 'soon' is not RFC 3339" in result.stderr


def swapped(task: str, labels: list[Any], drifts: list[int], middle: float = 0.0) -> Iterator[Any]:
    swap = Swap(task, drifts, middle=middle)
    return (swap(y, n) for n, y in enumerate(labels))


def test_labels_are_exchanged_from_one_drift_to_the_next() -> None:
    assert list(swapped("binary", [0, 1, 0, 1, 0, 1], [2, 4])) == [0, 1, 1, 0, 0, 1]
    assert list(swapped("multiclass", ["a", "b", "c", "a", "b", "c"], [3])) == ["a", "b", "c", "b", "c", "a"]
    assert list(swapped("regression", [1.0, 2.0, 3.0], [1], middle=2.0)) == [1.0, 2.0, 1.0]
