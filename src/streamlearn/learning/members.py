"""The members of river's ensembles: who they are, how each one does, and how some are begun anew while the others go on.

river 0.26 has no interface for that; what each ensemble keeps of a member besides its model was read from its source:

    adaptive random forest   trees in `data`; by the same index `_metrics` (it votes by them), `_drift_detectors`,
                             `_warning_detectors`, `_background`, the two trackers, and a regressor's `_drift_norm`
    random patches           a member is an object of its own with model, metric, detectors, background learner and features
    bagging                  models in `data`; ADWIN and leveraging bagging keep `_drift_detectors` by the same index

Lists are changed in place, since `recall` looks at the very same ones. Boosting is not here: its members are fitted to what the
ones before them leave, so that none can be exchanged alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from river import base, compose, ensemble, forest, stats
from river.ensemble.streaming_random_patches import random_subspace

from ..events import Features
from .adapters import ClassNumbers, ScaledTarget

_FORESTS: Final = (forest.ARFClassifier, forest.ARFRegressor)
_PATCHES: Final = (ensemble.SRPClassifier, ensemble.SRPRegressor)
_WATCHING: Final = (ensemble.ADWINBaggingClassifier, ensemble.LeveragingBaggingClassifier)
_BAGGING: Final = (ensemble.BaggingClassifier, ensemble.BaggingRegressor, *_WATCHING)


def members(estimator: Any) -> list[Any] | None:
    """The members of the ensemble that the pipeline ends in; [] before it has made any, None when it ends in no ensemble whose
    members can be begun anew."""
    found = _ensemble(estimator)
    return None if found is None else list(found.data)


def losses(estimator: Any, pairs: Iterable[tuple[Features, Any]]) -> tuple[list[float], int]:
    """Each member's mean loss on `pairs` of features and labels, as `Model.learn` takes them, and on how many: for classes the
    share of wrong answers, for numbers the mean absolute error, in what the member itself is shown. Nothing learns.

    A pair that a step or a member cannot take counts for none of them.
    """
    found = _ensemble(estimator)
    sums, n = [0.0] * len(found.data), 0
    numbers = isinstance(found, base.Regressor)
    for x, y in pairs:
        try:
            shown, target = _shown(estimator, x, y)
            answers = [member.predict_one(shown) for member in found.data]
            each = [abs(target - answer) if numbers else float(answer != target) for answer in answers]
        except MemoryError:
            raise
        except Exception:
            continue
        sums, n = [total + loss for total, loss in zip(sums, each, strict=True)], n + 1
    return [total / n for total in sums] if n else sums, n


def worst(means: Sequence[float], share: float) -> list[int]:
    """The indices of the members with the highest losses: this share of them, rounded, but one at least; in ascending order.
    Of equal ones the first."""
    order = sorted(range(len(means)), key=lambda index: (-means[index], index))
    return sorted(order[: max(1, round(share * len(means)))])


def renew(estimator: Any, indices: Iterable[int]) -> None:
    """Begin these members anew, with all that the ensemble keeps of each: models, detectors, metrics, background learners.

    What has to be drawn (a random patch's features) comes from the ensemble's own seeded generator.
    """
    found = _ensemble(estimator)
    for index in indices:
        if isinstance(found, _FORESTS):
            _renew_tree(found, index)
        elif isinstance(found, _PATCHES):
            _renew_patch(found, index)
        else:
            _renew_bagged(found, index)


def _ensemble(estimator: Any) -> Any:
    found = _last(estimator)
    if isinstance(found, ClassNumbers):
        found = found.classifier
    elif isinstance(found, ScaledTarget):
        found = found.regressor
    return found if isinstance(found, (*_FORESTS, *_PATCHES, *_BAGGING)) else None


def _last(estimator: Any) -> Any:
    return list(estimator.steps.values())[-1] if isinstance(estimator, compose.Pipeline) else estimator


def _shown(estimator: Any, x: Features, y: Any) -> tuple[Any, Any]:
    """What the ensemble is shown of a pair."""
    shown: Any = estimator.transform_one(x) if isinstance(estimator, compose.Pipeline) else x
    last = _last(estimator)
    if isinstance(last, ClassNumbers):
        return shown, last.numbers.get(y)
    if isinstance(last, ScaledTarget):
        return shown, last.scale.transform_one({"y": y})["y"]
    return shown, y


def _renew_tree(trees: Any, index: int) -> None:
    trees.data[index] = trees._new_base_model()
    trees._metrics[index] = trees.metric.clone()
    if not trees._drift_detection_disabled:
        trees._drift_detectors[index] = trees.drift_detector.clone()
        trees._drift_tracker.pop(index, None)
    if not trees._warning_detection_disabled:
        trees._warning_detectors[index] = trees.warning_detector.clone()
        trees._background[index] = None
        trees._warning_tracker.pop(index, None)
    if isinstance(trees, forest.ARFRegressor):
        trees._drift_norm[index] = stats.Var()


def _renew_patch(patches: Any, index: int) -> None:
    """As `BaseSRPEnsemble._init_ensemble` makes one, with features drawn as a member draws them that resets itself."""
    old = patches.data[index]
    features = old.features
    if features is not None:
        known = list(dict.fromkeys(name for member in patches.data for name in member.features))
        features = random_subspace(known, len(features), patches._rng)
    patches.data[index] = patches._base_learner_class(
        idx_original=old.idx_original,
        model=patches.model,
        metric=patches.metric,
        created_on=patches._n_samples_seen,
        drift_detector=patches.drift_detector,
        warning_detector=patches.warning_detector,
        is_background_learner=False,
        rng=patches._rng,
        features=features,
    )


def _renew_bagged(bagging: Any, index: int) -> None:
    bagging.data[index] = bagging.model.clone()
    if isinstance(bagging, _WATCHING):
        bagging._drift_detectors[index] = bagging._drift_detectors[index].clone()
