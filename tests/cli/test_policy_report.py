"""What policy-bench tells: a recommendation that can be pasted, ties that are called ties, and a picture."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.cli.benches import Source
from streamlearn.cli.policy_replay import ORACLE, Compared, Result
from streamlearn.cli.policy_report import Report, as_json, as_toml, draw, kappa, recommended, show
from streamlearn.config_retrain import CostSettings, PolicySettings, RetrainSettings
from streamlearn.retrain.ledger import Ledger
from streamlearn.retrain.policy import Past

params = st.dictionaries(
    st.sampled_from(["every", "tau", "schedule", "means"]),
    st.one_of(
        st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text('a"\\é\n\t '),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    ),
)  # fmt: skip


@given(st.sampled_from(["debt", "periodic", "mine.policies:Mine"]), params)
def test_the_toml_is_the_policy_that_was_measured(name: str, params: dict[str, Any]) -> None:
    policies = (PolicySettings(name=name, params=params), PolicySettings(name="never"))
    table = tomllib.loads(as_toml("m", policies))["models"]["m"]["retrain"]
    assert RetrainSettings.model_validate(table).policies == policies


def result(name: str, cost: float, retrains: int = 0, policy: str | None = None, **params: Any) -> Result:
    policies = () if name == ORACLE else (PolicySettings(name=policy or name, params=params),)
    return Result(name, policies, cost, list(range(retrains)), cost - 10 * retrains)


def compared(*results: Result, at: float = 10.0, missing: dict[str, str] | None = None) -> Compared:
    return Compared(at, [result(ORACLE, 100.0, 3), *sorted(results, key=lambda one: one.cost)], missing or {})


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"never": 300.0, "always": 200.0, "cara_t": 120.0, "debt": 130.0}, "cara_t"),
        ({"never": 300.0, "always": 200.0, "cara_t": 120.0, "debt": 123.0}, "debt"),
        ({"never": 101.0, "debt": 103.0, "upf": 100.0}, "debt"),
        ({"never": 100.0, "debt": 110.0, "periodic": 102.0}, "never"),
        ({"cara_ct": 100.0, "upf": 100.0, "periodic": 102.0, "mine.policies:Mine": 99.5}, "periodic"),
        ({"floor": 100.0, "labels": 100.0}, "labels"),
    ],
)
def test_of_policies_that_cost_alike_the_simplest_is_recommended(costs: dict[str, float], expected: str) -> None:
    advice = recommended(compared(*(result(name, cost, 4) for name, cost in costs.items())))
    assert advice.chosen.name == expected
    assert advice.least.cost == min(costs.values())
    assert {one.name for one in advice.alike} == {name for name, cost in costs.items() if cost <= 1.03 * min(costs.values())}


def test_a_debt_that_differs_from_the_default_is_not_the_simplest() -> None:
    free = result("debt without the gate", 100.0, 5, "debt", gate=False)
    assert recommended(compared(free, result("periodic", 101.0, 5))).chosen.name == "periodic"
    assert recommended(compared(free, result("cara_ct", 99.0, 5))).chosen is free
    both = result("both", 99.0, 5)._replace(policies=(PolicySettings(name="debt"), *free.policies))
    assert recommended(compared(free, both)).chosen is free, "one is simpler than two"
    assert recommended(compared(both, result("cara_ct", 99.0, 5))).chosen is both


def report(*all_compared: Compared, cost: CostSettings | None = None, configured: tuple[str, ...] = ("debt",)) -> Report:
    n = np.full(20, 50.0)
    empty = np.zeros((20, 20))
    ledger = Ledger(Past(n, n, empty, empty, empty, n), [], list(range(0, 1001, 50)), "binary", 1, True)
    given = cost or CostSettings(retrain=20, loss=2, unit="euros")
    return Report("m", Source("rows.csv"), given, ledger, 5, configured, all_compared)


def some() -> Report:
    low = compared(result("never", 300.0), result("debt", 130.0, 4), result("always", 140.0, 14), at=1.0)
    here = compared(
        result("never", 300.0), result("always", 260.0, 14), result("debt", 130.0, 2), result("periodic", 120.0, 3, every=5),
        missing={"upf": "it needs scikit-learn"},
    )  # fmt: skip
    return report(low, here)


def test_costs_are_told_in_the_users_unit(capsys: pytest.CaptureFixture[str]) -> None:
    show(some())
    told = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "Read: rows.csv" in lines
    assert any(line.startswith("m: 1,000 labelled events in 20 batches of 50; a retrain learns 1 batch,") for line in lines)
    assert "Tuned on the first 5 batches, costed on the other 15 (750 events)" in lines
    assert "policy κ 1 κ 10 *" in lines
    assert "oracle 1.000 (3) 1.000 (3)" in lines
    assert "debt (configured) 1.300 (4) 1.300 (2)" in lines
    assert "periodic – 1.200 (3)" in lines
    assert "Without upf: it needs scikit-learn" in lines
    assert "Recommended at κ = 10: periodic" in lines
    assert "240 euros (90 events lost, 3 retrains); 1.200 times the oracle's" in lines
    assert "never: 600 euros (300 events lost, 0 retrains); 150.0% more" in lines
    assert "always: 520 euros (120 events lost, 14 retrains); 116.7% more" in lines
    assert "Within" not in told
    assert tomllib.loads(told[told.index("[models.m") :])["models"]["m"]["retrain"]["policies"] == [
        {"name": "periodic", "params": {"every": 5}}
    ]


def test_ties_and_thin_evidence_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(compared(result("never", 300.0), result("debt", 102.0, 2), result("cara_t", 100.0, 3, tau=4.0))))
    told = capsys.readouterr().out
    assert "Recommended at κ = 10: debt" in told
    assert "not told apart by one stream: also cara_t. The simplest was taken" in told
    assert "The least was 2.0% less: cara_t" in told
    assert "It rests on 2 retrains only" in told
    show(report(compared(result("never", 101.0), result("debt", 100.0, 0))))
    assert "there was nothing to be won by a retrain at this price" in capsys.readouterr().out


def test_programs_get_all_of_it() -> None:
    told = as_json(some())
    assert (told["kappa"], told["recommended"], told["labelled"], told["tuned_on"]) == (10.0, "periodic", 1000, 5)
    assert [one["kappa"] for one in told["costs"]] == [1.0, 10.0]
    here = told["costs"][1]
    assert here["missing"] == {"upf": "it needs scikit-learn"}
    debt = next(one for one in here["policies"] if one["name"] == "debt")
    assert debt == {
        "name": "debt", "configured": True, "policies": [{"name": "debt", "params": {}}], "cost": 130.0, "over_oracle": 1.3,
        "lost": 110.0, "retrains": [0, 1],
    }  # fmt: skip
    assert next(one for one in here["policies"] if one["name"] == ORACLE)["policies"] == []


def test_where_nothing_is_lost_nothing_is_divided(capsys: pytest.CaptureFixture[str]) -> None:
    free = Compared(10.0, [result(ORACLE, 0.0), result("debt", 0.0), result("always", 140.0, 14)], {})
    show(report(free))
    assert "nothing was lost" in capsys.readouterr().out
    assert free.over(free.results[1]) == 1.0


def test_a_cost_of_nothing_is_shown_and_not_drawn(tmp_path: Path) -> None:
    nothing = compared(result("debt", 130.0, 4), at=0.0)
    draw(report(nothing, compared(result("debt", 130.0, 4)), cost=CostSettings(retrain=0)), tmp_path / "p.svg")
    assert (tmp_path / "p.svg").stat().st_size > 5000


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")])
def test_a_picture_is_drawn(tmp_path: Path, ending: str, begins: bytes) -> None:
    path = tmp_path / f"p.{ending}"
    draw(some(), path)
    assert path.read_bytes().startswith(begins)
    assert path.stat().st_size > 5000


def test_costs_of_a_retrain_are_short() -> None:
    assert [kappa(value) for value in (0.0, 0.6325, 20.0, 632.5, 20_000.0)] == ["0", "0.632", "20", "632", "20,000"]
