"""What each of many models would have lost on a finished stream: the `policy.Past` that policies are replayed and tuned on.

The stream is cut into batches. Model i is made when batch i has been seen, of the last `window` batches, by the model's own
recipe; it then serves all that follow. It goes on learning as a champion in service does, or it is *frozen*, as an estimator
is that cannot learn online. Everything here is a pure function of its arguments, the seed included.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streamlearn.config import ModelSettings, Settings
from streamlearn.errors import ConfigError
from streamlearn.events import Features, Limits
from streamlearn.learning.loss import Loss, Scaled, make_loss
from streamlearn.learning.model import Model
from streamlearn.learning.replay import limits_of
from streamlearn.learning.trainer import Trainer
from streamlearn.learning.waiting import Entry
from streamlearn.log import Record

from .cara import GAMMA, SAMPLE, around, scales
from .policy import Floats, Past
from .upf import shift

MOST_BATCHES: Final = 100  # the work grows with the events times half the batches
FEWEST_BATCHES: Final = 40

Told = Callable[[int, int], None]


class Pair(NamedTuple):
    """Cleaned features, the label as the estimator takes it, and when the event was, in Unix seconds."""

    x: Features
    y: Any
    at: float


class Collector(Trainer):
    """A trainer that learns nothing: it keeps what a live learner would learn, in the same order, and what it would refuse."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.found: list[Pair] = []
        self.refused: list[tuple[int, str, str]] = []

    def answer(self, entry: Entry, y: Any) -> bool:
        """Keep the pair."""
        self.found.append(Pair(entry.x, y, entry.ts))
        return True

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """Keep the offset, and why."""
        self.refused.append((record.offset, reason, detail))


def collect(settings: Settings, name: str, records: Iterable[Record]) -> Collector:
    """What has `found` the labelled events of these records of the model's stream, whatever partition they come from, and keeps
    what it `refused`: (offset, reason, detail). Raises ModelError."""
    model = settings.models[name]
    alone = settings.streams[model.stream].model_copy(update={"partitions": 1})
    limits = limits_of(settings)
    trainer = Collector(name, model, alone, limits, model.stream, 0, 0, Model(model, limits))
    for record in records:
        trainer.feed((record,))
    return trainer


@dataclass(frozen=True, slots=True)
class Ledger:
    """The `past`; by model the `losses` of every event after it was made (float32), in order; how the stream was `cuts`: batch
    j holds the events from cuts[j] up to cuts[j + 1]; the kind of the losses, "binary" or "bounded"; the window in batches."""

    past: Past
    losses: list[npt.NDArray[np.float32]]
    cuts: list[int]
    kind: str
    window: int
    learns: bool

    @property
    def batches(self) -> int:
        """How many there are."""
        return len(self.cuts) - 1


def batch_size(labelled: int, wanted: int) -> int:
    """The wanted size, but neither more than 100 nor fewer than 40 batches of that many events."""
    return max(1, -(-labelled // MOST_BATCHES), min(wanted, labelled // FEWEST_BATCHES))


def keep(
    pairs: Sequence[Pair],
    model: ModelSettings,
    limits: Limits,
    *,
    batch: int,
    window: int,
    learns: bool = True,
    sample: int = SAMPLE,
    seed: int = 0,
    told: Told = lambda done, total: None,
) -> Ledger:
    """The ledger of `pairs` in batches of about `batch` events, each model made of `window` of them.

    `reference` is the mean of what the model lost on its last batch before it learned that (of its second half, where there is
    no other). `told(done, total)` is told events after every batch. Raises ConfigError for fewer than three batches, and for
    numbers whose scale is never known.
    """
    count = len(pairs) // batch
    if count < 3:
        raise ConfigError("--batch", f"{len(pairs):,} labelled events make {count} batches of {batch}", "Take smaller ones")
    cuts = [round(i * len(pairs) / count) for i in range(count + 1)]
    loss = _loss(model, pairs)
    sizes = np.diff(cuts).astype(np.float64)
    mean, reference = np.full((count, count), np.nan), np.full(count, np.nan)
    losses: list[npt.NDArray[np.float32]] = []
    total, done = sum(cuts[-1] - cut for cut in cuts[1:]), 0
    for i in range(count):
        one = _Serving(model, limits, loss)
        reference[i] = one.fit(pairs, cuts, max(0, i + 1 - window), i)
        mine: list[npt.NDArray[np.float32]] = []
        for j in range(i + 1, count):
            mine.append(one.serve(pairs[cuts[j] : cuts[j + 1]], learns))
            mean[i, j] = mine[-1].mean()
            done += cuts[j + 1] - cuts[j]
            told(done, total)
        losses.append(np.concatenate(mine) if mine else np.empty(0, np.float32))
    psi, shift = _looked_at(pairs, cuts, losses, window, sample, seed)
    at = np.maximum.accumulate([pairs[cut - 1].at for cut in cuts[1:]]).astype(np.float64)
    past = Past(sizes, at, mean, psi, shift, reference)
    return Ledger(past, losses, cuts, loss.kind, window, learns)


def _loss(model: ModelSettings, pairs: Sequence[Pair]) -> Loss:
    """The loss as it is once its scale is known: one for all models."""
    loss = make_loss(model)
    if isinstance(loss, Scaled):
        for _, y, _ in pairs:
            if loss.scale is not None:
                break
            loss.learn(y)
        if loss.scale is None:
            raise ConfigError("loss_scale", "cannot be told from so few labels, or equal ones", "Set the model's loss_scale")
    return loss


class _Serving:
    """One model of the ledger."""

    def __init__(self, settings: ModelSettings, limits: Limits, loss: Loss) -> None:
        self._model, self._loss, self._epochs = Model(settings, limits), loss, settings.retrain.epochs

    def fit(self, pairs: Sequence[Pair], cuts: Sequence[int], first: int, last: int) -> float:
        """Learn these batches, and say what was lost on the last one before it was learned."""
        begin = cuts[last] if first < last else (cuts[last] + cuts[last + 1]) // 2
        self.learn(pairs[cuts[first] : begin])
        reference = self.serve(pairs[begin : cuts[last + 1]], True)
        for _ in range(1, self._epochs):
            self.learn(pairs[cuts[first] : cuts[last + 1]])
        return float(reference.mean())

    def learn(self, pairs: Iterable[Pair]) -> None:
        """What cannot be learned is passed over, as in a fit."""
        learn = self._model.learn
        for x, y, _ in pairs:
            try:
                learn(x, y)
            except Exception:
                continue

    def serve(self, pairs: Sequence[Pair], learns: bool) -> npt.NDArray[np.float32]:
        """Predict, and then learn or not; what cannot be predicted is lost whole."""
        predict, learn, loss = self._model.predict, self._model.learn, self._loss
        lost = np.ones(len(pairs), np.float32)
        for n, (x, y, _) in enumerate(pairs):
            try:
                lost[n] = loss(y, predict(x)[0])
                if learns:
                    learn(x, y)
            except Exception:
                continue
        return lost


def _looked_at(
    pairs: Sequence[Pair], cuts: Sequence[int], losses: Sequence[npt.NDArray[np.float32]], window: int, sample: int, seed: int
) -> tuple[Floats, Floats]:
    """Staleness (the questions are the sample itself) and shift of each batch under each model, from a sample of the batch."""
    count = len(cuts) - 1
    rng = np.random.default_rng(seed)
    chosen = [np.sort(rng.choice(np.arange(a, b), min(sample, b - a), False)) for a, b in itertools.pairwise(cuts)]
    rows = [[pairs[n].x for n in those] for those in chosen]
    scale = scales([x for batch in rows for x in batch])
    weights = [around(batch, batch, GAMMA, scale) for batch in rows]
    psi, moved = np.full((count, count), np.nan), np.full((count, count), np.nan)
    for i in range(count):
        made_on = [x for batch in rows[max(0, i + 1 - window) : i + 1] for x in batch]
        for j in range(i + 1, count):
            psi[i, j] = weights[j] @ losses[i][chosen[j] - cuts[i + 1]]
            moved[i, j] = shift(made_on, rows[j], scale)
    return psi, moved
