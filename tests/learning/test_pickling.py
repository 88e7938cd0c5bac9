"""Pickles that keep the same as pickle's own, and leave the objects as they were."""

from __future__ import annotations

import copyreg
import gc
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import drift, forest, linear_model, preprocessing, tree

from streamlearn.learning import pickling
from streamlearn.learning.digest import digest
from streamlearn.learning.recipes import RECIPES, build


def touched(obj: Any) -> bool:
    """Whether the object has a dictionary of its own: then that is what it refers to."""
    held = gc.get_referents(obj)
    return any(type(item) is dict for item in held) and len(held) == 2


def taught(model: Any) -> Any:
    draw = random.Random(2)
    for _ in range(120):
        x = {"a": draw.gauss(0, 1), "b": draw.random()}
        model.learn_one(x, x["a"] > x["b"])
    return model


def pipeline() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


MODELS: dict[str, Callable[[], Any]] = {
    "scaled logistic": pipeline,
    "forest": lambda: forest.ARFClassifier(3, seed=1, grace_period=20),
    "tree": lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, seed=1),
    **{name: lambda name=name: build(name, "binary", {}, 1) for name in sorted(RECIPES) if "binary" in RECIPES[name].tasks},
}


@pytest.mark.parametrize("name", MODELS)
def test_it_keeps_what_pickle_keeps(name: str) -> None:
    model = taught(MODELS[name]())
    ours, theirs = pickle.loads(pickling.dumps(model)), pickle.loads(pickle.dumps(model))
    assert digest(ours) == digest(theirs) == digest(model)
    # And what is learned from then on is the same.
    assert digest(taught(ours)) == digest(taught(theirs)) == digest(taught(model))


def test_the_objects_are_left_as_they_were_before_and_after() -> None:
    model = taught(linear_model.LogisticRegression())
    assert not touched(model)
    kept = pickling.dumps(model)
    assert not touched(model)
    assert not touched(model.optimizer)
    again = pickle.loads(kept)
    assert not touched(again)
    assert pickling.dumps(again) == kept
    pickle.dumps(model)  # the ordinary way does touch them, and then they are read all the same
    assert touched(model)
    assert digest(pickle.loads(pickling.dumps(model))) == digest(model)


class Plain:
    """Attributes that its own code names, and those that others give it."""

    shared = "the class's"

    def __init__(self) -> None:
        self.one, self.two = 1, [2]
        self.shared = "its own"


class Stated(Plain):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.restored = sorted(state)


class Slotted:
    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.slot, self.other = 1, 2


class Listed(list[int]):
    def __init__(self) -> None:
        super().__init__([1, 2])
        self.name = "listed"


class Guarded:
    def __init__(self) -> None:
        object.__setattr__(self, "value", 5)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("read only")


class Answering:
    def __init__(self) -> None:
        self.real = 1

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return "made up"


class Reduced:
    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (Reduced,), {"by": "reduce"}  # type: ignore[attr-defined]  # not in typeshed


def given_another(kind: type) -> Any:
    thing = kind()
    thing.unheard_of = 3
    return thing


def without_one() -> Any:
    thing = Plain()
    del thing.one
    return thing


ODD: dict[str, Callable[[], Any]] = {
    "an attribute that the class has too": Plain,
    "an attribute given from outside": lambda: given_another(Plain),
    "one is missing": without_one,
    "slots": Slotted,
    "a list": Listed,
    "a __setattr__": Guarded,
    "a __getattr__": Answering,
    "a __reduce__": Reduced,
    "a detector in C": lambda: drift.ADWIN(0.1),
    "a cycle": lambda: (thing := Plain(), thing.two.append(thing))[0],
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test module cannot be imported by name: its classes are found as if it could."""
    import sys

    module = type(sys)("odd_classes")
    for kind in (Plain, Stated, Slotted, Listed, Guarded, Answering, Reduced):
        monkeypatch.setattr(kind, "__module__", "odd_classes")
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "odd_classes", module)


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_not_plain_is_kept_whole(name: str) -> None:
    thing = ODD[name]()
    again = pickle.loads(pickling.dumps([thing]))[0]
    assert type(again) is type(thing)
    expected = pickle.loads(pickle.dumps([thing]))[0]
    assert digest(again) == digest(expected)


def test_a_setstate_gets_the_state_it_expects() -> None:
    assert pickle.loads(pickling.dumps(Stated())).restored == ["one", "shared", "two"]


def test_what_cannot_be_pickled_is_said_as_ever() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickling.dumps(lambda: 1)
