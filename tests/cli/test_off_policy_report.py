"""What off-policy tells of estimates: which hold the truth, what is doubted, the results for programs, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlearn.cli.off_policy_report import Group, Report, as_json, covers, doubts, draw, show
from streamlearn.recommend.offpolicy import Estimate, Health, Interval

TRUTH = Estimate("new", 0.5, 0.4, 0.6, 0.05, "wilson")
SOUND = Health(1000, 400.0, 1.01, 0.02, 5.0, 0)


def group(
    health: Health = SOUND, truth: Estimate | None = TRUTH, unsupported: float | None = 0.0, mix: float | None = 0.0
) -> Group:
    estimates = [Estimate("IPS", 0.52, 0.3, 0.7, 0.1, "normal"), Estimate("SNIPS", 1234.5, 0.51, 2000.0, 0.1, "delta")]
    return Group("shoes", Estimate("old", 0.3, 0.2, 0.4, 0.05, "wilson"), truth, estimates, health, unsupported, mix)


def report(*groups: Group, clip: float | None = None) -> Report:
    return Report("log.csv", "old", "new", "buy", Interval("normal", level=0.9, clip=clip), groups, True)


def test_an_interval_holds_the_truth_at_its_ends_too() -> None:
    one = Estimate("IPS", 0.5, 0.5, 0.6, 0.1, "normal")
    assert covers(one, TRUTH) is True
    assert covers(one._replace(low=0.51), TRUTH) is False
    assert covers(one, None) is None


@pytest.mark.parametrize(
    ("made", "clip", "told"),
    [
        (group(), None, None),
        (group(SOUND._replace(mean=1.059)), None, None),
        (group(SOUND._replace(mean=1.07)), None, "shoes: the mean weight 1.070 is over 3 standard errors from 1"),
        (group(SOUND._replace(mean=0.93)), None, "shoes: the mean weight 0.930 is over 3"),
        (group(SOUND._replace(mean=1.009, mean_error=0.0)), None, None),
        (group(SOUND._replace(mean=0.5, clipped=20)), 2.0, "shoes: 20 weights (2.00%) were clipped at 2"),
        (group(SOUND._replace(mean=0.5)), 9.0, None),
        (group(SOUND._replace(ess=9.0)), None, "shoes: the effective rows are under 1% of the log's"),
        (group(unsupported=0.05), None, "shoes: of 5.0% of the target's choices the log shows no row"),
        (group(mix=0.05), None, "shoes: 5.0% of the target's contexts are not the log's"),
        (group(unsupported=None, mix=None, truth=None), None, None),
    ],
)
def test_what_is_doubted(made: Group, clip: float | None, told: str | None) -> None:
    found = doubts(report(made, clip=clip))
    assert len(found) == (told is not None)
    assert told is None or found[0].startswith(told)


def test_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(group(), clip=7.0))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[2:6] == [
        "shoes old its own rows 1,000 0.30000 0.20000 to 0.40000 0.05000",
        "new IPS (normal) 0.52000 0.30000 to 0.70000 0.10000 yes",
        "new SNIPS (delta) 1234 0.51000 to 2000 0.10000 no",
        "new its own rows: the truth 0.50000 0.40000 to 0.60000 0.05000",
    ]
    assert lines[7] == "shoes 400 of 1,000 1.010 ± 0.020 5.00 0 0.00%"
    assert lines[-1].startswith("Without the doubly robust estimate")


def test_the_results_for_programs() -> None:
    found = json.loads(json.dumps(as_json(report(group(), group(truth=None)))))
    first, second = found["groups"]
    assert (found["level"], found["interval"], found["clip"], found["target"]) == (0.9, "normal", None, "new")
    assert [one["covers"] for one in first["estimates"]] == [True, False]
    assert [one["covers"] for one in second["estimates"]] == [None, None]
    assert (first["truth"]["value"], second["truth"], first["weights"]["ess"]) == (0.5, None, 400.0)


@pytest.mark.parametrize("groups", [(group(),), (group(truth=None), group(), group())])
def test_the_picture(tmp_path: Path, groups: tuple[Group, ...]) -> None:
    draw(report(*groups), tmp_path / "p.svg")
    draw(report(*groups)._replace(logged=None, target=None), tmp_path / "p.png")
    assert (tmp_path / "p.svg").stat().st_size > 10_000
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
