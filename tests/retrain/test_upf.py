"""The forecast of losses: fitted to a past, and what it decides."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from retrain_pasts import BEGAN, HOUR, past_of, seen_of, simulated
from scipy import stats

from streamlearn.config_retrain import PolicySettings
from streamlearn.errors import ModelError
from streamlearn.retrain.policies import build
from streamlearn.retrain.policy import Past, Tunable
from streamlearn.retrain.simulate import oracle, replay
from streamlearn.retrain.upf import Upf, fitted, shift


def plain(**more: Any) -> Upf:
    """Mean loss .2 and .1 more with each ten hours of age."""
    params: dict[str, Any] = {
        "origin": BEGAN, "span": 10 * HOUR, "step": HOUR, "batch": 500.0, "coefficients": [0.0, 0.1, 0.0, 0.0],
        "intercept": 0.2, "means": [0.0] * 4, "scales": [1.0] * 4, "variance": 0.001, "ahead": 5, "growth": 0.1,
    }  # fmt: skip
    return Upf(**(params | more))


def ageing(seed: int = 0, width: int = 30) -> Past:
    return simulated(width, lambda i, j: min(0.9, 0.2 + 0.02 * (j - i - 1)), seed=seed)


def test_the_forecast_is_the_quantile_of_a_beta() -> None:
    upf = plain()
    means = 0.2 + 0.1 * np.array([0.4, 0.5, 0.6, 0.7, 0.8])  # made an hour ago is 0.1 of the span
    assert upf.mean(BEGAN, BEGAN + HOUR * np.arange(4.0, 9.0), 0.0) == pytest.approx(means)
    k = means * (1 - means) / 0.001 - 1
    expected = stats.beta.ppf(0.95, means * k, (1 - means) * k)
    assert upf.forecast(BEGAN, BEGAN + 3 * HOUR, 0.0) == pytest.approx(expected)
    assert stats.beta.var(means * k, (1 - means) * k) == pytest.approx(0.001)


def test_it_retrains_when_the_model_kept_is_forecast_to_lose_a_retrain_more() -> None:
    seen = seen_of([0.2] * 4)
    upf = plain()
    kept, anew = upf.forecast(seen.since, seen.now, 0.0).sum() * 500, upf.forecast(seen.now, seen.now, 0.0).sum() * 500
    choice = upf.decide(seen)
    assert (choice.retrain, choice.total) == (True, pytest.approx(kept - anew))
    assert (choice.numbers["kept"], choice.numbers["anew"]) == (pytest.approx(kept), pytest.approx(anew))
    assert not upf.decide(replace(seen, kappa=kept - anew + 1e-6)).retrain
    assert upf.decide(replace(seen, kappa=kept - anew - 1e-6)).retrain


def test_the_shift_of_the_model_counts_and_a_new_one_has_none() -> None:
    upf = plain(coefficients=[0.0, 0.0, 0.0, 0.1])
    seen = seen_of([0.2])
    assert upf.decide(seen).total == pytest.approx(0.0)
    moved = replace(seen, batches=(seen.batches[0]._replace(shift=1.0),))
    assert upf.decide(moved).retrain


@pytest.mark.parametrize("change", [{"intercept": 5.0}, {"intercept": -5.0}, {"variance": 0.0}, {"variance": 10.0}])
def test_a_forecast_beyond_all_losses_stays_one(change: dict[str, float]) -> None:
    forecast = plain(**change).forecast(BEGAN, BEGAN, 0.0)
    assert np.isfinite(forecast).all()
    assert (forecast >= 0).all()
    assert (forecast <= 1).all()


def test_fitted_to_ageing_models_it_retrains_nearly_as_well_as_hindsight() -> None:
    upf = fitted(ageing(), 20.0)
    assert upf.growth > 0.2
    fresh = ageing(seed=1)
    done = replay(upf, fresh, 20.0)
    assert done.retrains
    assert done.cost < 1.3 * oracle(fresh, 20.0).cost
    assert isinstance(upf, Tunable)
    assert upf.tuned(fresh, 20.0) == fitted(fresh, 20.0)


def test_its_params_can_stand_in_a_configuration() -> None:
    upf = fitted(ageing(width=8), 20.0)
    params = json.loads(json.dumps(upf.params()))
    assert build(PolicySettings(name="upf", params=params)) == upf


def test_without_drift_it_says_that_it_will_never_fire() -> None:
    past = past_of(np.full((10, 10), 0.2))
    upf = fitted(past, 1.0)
    assert upf.growth == 0
    done = replay(upf, past, 1.0)
    assert done.retrains == []
    assert done.choices[-1].why.endswith("; the past that it was fitted to held no drift: fit it to one that does")


def test_too_short_a_past_is_refused() -> None:
    with pytest.raises(ModelError, match=r"upf cannot be fitted to 5 batches in 14400 s; give it 6 at least"):
        fitted(past_of(np.full((5, 5), 0.2)), 20.0)
    still = ageing(width=8)
    still.at[:] = BEGAN
    with pytest.raises(ModelError, match=r"8 batches in 0 s; give it 6 at least, with their times"):
        fitted(still, 20.0)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def none(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(ModelError, match=r"pip install 'streamlearn\[batch\]'"):
        fitted(ageing(width=8), 20.0)
    assert plain().decide(seen_of([0.2] * 4)).retrain  # deciding needs it no more


def test_a_shift_is_in_scales_of_numbers_and_shares_of_texts() -> None:
    before = [{"u": 0.0, "c": "a"}, {"u": 2.0, "c": "b"}]
    assert shift(before, before, {"u": 1.0}) == 0.0
    assert shift(before, [{"u": 4.0, "c": "a"}, {"u": 4.0, "c": "b"}], {"u": 1.0}) == pytest.approx(3 / 2**0.5)
    assert shift(before, [{"u": 1.0, "c": "d"}], {"u": 1.0}) == pytest.approx(1 / 2**0.5)
    assert shift(before, [{"u": 1e300, "c": "a"}, {"u": 1e300, "c": "b"}], {"u": 1.0}) == pytest.approx(10 / 2**0.5)
    assert shift(before, [{"c": "a"}, {"c": "b"}], {"u": 1.0}) == pytest.approx(1 / 2**0.5)  # a feature that vanished
    assert shift([{"f": True}], [{"f": 1}], {}) == 1.0
    assert shift([], before, {}) == shift(before, [], {}) == shift([{}], [{}], {}) == 0.0
