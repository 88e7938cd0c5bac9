"""Prequential scores: each prediction, made before its label was known, against that label (Gama et al. 2013).

The hot path appends a row; every 256 rows, counted from the first event on, they are folded into arrays. So the scores are a
function of the rows alone, however they were polled, checkpointed or looked at. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from .recommend_tally import RecommendTally
from .tallies import BinaryTally, MulticlassTally, RegressionTally, Row, Tally, shares

FOLD: Final = 256
_TALLIES: Final[Mapping[str, type[Tally]]] = {
    "binary": BinaryTally,
    "multiclass": MulticlassTally,
    "regression": RegressionTally,
    "recommend": RecommendTally,
}


class _State(msgspec.Struct, array_like=True):
    schema: int
    task: str
    window: int
    fading: float
    n: int
    classes: list[Any]
    arrays: dict[str, bytes]
    rows: list[Any]


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=lambda scalar: scalar.item())  # a user's model may answer numpy scalars
_decoder: Final = msgspec.msgpack.Decoder(_State)


class Scores:
    """The scores of one model on `task`, of its last `window` rows, and with weights that fade by `fading` a row.

    Those of a recommender are cut at rank `k`.
    """

    def __init__(self, task: str, window: int, fading: float, k: int | None = None) -> None:
        self.task = task
        self._tally = _TALLIES[task](window, fading)
        if k is not None:
            self._tally.classes = [k]
        self._rows: list[Row] = []

    def add(self, y: Any, y_pred: Any, p: Any, last: Any, majority: Any) -> None:
        """One labelled event: truth, answer, probability, and what no-change and majority would have answered.

        binary: bools, `p` = P(positive) or None. multiclass: classes, `p` = probability by class or None. regression: finite
        floats, `p` None. recommend: see `recommend_tally`. `last` and `majority` are None where the baseline had nothing to go
        by.
        """
        rows = self._rows
        rows.append((y, y_pred, p, last, majority))
        if len(rows) >= FOLD:
            self._tally.fold(rows)
            rows.clear()

    def slate(self, reward: float, clicked: bool, shown: Sequence[tuple[float, bool]]) -> None:
        """What a shown slate earned; see `RecommendTally.slate`. Only of a recommender."""
        assert isinstance(self._tally, RecommendTally)
        self._tally.slate(reward, clicked, shown)

    def view(self) -> dict[str, Any]:
        """Every score, as JSON-able values, None where undefined; rows not yet folded count.

        n; cumulative, window, fading: accuracy, kappa, roc_auc, log_loss, brier (multiclass without roc_auc and brier) | mae,
        rmse, r2 | hit_rate, ndcg, mrr; cumulative also calibration_error (no recommender's); baselines (no_change, majority):
        the cumulative ones of these that need no probability, and window_accuracy | window_mae | window_ndcg; calibration: used
        bins with low, high, count, predicted, observed. Of a recommender also impressions: n, reward and click_rate, in all and
        of the window, fading_reward, calibration_error.
        The cumulative and fading roc_auc are of 1,024 bins of P(positive), that of the window is exact.
        """
        if not self._rows:
            return self._tally.view()
        tally = self._tally.copy()
        tally.fold(self._rows)
        return tally.view()

    def state(self) -> bytes:
        """Everything, in MessagePack; equal for equal rows."""
        tally, rows = self._tally, self._rows
        kept: list[Any] = list(rows)
        if self.task == "multiclass":
            kept = [(y, answer, shares(y, answer, p), last, majority) for y, answer, p, last, majority in rows]
        return _encoder.encode(
            _State(
                1,
                self.task,
                tally.window,
                tally.fading,
                tally.n,
                tally.classes,
                {name: array.tobytes() for name, array in tally.arrays.items()},
                kept,
            )
        )

    @staticmethod
    def restore(data: bytes) -> Scores:
        """The scores whose `state` this is. Raises msgspec.DecodeError for anything else."""
        state = _decoder.decode(data)
        scores = Scores(state.task, state.window, state.fading)
        scores._tally.n = state.n
        scores._tally.load(state.arrays, state.classes)
        scores._rows = [(y, answer, p, last, majority) for y, answer, p, last, majority in state.rows]
        return scores

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return Scores.restore, (self.state(),)
