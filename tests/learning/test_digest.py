"""The digest: blind to what pickling changes, sharp on every value."""

from __future__ import annotations

import collections
import copy
import functools
import math
import pickle
import random
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift, linear_model, optim, preprocessing, proba, stats, utils

from streamlearn.learning.digest import digest, named_values
from streamlearn.learning.recipes import RECIPES, build

PAIRS = [(name, task) for name, recipe in RECIPES.items() for task in sorted(recipe.tasks)]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4), max_leaves=20
)


class Node:
    def __init__(self, value: Any, next: Any = None) -> None:
        self.value, self.next = value, next


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


def teach(model: Any, task: str, events: range) -> Any:
    """The same event for the same number, whatever came before it."""
    for number in events:
        draw = random.Random(number)
        x = {"a": draw.gauss(0, 1), "b": draw.random() * 100, "c": draw.choice(["red", "green"]), "d": draw.random() < 0.5}
        score = x["a"] + (x["c"] == "red") + draw.gauss(0, 0.3)
        y: Any = score > 0.3 if task == "binary" else score
        if task == "multiclass":
            y = "low" if score < -0.5 else "mid" if score < 0.8 else "high"
        model.predict_one(x)
        model.learn_one(x, y)
    return model


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_every_recipe_keeps_its_digest_through_a_pickle_and_changes_it_with_one_more_event(name: str, task: str) -> None:
    params = {"n_models": 3} if "n_models" in RECIPES[name].params else {}
    model = teach(build(name, task, params, 7), task, range(300))
    before = digest(model)
    again = pickle.loads(pickle.dumps(model))
    assert digest(again) == before == digest(model)
    assert digest(pickle.loads(pickle.dumps(again))) == before
    assert digest(teach(model, task, range(300, 301))) != before
    assert digest(teach(again, task, range(300, 301))) == digest(model)


@given(values)
@settings(max_examples=60, deadline=None)
def test_any_value_keeps_its_digest_through_a_pickle_and_a_deep_copy(value: Any) -> None:
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value) == digest(copy.deepcopy(value))


@given(st.dictionaries(st.text(max_size=3) | st.integers(), scalars, min_size=2, max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_a_dict_or_a_set_was_filled_does_not_count(entries: dict[Any, Any], shuffle: random.Random) -> None:
    keys = list(entries)
    shuffle.shuffle(keys)
    shuffled = {key: entries[key] for key in keys}
    assert digest(shuffled) == digest(entries)
    assert digest(collections.OrderedDict(shuffled)) == digest(collections.OrderedDict(entries))
    assert digest(set(keys)) == digest(set(entries))
    assert digest(collections.Counter(dict.fromkeys(keys, 2))) == digest(collections.Counter(dict.fromkeys(entries, 2)))


def test_the_order_of_a_list_a_tuple_and_a_deque_counts() -> None:
    for kind in (list, tuple, collections.deque):
        assert digest(kind([1, 2])) != digest(kind([2, 1]))
        assert digest(kind([1, 2])) == digest(kind([1, 2]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (0, False), (0.0, -0.0), ("1", 1), (b"a", "a"), (None, 0), ("", None), ([], ()), ([], {}),
        ({"a": 1}, {"b": 1}), ({"a": 1}, {"a": 2}), ({1: 0}, {"1": 0}), ({1, 2}, {1, 3}), (set(), frozenset()),
        ([["a"], []], [[], ["a"]]), (["ab", "c"], ["a", "bc"]), (1.0, math.nextafter(1.0, 2.0)), (math.inf, -math.inf),
        (2**80, 2**80 + 1), (1j, 2j), (bytearray(b"x"), bytearray(b"y")), (range(3), range(4)), (int, float),
        (math.sin, math.cos),
        (np.float64(1), 1.0), (np.float32(1), np.float64(1)), (np.zeros(2), np.zeros(3)), (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(2), np.zeros(2, dtype=int)), (np.array([1.0]), np.array([2.0])), (Node(1), Node(2)),
        (Slotted(1, 2), Slotted(2, 1)), (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.partial(max, 1), functools.partial(min, 1)), (Node(1).__init__, Node(2).__init__), ([1].append, [2].append),
        (collections.deque([1], 3), collections.deque([1], 4)), (collections.defaultdict(int), collections.defaultdict(list)),
        (np.array([None, "a"], dtype=object), np.array([None, "b"], dtype=object)), ((1, (2,)), ((1, 2),)),
        ({("a", 1): 0}, {("a", "1"): 0}), ({1.5: 0}, {2.5: 0}),
    ],
)  # fmt: skip
def test_what_differs_has_another_digest(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)
    assert digest([one]) != digest([other])


def test_equal_things_made_apart_have_one_digest() -> None:
    for make in (
        lambda: Node([1.5, {"a": Slotted(1, "x")}]),
        lambda: Slotted(np.arange(3), {("a", 1): 2.0}),
        lambda: {"f": functools.partial(Node, 3), "g": [math.sqrt, Node, len]},
        lambda: np.arange(12).reshape(3, 4).T,
        lambda: {1.5: "a", (1, "b"): "c", frozenset({"x", "y"}): "d"},
        lambda: collections.deque(["a", {"b"}], 5),
    ):
        assert digest(make()) == digest(make())


def test_an_array_is_its_values_not_its_layout() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert digest(array[:, ::2]) == digest(array[:, ::2].copy())
    assert digest(array) == digest(np.asfortranarray(array))


def test_cycles_end_and_are_told_apart() -> None:
    ring = Node(1)
    ring.next = ring
    pair = Node(1, Node(1))
    pair.next.next = pair
    assert digest(ring) != digest(pair)
    loop: list[Any] = [1]
    loop.append((loop, {"self": loop}))
    for item in (ring, pair, loop):
        assert digest(pickle.loads(pickle.dumps(item))) == digest(item)


def test_a_shared_object_differs_from_two_equal_ones() -> None:
    inner = [1]
    shared, apart = [inner, inner], [[1], [1]]
    assert digest(shared) != digest(apart)
    assert digest(pickle.loads(pickle.dumps(shared))) == digest(shared)


@pytest.mark.parametrize("same", ["a long string", (1, 2.5, "x"), 10**30, 1.25, frozenset({"a"}), np.float64(3)])
def test_values_that_cannot_change_count_by_value_however_they_are_shared(same: Any) -> None:
    twin = pickle.loads(pickle.dumps(same))
    assert digest([same, same]) == digest([same, twin])


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    chain: list[Any] = []
    for _ in range(3000):
        chain = [chain]
    assert len(digest(chain)) == 64


GENERATORS = [
    random.Random,
    np.random.default_rng,
    np.random.RandomState,
    lambda seed: np.random.Generator(np.random.MT19937(seed)),
]


@pytest.mark.parametrize("make", GENERATORS)
def test_a_random_generator_is_its_state(make: Any) -> None:
    one, same, other = make(1), make(1), make(2)
    assert digest(one) == digest(same) == digest(pickle.loads(pickle.dumps(one))) != digest(other)
    before = digest(one)
    (one.gauss(0, 1) if isinstance(one, random.Random) else one.normal())
    assert digest(one) != before
    (same.gauss(0, 1) if isinstance(same, random.Random) else same.normal())
    assert digest(one) == digest(same) == digest(pickle.loads(pickle.dumps(one)))


NATIVE = [
    drift.ADWIN, lambda: drift.PageHinkley(mode="up"), stats.Mean, stats.Var, lambda: stats.Quantile(0.3),
    lambda: stats.EWMean(0.2), stats.PeakToPeak, lambda: stats.RollingQuantile(0.5, 20), proba.Gaussian,
    lambda: proba.Gaussian(seed=1), stats.Kurtosis, lambda: utils.Rolling(stats.Mean, window_size=5),
]  # fmt: skip


@pytest.mark.parametrize("make", NATIVE)
def test_rivers_compiled_objects_are_read_through_their_pickles(make: Any) -> None:
    one, same = make(), make()
    draw = random.Random(3)
    for value in [draw.gauss(0, 1) for _ in range(200)]:
        one.update(value)
        same.update(value)
    assert digest(one) == digest(same) == digest(pickle.loads(pickle.dumps(one)))
    before = digest(one)
    one.update(99.5)
    assert digest(one) != before


def test_a_vector_dict_is_its_entries() -> None:
    one, same = utils.VectorDict({"a": 1.0, "b": 2.0}), utils.VectorDict({"b": 2.0, "a": 1.0})
    assert digest(one) == digest(same) == digest(pickle.loads(pickle.dumps(one)))
    one["a"] = 1.5
    assert digest(one) != digest(same)


def test_names_lead_to_the_values() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.25))
    model.learn_one({"price": 3.0}, True)
    named = dict(named_values(model))
    lead = [name for name in named if name.endswith(".means['price']")]
    assert len(lead) == 1
    assert named[lead[0]].startswith(b"float ")
    assert any(name.endswith(".lr.learning_rate") for name in named)


def test_names_are_unique() -> None:
    names = [name for name, _ in named_values({"a": [1, {"b": (2, {3, 4})}], ("a", 1): {1: 2, "1": 3}})]
    assert len(names) == len(set(names))


def test_reading_changes_nothing() -> None:
    model = teach(build("adaptive_random_forest", "binary", {"n_models": 2}, 1), "binary", range(80))
    before = pickle.dumps(model)
    digest(model)
    assert pickle.dumps(model) == before


@pytest.mark.slow
def test_no_address_and_no_hash_seed_gets_in() -> None:
    program = (
        "import sys, random, collections\n"
        "from river import drift, optim, utils\n"
        "from streamlearn.learning.digest import digest\n"
        "d = drift.PageHinkley(); [d.update(v) for v in (1, 2, 3)]\n"
        "print(digest([{'a', 'b', 'c', ('d', 1)}, {'k': d, 'v': utils.VectorDict({'x': 1.0, 'y': 2.0})}, random.Random(4),\n"
        "  collections.defaultdict(list, {w: [w] for w in 'the quick brown fox'.split()}), optim.SGD, d.update, object()]))\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(runs) == 1
    assert len(runs.pop().strip()) == 64


@pytest.mark.parametrize("wrong", [threading.Lock(), (n for n in ())])
def test_what_has_no_state_to_read_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"\['deep'\]\[1\] is a .*(lock|generator), whose state cannot be read"):
        digest({"deep": [0, wrong]})
