"""A model's manners: what it takes as features and labels, what it answers, and that it never learns while it answers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config import ModelSettings
from streamlearn.errors import EventError, ModelError
from streamlearn.events import Limits
from streamlearn.learning import model as module
from streamlearn.learning.digest import digest
from streamlearn.learning.model import Model

LIMITS = Limits(max_features=4, max_string=10)


def made(task: str = "binary", pipeline: str = "", **more: Any) -> Model:
    usual = {"binary": "logistic", "multiclass": "softmax", "regression": "linear"}
    settings = {"stream": "s", "task": task, "pipeline": pipeline or usual[task], **more}
    return Model(ModelSettings.model_validate(settings), LIMITS)


class Says:
    """Stands for an estimator: answers what it is told to."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def predict_proba_one(self, x: Any) -> Any:
        return self.said

    def predict_one(self, x: Any) -> Any:
        return self.said


def saying(said: Any, task: str = "binary", proba: bool = True) -> Model:
    model = made(task)
    model.estimator = model._short = Says(said)
    model.proba = proba
    return model


def refused(call: Any, *args: Any) -> tuple[str, str]:
    with pytest.raises(EventError) as caught:
        call(*args)
    return caught.value.reason, caught.value.field


def test_nulls_are_dropped_and_new_types_are_told() -> None:
    model = made()
    x, types = model.check({"a": 1.5, "b": "u", "c": None, "d": True})
    assert x == {"a": 1.5, "b": "u", "d": True}
    assert types == {"a": "number", "b": "string", "d": "number"}
    assert model.types == {}
    model.accept(types)
    assert model.check({"a": 2, "b": "v", "d": False})[1] == {}


def test_features_without_nulls_are_handed_on_as_they_are() -> None:
    model = made()
    x: dict[str, Any] = {"a": 1.5, "b": "u", "c": 3, "d": True}
    model.accept(model.check(x)[1])
    assert model.check(x)[0] is x


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ({"a": "text"}, ("feature_type", "x.a")),
        ({"b": 1}, ("feature_type", "x.b")),
        ({"b": False}, ("feature_type", "x.b")),
        ({"a": 2**63}, ("out_of_range", "x.a")),
        ({"a": -(2**63) - 1}, ("out_of_range", "x.a")),
        ({"new": 2**64}, ("out_of_range", "x.new")),
        ({"b": "s" * 11}, ("too_long", "x.b")),
        ({"new": "s" * 11}, ("too_long", "x.new")),
        ({"n" * 11: 1}, ("too_long", "x")),
        ({str(n): 1 for n in range(5)}, ("too_many_features", "x")),
    ],
)
def test_features_that_cannot_be_taken_are_named_and_change_nothing(x: dict[str, Any], why: tuple[str, str]) -> None:
    model = made()
    model.accept({"a": "number", "b": "string"})
    before = digest(model)
    assert refused(model.check, x) == why
    assert refused(model.answer, x) == why
    assert digest(model) == before


@pytest.mark.parametrize("value", [1, 1.5, True, 2**63 - 1, -(2**63), -0.0, 1e300])
def test_any_number_may_follow_any_other(value: Any) -> None:
    model = made()
    model.accept({"a": "number"})
    assert model.check({"a": value}) == ({"a": value}, {})


def test_features_beyond_a_bound_go_unchecked_so_that_names_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TYPES", 3)
    model = made()
    for n in range(10):
        model.accept(model.check({f"f{n}": 1})[1])
    assert list(model.types) == ["f0", "f1", "f2"]
    assert model.check({"f9": "text"})[1] == {"f9": "string"}
    model.accept({"f0": "number"})
    assert len(model.types) == 3


def test_a_binary_label_is_taught_as_true_or_false() -> None:
    model = made()
    assert [model.label(y) for y in (True, False, 1, 0, 1.0)] == [True, False, True, False, True]
    named = made(labels=["no", "yes"])
    assert [named.label(y) for y in ("no", "yes")] == [False, True]
    assert [named.unlabel(y) for y in (False, True)] == ["no", "yes"]
    for wrong in ("maybe", True, None, 2**70, 1.5):
        assert refused(named.label, wrong) == ("unknown_label", "y")
    for wrong in ("true", 2, 0.5, None):
        assert refused(model.label, wrong) == ("unknown_label", "y")


def test_a_declared_class_is_taught_as_it_was_declared() -> None:
    model = made("multiclass", labels=[1, 2, 3])
    assert [repr(model.label(y)) for y in (1, 1.0, 2, True)] == ["1", "1", "2", "1"]
    for wrong in (4, "1", None, 2**70):
        assert refused(model.label, wrong) == ("unknown_label", "y")


def test_undeclared_classes_keep_the_type_of_the_first_that_was_learned() -> None:
    model = made("multiclass")
    for label in ("red", 3, True):
        assert model.label(label) == label  # asking teaches nothing
    model.learn({"a": 1.0}, "red")
    assert model.label("blue") == "blue"
    for wrong in (1, True):
        assert refused(model.label, wrong) == ("unknown_label", "y")


@pytest.mark.parametrize(
    ("y", "reason"), [(1.5, "unknown_label"), (None, "unknown_label"), (2**63, "out_of_range"), ("s" * 11, "too_long")]
)
def test_what_no_class_can_be(y: Any, reason: str) -> None:
    assert refused(made("multiclass").label, y) == (reason, "y")


@pytest.mark.parametrize(
    ("y", "reason"),
    [("1", "unknown_label"), (True, "unknown_label"), (None, "unknown_label"), (10**400, "out_of_range")],
)
def test_what_no_number_to_predict_can_be(y: Any, reason: str) -> None:
    model = made("regression")
    assert refused(model.label, y) == (reason, "y")
    assert repr(model.label(3)) == "3.0"


def test_a_refusal_repeats_only_the_beginning_of_a_long_label() -> None:
    with pytest.raises(EventError) as caught:
        made(labels=["no", "yes"]).label("x" * 100_000)
    assert len(str(caught.value)) < 300


def test_a_binary_answer_is_in_the_users_labels() -> None:
    answer = made(labels=["no", "yes"]).answer({"a": 1.0})
    assert answer.y in ("no", "yes")
    assert answer.p is not None
    assert set(answer.p) == {"no", "yes"}
    assert sum(answer.p.values()) == pytest.approx(1)
    assert set(made().answer({}).p or ()) == {"false", "true"}


def test_a_multiclass_answer_knows_only_what_was_learned() -> None:
    model = made("multiclass", "naive_bayes")
    assert model.answer({"a": 1.0}) == (None, None)
    for n in range(20):
        model.learn({"a": float(n % 2)}, n % 2)
    answer = model.answer({"a": 1.0})
    assert answer.y == 1
    assert answer.p is not None
    assert set(answer.p) == {"0", "1"}


def test_a_regression_answer_is_a_number_without_probabilities() -> None:
    assert made("regression").answer({"a": 1.0}) == (0.0, None)


def test_classifiers_without_probabilities_answer_all_the_same() -> None:
    assert saying(True, proba=False).predict({}) == (True, 1.0)
    assert saying("red", "multiclass", proba=False).predict({}) == ("red", None)
    assert saying(True, proba=False).answer({}).p is None


@pytest.mark.parametrize("share", [float("nan"), float("inf"), float("-inf")])
def test_a_prediction_that_is_not_finite_is_refused(share: float) -> None:
    assert refused(saying({True: share}).predict, {})[0] == "not_finite_prediction"
    assert refused(saying({"red": share, "blue": 0.5}, "multiclass").predict, {})[0] == "not_finite_prediction"
    assert refused(saying(share, "regression").predict, {})[0] == "not_finite_prediction"


def test_a_share_that_rounding_has_pushed_out_of_its_bounds_is_brought_back() -> None:
    assert saying({True: 1.0000000000000002}).predict({}) == (True, 1.0)
    assert saying({True: -1e-17}).predict({}) == (False, 0.0)


@pytest.mark.parametrize(
    ("task", "said", "proba"),
    [
        ("binary", {True: np.float64(0.75)}, True),
        ("binary", np.bool_(True), False),
        ("multiclass", {np.int64(1): np.float64(0.75), np.int64(2): np.float64(0.25)}, True),
        ("multiclass", np.int64(1), False),
        ("multiclass", np.str_("red"), False),
        ("regression", np.float64(1.5), False),
    ],
)
def test_numpy_scalars_become_plain_ones(task: str, said: Any, proba: bool) -> None:
    y, p = saying(said, task, proba).predict({})
    values = [y, *([] if p is None else [p] if task == "binary" else [*p, *p.values()])]
    assert all(type(value) in (bool, int, float, str) for value in values)


def test_the_probabilities_that_were_given_out_do_not_change_later() -> None:
    said = {"red": 0.75, "blue": 0.25}
    _, p = saying(said, "multiclass").predict({})
    said["red"] = 0.0
    assert p == {"red": 0.75, "blue": 0.25}


@given(st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), st.floats(-1e9, 1e9), st.text(max_size=9)), max_size=4))
def test_answering_changes_nothing(x: dict[str, Any]) -> None:
    model = made()
    model.learn({"a": 1.0, "b": "u"}, True)
    model.learn({"a": 2.0, "b": "v"}, False)
    before = digest(model)
    model.answer(x)
    assert digest(model) == before


def test_a_pickle_holds_all_and_keeps_the_quick_checks_quick() -> None:
    model = made()
    model.accept({"a": "number", "b": "string"})
    model.learn({"a": 1.0, "b": "u"}, True)
    other: Model = pickle.loads(pickle.dumps(model))
    assert digest(other) == digest(model)
    assert other.types["a"] is module.NUMBER
    assert other.types["b"] is module.STRING
    assert other.check({"a": 1.0, "b": "x"})[1] == {}


def test_a_successor_adopts_the_types_of_the_stream() -> None:
    former, successor = made("multiclass"), made("multiclass")
    former.accept({"a": "number", "b": "string"})
    former.learn({"a": 1.0}, "red")
    successor.accept({"a": "string", "c": "number"})
    successor.adopt(former)
    assert successor.types == {"a": "number", "b": "string", "c": "number"}
    assert successor.label_type == "str"
    former.accept({"d": "number"})
    assert "d" not in successor.types
    untaught = made("multiclass")
    successor.adopt(untaught)
    assert successor.label_type == "str"


def test_other_limits_may_hold_from_now_on() -> None:
    model = made()
    model.bound(Limits(max_features=1, max_string=3), ModelSettings(stream="s", task="binary", pipeline="logistic"))
    assert refused(model.check, {"a": 1, "b": 2})[0] == "too_many_features"
    assert refused(model.check, {"a": "long"})[0] == "too_long"


def test_a_pipeline_that_ends_in_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="softmax"):
        made(pipeline="softmacs", task="multiclass")


FOLLOWS: dict[str, Any] = {"drift": {"features": {"contract": "follow"}}}


def knowing(types: dict[str, str], **more: Any) -> Model:
    model = made(**more)
    model.accept(types)
    return model


def test_a_strict_model_refuses_another_type_and_a_lenient_one_goes_on_without_it() -> None:
    types = {"a": "number", "b": "string"}
    odd = {"a": "high", "b": "u", "c": 1.0}
    assert refused(knowing(types).check, odd) == ("feature_type", "x.a")
    accepted = knowing(types)
    accepted.accepted = True
    for model in (knowing(types, **FOLLOWS), accepted):
        assert model.lenient
        assert model.check(odd) == (odd, {"c": "number"}), "another model may take what this one does not"
        assert model.own(odd) == {"b": "u", "c": 1.0}
        assert model.types == types


def test_a_lenient_model_is_bound_by_all_other_rules() -> None:
    model = knowing({"a": "number"}, **FOLLOWS)
    assert refused(model.check, {"a": "x" * 11})[0] == "too_long"
    assert refused(model.check, {f"f{n}": 1.0 for n in range(5)})[0] == "too_many_features"
    assert refused(model.check, {"a": 2**70})[0] == "out_of_range"


def test_a_lenient_model_answers_and_learns_without_what_it_does_not_take() -> None:
    model = made(**FOLLOWS)
    for n in range(40):
        x, types = model.check({"a": float(n % 2), "b": "u"})
        model.accept(types)
        model.learn(model.own(x), n % 2 == 1)
    before = digest(model.estimator)
    assert model.answer({"a": "high", "b": "u"}) == model.answer({"b": "u"}) != model.answer({"a": 1.0, "b": "u"})
    assert digest(model.estimator) == before


NAMES = st.sampled_from("abcd")
VALUES = st.one_of(st.floats(-1e6, 1e6), st.integers(-9, 9), st.booleans(), st.text("uv", max_size=3))


@given(st.dictionaries(NAMES, st.sampled_from(["number", "string"])), st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_a_model_takes_of_an_event(types: dict[str, str], x: dict[str, Any]) -> None:
    model = knowing(types, **FOLLOWS)
    kinds = {name: "string" if isinstance(value, str) else "number" for name, value in x.items()}
    own = model.own(x)
    assert own == {name: value for name, value in x.items() if types.get(name, kinds[name]) == kinds[name]}
    assert (own is x) == (len(own) == len(x)), "the same object where nothing is left out: what was prepared for it counts"
    assert model.meet(x) == own
    assert model.types == kinds | types
    again, fresh = knowing(types | kinds).check(own)
    assert (again, fresh) == (own, {}) or any(types[name] != kinds[name] for name in types.keys() & kinds.keys())


def test_a_model_of_settings_that_follow_keeps_its_own_types() -> None:
    former, new = knowing({"a": "number", "z": "number"}, **FOLLOWS), knowing({"a": "string"}, **FOLLOWS)
    former.label_type = "bool"
    new.adopt(former)
    assert (new.types, new.label_type) == ({"a": "string"}, "bool")
    strict, accepted = knowing({"a": "string"}), knowing({"a": "number"})
    accepted.accepted = True
    strict.adopt(accepted)
    assert (strict.types, strict.lenient) == ({"a": "string"}, False)


def test_leniency_survives_a_pickle_and_goes_by_the_settings_of_the_day() -> None:
    model = knowing({"a": "number"}, **FOLLOWS)
    kept = pickle.loads(pickle.dumps(model))
    assert kept.lenient
    kept.bound(LIMITS, ModelSettings(stream="s", task="binary", pipeline="logistic"))
    assert not kept.lenient
    assert refused(kept.check, {"a": "u"})[0] == "feature_type"
    kept.accepted = True
    kept.bound(LIMITS, ModelSettings(stream="s", task="binary", pipeline="logistic"))
    assert pickle.loads(pickle.dumps(kept)).lenient, "what a person has accepted holds for as long as the model"


def test_a_model_pickled_before_there_was_leniency_is_strict() -> None:
    state = knowing({"a": "number"}).__getstate__()
    old = Model.__new__(Model)
    old.__setstate__({name: value for name, value in state.items() if name not in ("follows", "accepted")})
    assert not old.lenient


def test_a_string_that_becomes_a_number_is_seen_also_after_many_events_of_the_same_features() -> None:
    model = knowing({"a": "number", "b": "string"})
    for _ in range(3):
        assert model.check({"a": 1.0, "b": "u"})[1] == {}
        assert refused(model.check, {"a": 1.0, "b": 2.0}) == ("feature_type", "x.b")
        assert refused(model.check, {"a": "u", "b": "u"}) == ("feature_type", "x.a")


def test_types_that_were_adopted_rule_over_what_was_seen_last() -> None:
    former, new = knowing({"a": "string"}), knowing({"a": "number"})
    assert new.check({"a": 1.0})[1] == {}
    new.adopt(former)
    assert refused(new.check, {"a": 1.0}) == ("feature_type", "x.a")
