"""off-policy on files whose truth is known, and on the Open Bandit sample: the estimates, the table, what is refused."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli.main import app

CHANCE = {"shoes": (0.2, 0.5, 0.8), "hats": (0.6, 0.3, 0.1)}  # of a buy, by item
LOG = {"shoes": (0.5, 0.3, 0.2), "hats": (0.4, 0.3, 0.3)}
NEW = {"shoes": (0.2, 0.2, 0.6), "hats": (0.7, 0.2, 0.1)}
TRUTH = {shop: sum(p * q for p, q in zip(NEW[shop], CHANCE[shop], strict=True)) for shop in NEW}
COLUMNS = ("--reward", "buy", "--propensity", "p", "--action", "item")
BOTH = (*COLUMNS, "--policy-column", "who", "--logged", "old", "--target", "new", "--campaign", "shop")


def rows(path: Path, count: int, seed: int = 1) -> Path:
    """Both policies by turns in both shops; `t` is what the new policy would have done."""
    rng = random.Random(seed)
    lines = ["shop,who,item,p,t,buy"]
    for n in range(count):
        shop, who = ("shoes", "hats")[n % 2], ("old", "new")[n // 2 % 2]
        chances = LOG[shop] if who == "old" else NEW[shop]
        item = rng.choices(range(3), chances)[0]
        lines.append(f"{shop},{who},i{item},{chances[item]},{NEW[shop][item]},{int(rng.random() < CHANCE[shop][item])}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows(tmp_path_factory.mktemp("csv") / "log.csv", 12_000)


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["off-policy", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def results(tmp_path: Path, *words: object) -> dict[str, Any]:
    run(*words, "--json", tmp_path / "n.json")
    found: dict[str, Any] = json.loads((tmp_path / "n.json").read_text())
    return found


def test_the_estimates_hold_the_truth_by_campaign_and_together(file: Path, tmp_path: Path) -> None:
    report = results(tmp_path, file, *BOTH)
    groups = {one["name"]: one for one in report["groups"]}
    assert list(groups) == ["hats", "shoes", "together"]
    truth = TRUTH | {"together": sum(TRUTH.values()) / 2}
    for name, group in groups.items():
        assert [one["name"] for one in group["estimates"]] == ["IPS", "SNIPS", "DR"]
        for one in group["estimates"]:
            assert one["low"] < truth[name] < one["high"]
            assert one["covers"] == (one["low"] <= group["truth"]["value"] <= one["high"])
        assert group["truth"]["value"] == pytest.approx(truth[name], abs=0.03)
        assert group["weights"]["mean"] == pytest.approx(1, abs=0.05)
        assert group["never_logged"] == 0
    assert groups["together"]["weights"]["rows"] == 6000 == 2 * groups["hats"]["weights"]["rows"]
    assert report["doubts"] == []


def test_what_is_told(file: Path) -> None:
    told = run(file, *BOTH, "--level", 0.9)
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert lines[0] == f"Read: {file}"
    assert lines[1] == "campaign mean reward of by rows buy 90 % interval s.e. holds the truth"
    assert any(line.startswith("hats old its own rows 3,000 0.3") for line in lines)
    assert any(line.startswith("new IPS (hall) 0.") and line.endswith(("yes", "no")) for line in lines)
    assert any(line.startswith("new SNIPS (hall) 0.") for line in lines)
    assert any(line.startswith("new its own rows: the truth 0.") for line in lines)
    assert any(line.startswith("together old its own rows 6,000") for line in lines)
    assert told.stderr == ""


def test_the_target_s_propensities_may_stand_in_a_column(file: Path, tmp_path: Path) -> None:
    """Then nothing else of the target need be there; with its rows there is a truth, and a doubly robust estimate."""
    alone = results(
        tmp_path, file, *COLUMNS, "--target-propensity", "t", "--policy-column", "who", "--logged", "old", "--campaign", "shop"
    )
    hats = alone["groups"][0]
    assert (hats["truth"], hats["never_logged"]) == (None, None)
    assert [one["name"] for one in hats["estimates"]] == ["IPS", "SNIPS"]
    assert all(one["low"] < TRUTH["hats"] < one["high"] and one["covers"] is None for one in hats["estimates"])
    both = results(tmp_path, file, *BOTH, "--target-propensity", "t")["groups"][0]["estimates"]
    assert [one["name"] for one in both] == ["IPS", "SNIPS", "DR"]
    assert [one | {"covers": None} for one in both[:2]] == hats["estimates"]
    told = run(file, *COLUMNS, "--target-propensity", "t", "--policy-column", "who", "--logged", "old").stdout
    assert "Without the doubly robust estimate" in told
    assert "the truth is" not in told.lower()


def test_without_a_policy_column_every_row_is_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"buy": true, "p": 0.5, "t": 1.0}\n{"buy": 0, "p": 0.5, "t": 0}\n{"buy": 1, "p": 1, "t": 0.5}\n')
    [group] = results(tmp_path, path, "--reward", "buy", "--propensity", "p", "--target-propensity", "t")["groups"]
    assert group["estimates"][0]["value"] == pytest.approx((2 + 0 + 0.5) / 3)
    assert group["estimates"][1]["value"] == pytest.approx(1)


def test_clipping_is_told_and_the_bootstrap_is_the_seed_s(file: Path, tmp_path: Path) -> None:
    clipped = run(file, *BOTH, "--clip", 1.5)
    assert "shoes: " in clipped.stderr
    assert "were clipped at 1.5: a bias, in IPS towards 0" in clipped.stderr
    once = results(tmp_path, file, *BOTH, "--interval", "bootstrap", "--seed", 4)
    assert once == results(tmp_path, file, *BOTH, "--interval", "bootstrap", "--seed", 4)
    assert once["groups"] != results(tmp_path, file, *BOTH, "--interval", "bootstrap", "--seed", 5)["groups"]
    assert [one["interval"] for one in once["groups"][0]["estimates"]] == ["bootstrap"] * 3


@pytest.mark.parametrize("name", ["p.svg", "p.png"])
def test_the_picture(file: Path, tmp_path: Path, name: str) -> None:
    assert f"wrote {tmp_path / name}" in run(file, *BOTH, "--plot", tmp_path / name).stdout
    assert (tmp_path / name).stat().st_size > 10_000


def test_wrong_propensities_are_doubted(tmp_path: Path) -> None:
    path = rows(tmp_path / "log.csv", 4000)
    path.write_text(path.read_text().replace("old,i0,0.4,", "old,i0,0.9,"))
    assert "hats: the mean weight" in run(path, *BOTH).stderr


def test_what_the_log_never_did_and_contexts_that_differ_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = ["item,place,p,who,buy"]
    lines += [f"{n % 2},{n % 3},0.5,old,{n % 2}" for n in range(60)]
    lines += [f"{n % 4},{min(2, n % 4)},,new,{n % 2}" for n in range(80)]
    path.write_text("\n".join(lines) + "\n")
    words = (*COLUMNS, "--policy-column", "who", "--logged", "old", "--target", "new", "--position", "place")
    told = run(path, *words).stderr
    assert "of the target's choices the log shows no row" in told
    assert "together: 16.7% of the target's contexts are not the log's, so the truth may differ" in told


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("hats,old,i1,0,0.1,1", "line 4: p: 0 lies outside (0, 1]. Mend the row"),
        ("hats,old,i1,1.2,0.1,1", "line 4: p: 1.2 lies outside (0, 1]"),
        ("hats,old,i1,,0.1,1", "line 4: p: is missing"),
        ("hats,old,i1,nan,0.1,1", "line 4: p: is missing"),
        ("hats,old,i1,half,0.1,1", "line 4: p: 'half' is no finite number"),
        ("hats,old,i1,0.5,0.1,", "line 4: buy: is missing"),
        ("hats,old,i1,0.5,0.1,inf", "line 4: buy: 'inf' is no finite number"),
        ("hats,new,i1,0.5,0.1,", "line 4: buy: is missing"),
        ("hats,old,,0.5,0.1,1", "line 4: item: is missing"),
        (",old,i1,0.5,0.1,1", "line 4: shop: is missing"),
        ("hats,old,i1,0.5", "line 4: $: has 4 cells, the header 6"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"shop,who,item,p,t,buy\nhats,old,i1,0.5,0.1,1\nhats,new,i1,0.5,0.1,1\n{row}\n")
    assert told in run(path, *BOTH, code=78).stderr


def test_the_target_s_column_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("p,t,buy\n0.5,0.5,1\n0.5,1.5,1\n")
    words = ("--reward", "buy", "--propensity", "p", "--target-propensity", "t")
    assert "line 3: t: 1.5 lies outside [0, 1]" in run(path, *words, code=78).stderr
    path.write_text("p,t,buy\n0.5,0,1\n0.5,0,1\n")
    assert "target: is 0 in every row" in run(path, *words, code=78).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--reward", "click", "--propensity", "p", "--target-propensity", "t"), "has no column 'click'. It has shop"),
        ((*COLUMNS, "--target-propensity", "t", "--policy-column", "by", "--logged", "old"), "log.csv has no column 'by'"),
        ((*COLUMNS, "--target-propensity", "t", "--logged", "old"), "--policy-column: is missing, and --logged is given"),
        ((*COLUMNS, "--target-propensity", "t", "--policy-column", "who"), "--logged: is missing, and --policy-column"),
        ((*COLUMNS, "--target", "new"), "--policy-column: is missing, and --target is given"),
        (COLUMNS, "--target: is missing. Name the policy to estimate, or a column with --target-propensity"),
        ((*COLUMNS[:4], "--policy-column", "who", "--logged", "old", "--target", "new"), "--action: is missing"),
        ((*COLUMNS, "--policy-column", "who", "--logged", "new", "--target", "new"), "--target: 'new' is the log's own policy"),
        ((*COLUMNS, "--policy-column", "who", "--logged", "older", "--target", "new"), "--logged: no row of log.csv is of"),
        ((*COLUMNS, "--policy-column", "who", "--logged", "old", "--target", "newer"), "--target: no row of log.csv is of"),
        ((*BOTH, "--clip", "0"), "--clip: 0.0 is not above 0"),
        ((*BOTH, "--plot", "p.pdf"), "p.pdf is neither .svg nor .png"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(file: Path, words: tuple[str, ...], told: str) -> None:
    assert told in run(file, *words, code=78).stderr


def test_campaigns_that_one_of_the_policies_never_saw(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    head = "shop,who,item,p,buy\nhats,old,a,0.5,1\nhats,old,b,0.5,1\nhats,new,a,0.5,0\n"
    path.write_text(head + "shoes,old,a,0.5,1\n")
    assert "--target: no row of 'new' is of shop shoes. Its choices there are not known" in run(path, *BOTH, code=78).stderr
    path.write_text(head + "shoes,new,a,0.5,1\n")
    assert "--logged: no row of 'old' is of shop shoes" in run(path, *BOTH, code=78).stderr
    path.write_text("shop,who,item,p,buy\n")
    assert "no row of log.csv is of policy 'old'" in run(path, *BOTH, code=78).stderr
    path.write_text(head)
    assert "folds: 5 of 2 rows cannot be made" in run(path, *BOTH, code=78).stderr


def test_progress_is_shown_on_stderr_to_people_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(file, *BOTH).stderr == "", "nobody watches"
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    watched = run(file, *BOTH)
    assert "reading" in watched.stderr
    assert "estimating" in watched.stderr


@pytest.fixture(scope="module")
def open_bandit() -> Path:
    folder = os.environ.get("STREAMLEARN_DATA")
    path = Path(folder or "") / "open_bandit_small" / "obd_log.csv.gz"
    if not folder or not path.is_file():
        pytest.skip("STREAMLEARN_DATA holds no open_bandit_small: the Open Bandit sample is not at hand")
    return path


@pytest.mark.parametrize("interval", ["hall", "normal", pytest.param("bootstrap", marks=pytest.mark.slow), "bernstein"])
def test_bernoulli_thompson_s_click_rate_lies_in_what_the_random_log_says_of_it(
    open_bandit: Path, tmp_path: Path, interval: str
) -> None:
    report = results(
        tmp_path, open_bandit, "--reward", "click", "--propensity", "propensity_score", "--policy-column", "policy",
        "--logged", "random", "--target", "bts", "--action", "item_id", "--position", "position", "--campaign", "campaign",
        "--interval", interval,
    )  # fmt: skip
    assert [one["name"] for one in report["groups"]] == ["men", "women", "together"]
    with gzip.open(open_bandit, "rt") as file:
        clicks = [line.rstrip().split(",") for line in file if line.rstrip().rpartition(",")[0].endswith(",bts")]
    for group in report["groups"]:
        own = [int(cells[3]) for cells in clicks if group["name"] in ("together", cells[-1])]
        assert group["truth"]["value"] == pytest.approx(sum(own) / len(own))
        assert [one["name"] for one in group["estimates"]] == ["IPS", "SNIPS", "DR"]
        assert all(one["low"] <= sum(own) / len(own) <= one["high"] for one in group["estimates"])
        assert abs(group["weights"]["mean"] - 1) < 3 * group["weights"]["mean_error"]
    assert report["doubts"] == []
