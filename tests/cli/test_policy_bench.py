"""policy-bench on a file with a drift and on a log: the table, the recommendation, what is refused."""

from __future__ import annotations

import json
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli import wiring
from streamlearn.cli.main import app
from streamlearn.cli.policy_bench import kappas, windows
from streamlearn.config import parse
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
[models.m.drift]
window = 100
gap = 20
min_reference = 100
[models.m.retrain]
policies = [{name = "debt"}, {name = "floor", params = {loss = 0.4, events = 200}}]
cost = {retrain = 60, loss = 3, unit = "euros"}
[models.r]
stream = "s"
task = "regression"
pipeline = "linear"
"""


def rows(path: Path, count: int, turns: tuple[int, ...]) -> Path:
    """A concept that is easily learned, with a twentieth of the labels wrong, which turns round."""
    rng = random.Random(4)
    lines = ["a,b,y,z,t"]
    for n in range(count):
        a, b = rng.random(), rng.random()
        wrong = rng.random() < 0.05
        turned = sum(turn <= n for turn in turns) % 2 == 1
        lines.append(f"{a:.4f},{b:.4f},{'yes' if (a > 0.5) ^ wrong ^ turned else 'no'},{a - b:.4f},{1_700_000_000 + n}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows(tmp_path_factory.mktemp("csv") / "rows.csv", 4000, (500, 1800, 2900))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows(tmp_path_factory.mktemp("csv") / "short.csv", 800, (100, 400))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "s.toml"
    path.write_text(CONFIG)
    return path


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["policy-bench", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


FILE = ("--label", "y", "--drop", "z")


@pytest.mark.slow
def test_a_drift_makes_retrains_worth_their_price(config: Path, csv: Path, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "p.svg", tmp_path / "n.json"
    told = run("--plot", picture, "--json", numbers, config, "m", csv, *FILE, "--ts", "t", "--frozen", "--window", 1).stdout
    report = json.loads(numbers.read_text())
    assert (report["labelled"], report["batches"], report["tuned_on"], report["learns"]) == (4000, 40, 10, False)
    assert report["kappa"] == 20.0
    costs = [one["kappa"] for one in report["costs"]]
    assert (len(costs), costs[3], costs[0], costs[-1]) == (7, 20.0, 0.63, 630.0)
    found = {one["name"]: one for one in report["costs"][3]["policies"]}
    assert set(found) | set(report["costs"][3]["missing"]) == {
        "all that are configured", "oracle", "never", "always", "periodic", "debt", "debt without the gate",
        "debt, or twice unconfirmed",
        "floor loss 0.4, events 200", "cara_t", "cara_ct", "cara_p", "upf",
    }  # fmt: skip
    assert [name for name, one in found.items() if one["configured"]] == [
        name for name in found if name in ("debt", "floor loss 0.4, events 200")
    ]
    assert found["oracle"]["retrains"][-2:] == [18, 29], "the ends of the first batches of the new worlds"
    assert found["never"]["over_oracle"] > 2
    assert found["debt"]["over_oracle"] < 1.8
    assert min(one["over_oracle"] for one in found.values()) == found["oracle"]["over_oracle"] == 1
    assert f"Recommended at κ = 20: {report['recommended']}" in told
    assert "labelled events in 40 batches of 100; a retrain learns 1 batch, and then serves and does not learn" in told
    assert " euros (" in told
    assert "debt (configured)" in told
    assert len(picture.read_text()) > 10_000


@pytest.mark.slow
def test_the_recommendation_can_be_pasted(config: Path, csv: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "n.json"
    told = run(config, "m", csv, *FILE, "--json", numbers, "--kappa", 30, "--kappa", 5).stdout
    report = json.loads(numbers.read_text())
    assert [one["kappa"] for one in report["costs"]] == [5.0, 20.0, 30.0]
    assert "upf" in report["costs"][0]["missing"], "the rows have no times"
    pasted = told[told.index("[models.m.retrain]") : told.index("wrote ")]
    [line] = [line for line in CONFIG.splitlines() if line.startswith("policies = ")]
    config.write_text(CONFIG.replace(line, pasted.splitlines()[1]))
    read = wiring.read_settings(config, {}).models["m"].retrain.policies
    [measured] = [one["policies"] for one in report["costs"][1]["policies"] if one["name"] == report["recommended"]]
    assert [policy.model_dump() for policy in read] == measured
    assert tomllib.loads(pasted)["models"]["m"]["retrain"]["policies"][0]["name"] == measured[0]["name"]


def test_numbers_are_compared_too(config: Path, short: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "n.json"
    run(config, "r", short, "--label", "z", "--drop", "y", "--json", numbers)
    costs = json.loads(numbers.read_text())["costs"]
    assert all(one["policies"][0]["name"] == "oracle" for one in costs)


@pytest.mark.slow
def test_a_part_of_the_log_is_read_where_no_file_is_given(config: Path, tmp_path: Path) -> None:
    settings = wiring.read_settings(config, {})
    rng = random.Random(3)
    entries = []
    for n in range(1600):
        a = rng.random()
        body: dict[str, Any] = {"stream": "s", "id": f"e{n}", "ts": float(n), "x": {"a": a}}
        entries.append(Entry(f"e{n}".encode(), encode(body)))
        label = {"stream": "s", "id": f"e{n}", "ts": float(n), "y": "yes" if a > 0.5 else "no"}
        entries.append(Entry(f"e{n}".encode(), encode(label if n else {**label, "y": "perhaps"})))
    with wiring.opened(settings, {}) as world:
        world.log.append("s", entries).result()
    numbers, told = tmp_path / "n.json", []
    for shard in range(2):
        told.append(run(config, "m", "--shard", shard, "--json", numbers, "--from", 0, "--to", 1200, "--batch", 20))
        report = json.loads(numbers.read_text())
        assert report["source"] == {"stream": "s", "shard": shard, "from": 0, "to": 1200}
        assert 598 <= report["labelled"] <= 600
    [warned] = [one.stderr for one in told if one.stderr]
    assert "1 record could not be learned; the first, at 1: unknown_label" in warned
    assert any("nothing to be won by a retrain at this price" in one.stdout for one in told)


@pytest.mark.slow
def test_progress_is_shown_on_stderr_to_people_alone(config: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(config, "m", short, *FILE)
    assert alone.stderr == "", "nobody watches"
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    watched = run(config, "m", short, *FILE)
    assert "learning" in watched.stderr
    assert "replaying" in watched.stderr
    assert "replaying" not in watched.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "FILE"], "there is no model 'x'. Write one of ['m', 'r']"),
        (["m", "FILE"], "nothing here has a label"),
        (["m", "FILE", *FILE, "--plot", "p.pdf"], "p.pdf is neither .svg nor .png"),
        (["m", "FILE", *FILE, "--from", 10], "--from: is a place in the log, and a file is read"),
        (["m", "FILE", *FILE, "--batch", 100], "--tune: 0.25 of 8 batches leaves 2 to tune on and 6 to compare on"),
        (["m", "--shard", 2], "--shard: there is no partition 2"),
        (["m"], "nothing here has a label"),
    ],
)
def test_what_cannot_be_is_refused(config: Path, short: Path, words: list[str], told: str) -> None:
    assert told in run(config, *[str(short) if word == "FILE" else word for word in words], code=78).stderr


def test_a_policy_that_is_none_is_told_before_the_long_work(config: Path, short: Path) -> None:
    config.write_text(CONFIG.replace('{name = "debt"}', '{name = "dept"}'))
    assert "there is no policy 'dept'" in run(config, "m", short, *FILE, code=78).stderr


def test_detectors_that_cannot_be_played_are_told(config: Path, short: Path) -> None:
    config.write_text(CONFIG.replace("[models.m.drift]", '[models.m.drift]\ndetectors = [{name = "adwin", on = "score"}]'))
    assert "only those on the loss were played" in run(config, "m", short, *FILE).stderr


def test_costs_lie_three_decades_around_the_configured_one() -> None:
    assert kappas(20.0, []) == [0.63, 2.0, 6.3, 20.0, 63.0, 200.0, 630.0]
    assert kappas(7.0, [3.0, 50.0, 3.0]) == [3.0, 7.0, 50.0]
    assert len(kappas(33.333, [])) == 7
    assert 33.333 in kappas(33.333, [])
    assert kappas(0.0, [])[:2] == [0.0, 0.63]


def test_a_retrain_learns_what_the_strategy_says() -> None:
    def given(strategy: dict[str, Any]) -> int:
        model = {"stream": "s", "task": "binary", "pipeline": "logistic", "retrain": {"strategy": strategy}}
        return windows(parse({"streams": {"s": {}}, "models": {"m": model}}, {}).models["m"], 500, 40)

    assert given({"window": "all"}) == 40
    assert given({"window": "records", "records": 5000}) == 10
    assert given({"window": "records", "records": 10}) == 1
    assert given({"window": "records"}) == 40, "no more than there are"
    assert given({}) == given({"window": "days"}) == 4
