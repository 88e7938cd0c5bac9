"""The network: its gradients against differences, its steps against river's, and what it can that a line cannot."""

from __future__ import annotations

import math
import pickle
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from river import optim
from threadpoolctl import threadpool_info, threadpool_limits

from streamlearn.recommend.linear import AtOnce, Linear, SoftLog, sigmoid
from streamlearn.recommend.network import LARGEST, LEARNING_RATE, SKIP_RATE, Calibration, Network, _one_thread

SIZE = 5


def rows(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, SIZE)) * [1, 3, 0.2, 0, 1] + [0, 5, -1, 2, 0]).astype(np.float32)


def warm(seed: int = 3, **changed: object) -> Network:
    """A network whose weights are none of them 0 any more."""
    network = Network(SIZE, seed, **{"hidden": (6, 4), **changed})  # type: ignore[arg-type]
    for turn in range(20):
        f = rows(8, turn)
        network.see(f)
        network.prefer(f, turn % 8)
        network.learn(f[0], turn % 3 / 2)
    return network


def exact(network: Network, f: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The logits by these weights without the intercept, in float64, written anew."""
    sizes = [SIZE, *network.hidden]
    h = z = network.scaled(f)
    at = 0
    for above, below in pairwise(sizes):
        end = at + above * below
        h = np.maximum(h @ flat[at:end].reshape(above, below) + flat[end : end + below], 0.0)
        at = end + below
    return h @ flat[at : at + sizes[-1]] + z @ flat[at + sizes[-1] :]


def slopes(network: Network, loss: object, flat: np.ndarray) -> np.ndarray:
    """Central differences of loss(weights)."""
    found, step = np.empty(len(flat)), 1e-6
    for at in range(len(flat)):
        moved = flat.copy()
        moved[at] += step
        above = loss(moved)  # type: ignore[operator]
        moved[at] -= 2 * step
        found[at] = (above - loss(moved)) / (2 * step)  # type: ignore[operator]
    return found


def stepped(before: Network, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The squares and the weights after river's AdaGrad has gone by the gradient."""
    count = len(before.values)
    rates = [LEARNING_RATE] * (count - SIZE) + [SKIP_RATE] * SIZE
    values = np.empty(count)
    for rate in (LEARNING_RATE, SKIP_RATE):
        river = optim.AdaGrad(rate)
        for at in range(count):
            river.g2[at] = float(before.squares[at])
        after = river.step(dict(enumerate(before.values.tolist())), dict(enumerate(gradient.tolist())))
        for at in range(count):
            if rates[at] == rate:
                values[at] = after[at]
    return before.squares + np.square(gradient), values


def test_preferring_is_river_s_step_along_the_slope_of_the_softmax_of_all() -> None:
    network, f, taken, w = warm(), rows(9, 77), 4, 0.7
    network.see(f)

    def loss(flat: np.ndarray) -> float:
        logits = exact(network, f, flat)
        return float(w * (np.log(np.exp(logits).sum()) - logits[taken]))

    squares, values = stepped(network, slopes(network, loss, network.values.astype(np.float64)))
    network.prefer(f, taken, w)
    assert network.squares == pytest.approx(squares, rel=1e-3, abs=1e-6)
    assert network.values == pytest.approx(values, abs=2e-5)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("loss", [SoftLog(), AtOnce()])
def test_learning_a_row_is_river_s_step_along_the_slope_of_its_loss(loss: SoftLog, l2: float) -> None:
    network, f, y, w = warm(at_once=isinstance(loss, AtOnce), l2=l2), rows(1, 78), 0.3, 2.0
    for shown, earned in zip(rows(6, 5), (1.0, 0.0, 0.0, 0.2, 0.0, 0.5), strict=True):
        network.calibrate(shown, earned)
    slope, intercept = network.calibration.line()
    assert slope != 1
    assert intercept != 0
    seen = pickle.loads(pickle.dumps(network))
    seen.see(f)

    def all_of_it(flat: np.ndarray) -> float:
        logit = slope * float(exact(seen, f, flat)[0]) + intercept
        return float(w * loss(y, logit) + l2 / 2 * np.square(flat).sum())

    squares, values = stepped(network, slopes(network, all_of_it, network.values.astype(np.float64)))
    network.learn(f[0], y, w)
    assert network.squares == pytest.approx(squares, rel=1e-3, abs=1e-6)
    assert network.values == pytest.approx(values, abs=2e-5)


def test_calibration_finds_the_shares_and_keeps_the_order() -> None:
    """Rows whose ends are -3 and 5 earn a tenth and a half; the ends are the tenfold later, as the network grows surer."""
    made, draw = Calibration(), random.Random(3)
    for n in range(6000):
        larger = 1 if n < 2000 else 10
        end, share = draw.choice([(-3.0, 0.1), (5.0, 0.5)])
        made.learn(larger * end, float(draw.random() < share), 1.0, SoftLog())
    slope, intercept = made.line()
    assert slope > 0
    assert sigmoid(slope * -30 + intercept) == pytest.approx(0.1, abs=0.05)
    assert sigmoid(slope * 50 + intercept) == pytest.approx(0.5, abs=0.1)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1)), max_size=30))
def test_a_calibration_stays_finite_and_rising(earned: list[tuple[float, float]]) -> None:
    made = Calibration()
    for end, y in earned:
        made.learn(end, y, 1.0, SoftLog())
    slope, intercept = made.line()
    assert slope > 0
    assert np.isfinite([slope, intercept]).all()


def test_what_was_shown_moves_the_calibration_alone() -> None:
    network, f = warm(), rows(9, 77)
    other = pickle.loads(pickle.dumps(network))
    for row in f:
        other.calibrate(row, 0.0)
    assert (other.values == network.values).all()
    assert (other.squares == network.squares).all()
    assert (other.mean == network.mean).all()
    assert other.logits(f).mean() < network.logits(f).mean()
    assert (np.argsort(other.logits(f)) == np.argsort(network.logits(f))).all()


def test_the_first_weights_are_spread_by_the_seed_and_by_the_inputs() -> None:
    network = Network(100, 5)
    first = network.values[:6400]
    assert float(first.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float(first.mean())) < 0.005
    assert not network.values[-132:].any()  # the last ones, so that nothing is ranked by chance
    assert not network.logits(np.ones((3, 100), np.float32)).any()
    assert network.values.dtype == network.squares.dtype == np.float32


def test_it_is_a_function_of_the_seed_and_of_what_it_learned() -> None:
    def bytes_of(network: Network) -> list[bytes]:
        return [value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode() for value in network.learned()]

    assert bytes_of(warm()) == bytes_of(warm())
    assert bytes_of(warm(3)) != bytes_of(warm(4))


def test_a_pickled_network_goes_on_alike_and_carries_its_weights_once() -> None:
    network = warm()
    pickled = pickle.dumps(network)
    other = pickle.loads(pickled)
    assert len(pickled) < 2 * network.values.nbytes + 2000
    f = rows(7, 9)
    for one in (network, other):
        one.see(f)
        one.prefer(f, 2)
    assert network.values.tobytes() == other.values.tobytes()
    assert network.logits(f).tobytes() == other.logits(f).tobytes()


def placed(model: Network | Linear) -> float:
    """How often the taken one is first, where what is liked is the middle of the first feature."""
    rng, hits = np.random.default_rng(8), 0
    for turn in range(1500):
        f = rng.uniform(-1, 1, (10, SIZE)).astype(np.float32)
        taken = int(np.abs(f[:, 0]).argmin())
        hits += turn >= 1000 and int(model.logits(f).argmax()) == taken
        model.see(f)
        if isinstance(model, Network):
            model.prefer(f, taken)
        else:
            model.prefer(f[taken], np.delete(f, taken, axis=0))
    return hits / 500


def test_it_learns_what_a_line_cannot() -> None:
    assert placed(Linear(SIZE)) < 0.25
    assert placed(Network(SIZE, 1)) > 0.7


def test_a_share_of_shown_rows_is_served_as_it_is() -> None:
    rng, network = np.random.default_rng(5), Network(SIZE, 1)
    for _ in range(6_000):
        f = rng.normal(size=SIZE).astype(np.float32)
        network.learn(f, float(rng.random() < (0.6 if abs(f[0]) < 0.7 else 0.1)))
    middle, edge = np.zeros((1, SIZE), np.float32), np.zeros((1, SIZE), np.float32)
    edge[0, 0] = 2.0
    assert float(sigmoid(network.logits(middle))[0]) == pytest.approx(0.6, abs=0.15)
    assert float(sigmoid(network.logits(edge))[0]) == pytest.approx(0.1, abs=0.1)


@pytest.mark.parametrize("hidden", [(3,), (6, 4), (5, 4, 3)])
def test_what_features_add_and_the_rest_are_the_logit(hidden: tuple[int, ...]) -> None:
    network = warm(hidden=hidden)
    for row in rows(20, 99):
        parts, rest = network.explained(row)
        logit = float(network.logits(row[None, :])[0])
        assert float(parts.sum()) + rest == pytest.approx(logit, abs=1e-5)
        nearby = row.copy()
        nearby[0] += 1e-3  # no unit turns within this
        gained = (network.explained(nearby)[0] - parts)[0]
        assert float(network.logits(nearby[None, :])[0]) - logit == pytest.approx(gained, abs=1e-5)


values = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(SIZE)), elements=values), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([1.0, 100.0, 1e30]),
)
def test_it_stays_finite_whatever_comes(given: list[tuple[np.ndarray, float]], w: float) -> None:
    network = Network(SIZE, 2, hidden=(4, 3), learning_rate=1.0)
    for f, y in given:
        network.see(f)
        network.prefer(f, len(f) - 1, w)
        network.learn(f[0], y, w)
        assert np.isfinite(network.logits(f)).all()
        parts, rest = network.explained(f[0])
        assert np.isfinite(parts).all()
        assert math.isfinite(rest)
    assert np.isfinite(network.values).all()
    assert np.isfinite(network.squares).all()
    assert np.abs(network.values).max() <= LARGEST


def test_blas_keeps_to_one_thread_where_there_is_a_network() -> None:
    with threadpool_limits(2, user_api="blas"):
        _one_thread.cache_clear()
        pickle.loads(pickle.dumps(Network(SIZE)))
        assert {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"} == {1}
