"""drift-bench on a file with injected drifts and on a log: the table, the recommendation, the files, and what is refused."""

from __future__ import annotations

import builtins
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import wiring
from streamlearn.cli.drift_bench import Swap
from streamlearn.cli.main import app
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
drift = { window = 200, gap = 50, min_reference = 200 }
[models.r]
stream = "s"
task = "regression"
pipeline = "linear"
"""


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept that is easily learned, with a tenth of the labels wrong."""
    rng = random.Random(4)
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    lines = ["a,b,y,z"]
    for _ in range(9000):
        a, b = rng.random(), rng.random()
        wrong = rng.random() < 0.1
        lines.append(f"{a:.4f},{b:.4f},{'yes' if (a + b > 1) ^ wrong else 'no'},{a - b:.4f}")
    path.write_text("\n".join(lines) + "\n")
    return path


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
    assert "drift = {detectors = [" in told
    assert "drifts after 3,000, 6,000" in told
    drawn = picture.read_text()
    assert "<svg" in drawn
    assert len(drawn) > 10_000


def test_the_recommendation_can_be_pasted(config: Path, csv: Path) -> None:
    told = run(config, "m", csv, "--label", "y", "--drop", "z", "--inject", 1, "--budget", 1000).stdout
    line = next(line for line in told.splitlines() if line.startswith("  drift = "))
    config.write_text(CONFIG.replace("drift = { window = 200, gap = 50, min_reference = 200 }", line.strip()))
    run(config, "m", csv, "--label", "y", "--drop", "z")


def test_without_known_drifts_it_says_so(config: Path, csv: Path) -> None:
    told = run(config, "m", csv, "--label", "y", "--drop", "z").stdout
    assert "drifts after none known" in told
    assert "inject some" in told
    assert "Recommended" not in told


def test_numbers_are_mirrored_and_detectors_of_classes_left_out(config: Path, csv: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "n.json"
    run(config, "r", csv, "--label", "z", "--drop", "y", "--inject", 1, "--json", numbers)
    report = json.loads(numbers.read_text())
    names = [one["name"] for one in report["settings"]]
    assert "ddm" not in names
    assert "hddm_w" in names
    assert report["settings"][0]["confirmed"]["found"] == 1


def test_a_log_is_read_where_no_file_is_given(config: Path, tmp_path: Path) -> None:
    settings = wiring.read_settings(config, {})
    rng = random.Random(5)
    with wiring.opened(settings, {}) as world:
        entries = []
        for n in range(3000):
            a = rng.random()
            body: dict[str, Any] = {"stream": "s", "id": f"e{n}", "ts": float(n), "x": {"a": a}}
            entries.append(Entry(f"e{n}".encode(), encode(body)))
            label = {"stream": "s", "id": f"e{n}", "ts": float(n), "y": "yes" if (a > 0.5) ^ (n >= 2000) else "no"}
            entries.append(Entry(f"e{n}".encode(), encode(label)))
        world.log.append("s", entries).result()
    numbers = [tmp_path / f"{shard}.json" for shard in range(2)]
    for shard in range(2):
        told = run(config, "m", "--shard", shard, "--json", numbers[shard]).stdout
        assert "none known" in told
    labelled = [json.loads(path.read_text())["labelled"] for path in numbers]
    assert sum(labelled) == 3000
    assert min(labelled) > 1000
    one = json.loads(numbers[0].read_text())["settings"][0]
    assert [case["confirmed"] for case in one["cases"]] == [True]
    assert abs(one["cases"][0]["change_n"] - labelled[0] * 2 / 3) < 150, "the change that is in the data is found"
    run(config, "m", "--shard", 2, code=78)


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


def swapped(task: str, labels: list[Any], drifts: list[int], middle: float = 0.0) -> Iterator[Any]:
    swap = Swap(task, drifts, middle=middle)
    return (swap(y, n) for n, y in enumerate(labels))


def test_labels_are_exchanged_from_one_drift_to_the_next() -> None:
    assert list(swapped("binary", [0, 1, 0, 1, 0, 1], [2, 4])) == [0, 1, 1, 0, 0, 1]
    assert list(swapped("multiclass", ["a", "b", "c", "a", "b", "c"], [3])) == ["a", "b", "c", "b", "c", "a"]
    assert list(swapped("regression", [1.0, 2.0, 3.0], [1], middle=2.0)) == [1.0, 2.0, 1.0]
