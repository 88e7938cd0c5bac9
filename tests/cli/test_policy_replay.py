"""Policies on a ledger: the drifts that the service would have confirmed, the costs, and what cannot be compared."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from streamlearn.cli.policy_replay import BESIDE, ORACLE, TOGETHER, Gate, Result, compare, head, on_loss, stretch
from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.config_errors import ConfigErrors
from streamlearn.config_retrain import PolicySettings
from streamlearn.errors import ConfigError
from streamlearn.retrain.ledger import Ledger
from streamlearn.retrain.policy import Past

BATCHES, SIZE = 24, 100
DRIFT = DriftSettings(window=200, gap=50, min_reference=200)


def made(turns: Sequence[int], seconds: float = 1.0, seed: int = 5) -> Ledger:
    """Frozen models of a world that turns at these batches: they lose a tenth, and of a later world six tenths."""
    rng = np.random.default_rng(seed)
    world = np.array([sum(turn <= j for turn in turns) for j in range(BATCHES)])
    losses, loss = [], np.full((BATCHES, BATCHES), np.nan)
    for i in range(BATCHES):
        share = np.where(world[i + 1 :] == world[i], 0.1, 0.6)
        lost = rng.random((BATCHES - i - 1, SIZE)) < share[:, None]
        loss[i, i + 1 :] = lost.mean(axis=1)
        losses.append(lost.ravel().astype(np.float32))
    n, at = np.full(BATCHES, float(SIZE)), seconds * SIZE * np.arange(1.0, BATCHES + 1)
    past = Past(n, at, loss, loss, np.zeros_like(loss), np.full(BATCHES, 0.1))
    return Ledger(past, losses, list(range(0, BATCHES * SIZE + 1, SIZE)), "binary", 1, False)


def policy(name: str, **params: object) -> PolicySettings:
    return PolicySettings(name=name, params=params)


def test_a_drift_is_confirmed_in_the_batch_in_which_its_evidence_is_complete() -> None:
    ledger = made([12])
    gate = Gate(ledger, DRIFT)
    found = {j: gate(5, j) for j in range(6, BATCHES) if gate(5, j) is not None}
    assert len(found) == 1
    [(batch, confirmed)] = found.items()
    assert 12 <= batch <= 14
    assert confirmed is not None
    assert confirmed.reference == pytest.approx(0.1, abs=0.05)
    assert confirmed.fresh == pytest.approx(0.6, abs=0.1)
    assert abs(confirmed.n - SIZE * (batch + 1 - 12)) < 40, "from the change to the end of the batch"
    assert gate(5, batch) is confirmed, "asked again it says the same"
    assert all(gate(12, j) is None for j in range(13, BATCHES)), "a model of the new world sees none"


def test_the_losses_before_a_drift_are_no_reference_for_the_next() -> None:
    gate = Gate(made([8, 16]), DRIFT)
    one = [confirmed for j in range(1, BATCHES) if (confirmed := gate(0, j))]
    assert len(one) == 1, "this model loses six tenths in both of the later worlds"
    again = made([8])
    rising = again.losses[0].copy()
    rising[15 * SIZE :] = 1.0
    again.losses[0] = rising
    first, second = [confirmed for j in range(1, BATCHES) if (confirmed := Gate(again, DRIFT)(0, j))]
    assert first.reference == pytest.approx(0.1, abs=0.05)
    assert second.reference == pytest.approx(0.6, abs=0.05)
    assert second.fresh > 0.95


def test_detectors_of_what_is_not_kept_are_left_out() -> None:
    score, loss = DetectorSettings(name="adwin", on="score"), DetectorSettings(name="adwin")
    both = DRIFT.model_copy(update={"detectors": (score, loss), "quorum": "all"})
    assert on_loss(DRIFT) is DRIFT
    assert on_loss(both).detectors == (loss,)
    assert on_loss(both).quorum == 1
    assert on_loss(DRIFT.model_copy(update={"detectors": (score,)})).detectors == DriftSettings().detectors


def by_name(results: Sequence[Result]) -> dict[str, Result]:
    return {one.name: one for one in results}


def test_what_retrains_at_the_right_time_costs_least_but_for_the_oracle() -> None:
    ledger = made([9, 16])
    compared = compare(ledger, Gate(ledger, DRIFT), {}, 20.0, 6)
    found = by_name(compared.results)
    assert set(found) | set(compared.missing) == {ORACLE, *BESIDE}
    assert compared.oracle.name == ORACLE
    assert compared.oracle.retrains == [9, 16], "as soon as a model of the new world can be had"
    costs = [one.cost for one in compared.results]
    assert costs == sorted(costs)
    assert found["never"].retrains == []
    assert found["always"].retrains == list(range(6, BATCHES - 1))
    assert len(found["debt"].retrains) == 2
    assert compared.over(found["debt"]) < 1.6 < 2.5 < compared.over(found["never"])
    for one in compared.results:
        assert one.cost == pytest.approx(one.lost + 20 * len(one.retrains))
    never = ledger.past.loss[5, 6:].sum() * SIZE
    assert found["never"].cost == pytest.approx(never), "served by the model of the calibration's last batch"


def test_policies_are_tuned_on_the_first_batches_alone() -> None:
    """What comes after them changes no parameter."""
    quiet, restless = made([3, 6, 9]), made([3, 6, 9, 15, 17, 19, 21])
    params = []
    for ledger in (quiet, restless):
        ledger.past.loss[:10, :10] = quiet.past.loss[:10, :10]
        compared = compare(ledger, Gate(ledger, DRIFT), {}, 20.0, 10)
        params.append({one.name: [policy.params for policy in one.policies] for one in compared.results})
    assert params[0] == params[1]
    assert params[0]["periodic"][0]["every"] == 3
    assert params[0]["cara_t"][0]["tau"] > 0
    assert params[0]["debt, or twice unconfirmed"] == [{}, {"gate": False, "times": 2}]


def test_configured_policies_run_as_they_are() -> None:
    ledger = made([12])
    names = {"periodic every 5": policy("periodic", every=5), "labels": policy("labels", events=700)}
    configured = names | {"mine": policy("debt")}
    found = by_name(compare(ledger, Gate(ledger, DRIFT), configured, 20.0, 6).results)
    assert found["periodic every 5"].retrains == [10, 15, 20]
    assert found["periodic every 5"].policies == (configured["periodic every 5"],)
    assert found["labels"].retrains == [12, 19]
    assert "debt" not in found, "it is the configured one, which stands there once"
    together = found[TOGETHER]
    assert together.retrains == [10, 15, 20], "the period is always the first of these, and counts from every retrain"
    assert together.policies == tuple(configured.values())
    with pytest.raises(ConfigErrors, match="there is no policy 'dept'"):
        compare(ledger, Gate(ledger, DRIFT), {"dept": policy("dept")}, 20.0, 6)


class Mine:
    """A policy of one's own: the first batch, and none after."""

    name, gated, evidence, sample = "mine", False, True, 0

    def decide(self, seen: object) -> object:
        from streamlearn.retrain.policy import Choice

        return Choice(seen.first, 1.0, 0.0, "the first")  # type: ignore[attr-defined]

    def params(self) -> dict[str, object]:
        return {}


def test_a_policy_of_ones_own_is_compared_too() -> None:
    ledger = made([12])
    mine = {"mine": policy(f"{__name__}:Mine")}
    found = by_name(compare(ledger, Gate(ledger, DRIFT), mine, 20.0, 6).results)
    assert found["mine"].retrains == [6]
    assert TOGETHER not in found, "it is alone"


def test_what_goes_by_the_clock_needs_times() -> None:
    ledger = made([4, 12], seconds=0.0)
    cron = {"cron": policy("cron", schedule="* * * * *")}
    compared = compare(ledger, Gate(ledger, DRIFT), cron, 20.0, 6)
    assert set(compared.missing) == {"cron", "upf"}
    assert "--ts" in compared.missing["cron"]
    timed = made([4, 12])
    assert by_name(compare(timed, Gate(timed, DRIFT), cron, 20.0, 6).results)["cron"].retrains == list(range(6, BATCHES - 1))


def test_a_forecast_needs_a_drift_to_be_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    drifted, calm = made([4, 12]), made([12])
    assert "upf" in by_name(compare(drifted, Gate(drifted, DRIFT), {}, 20.0, 8).results)
    calm.past.loss[np.triu_indices(BATCHES, 1)] = 0.1
    assert "without drift" in compare(calm, Gate(calm, DRIFT), {}, 20.0, 8).missing["upf"]
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    assert "pip install 'streamlearn[batch]'" in compare(drifted, Gate(drifted, DRIFT), {}, 20.0, 8).missing["upf"]


def test_the_head_of_a_past_is_what_was_known_then() -> None:
    past = made([12]).past
    part = head(past, 7)
    assert (len(part.n), len(part.at), len(part.reference)) == (7, 7, 7)
    assert part.loss.shape == part.psi.shape == part.shift.shape == (7, 7)
    assert np.array_equal(part.loss, past.loss[:7, :7], equal_nan=True)


def test_a_stretch_leaves_enough_to_both_sides() -> None:
    assert stretch(40, 0.25) == 10
    for batches, share in ((13, 0.25), (20, 0.85)):
        with pytest.raises(ConfigError, match=r"--tune: .* leaves \d+ to tune on and \d+ to compare on"):
            stretch(batches, share)
