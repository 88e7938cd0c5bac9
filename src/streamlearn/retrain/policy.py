"""When to retrain: the one interface of every policy, and what it is shown.

A policy is a small pure object: what was seen since the last retrain goes in, retrain or keep comes out, with the sum that
decided. It keeps nothing, so that a finished log can be replayed over it. Losses lie in [0, 1] for an event; κ is what one
retrain costs in the same units, see `config_retrain.CostSettings`. Policies: `policies`, `cara`, `upf`; one of your own is an
import path to a class that is called with its `params`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Batch(NamedTuple):
    """Some consecutive labelled events of the model, as it served: `n` of them, their mean `loss`, and when the last one came
    (Unix seconds).

    `psi`: the staleness of one question, the mean over a sample of them of the losses around it (see `cara`); `shift`: how far
    the features have moved from those that the model was made on (see `upf`). Both are told to policies that ask for a
    `sample`; else `psi` is the loss and `shift` 0.
    """

    n: int
    loss: float
    at: float
    psi: float
    shift: float = 0.0


class Confirmed(NamedTuple):
    """The drift that was confirmed: the mean loss before it, and what came since its change: `n` labelled events with the mean
    loss `fresh`, up to the first batch of `Seen.batches`."""

    reference: float
    fresh: float
    n: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the serving model since the last retrain, or since it began. Times are Unix seconds.

    `batches`: in order; older ones may have been joined, two into one. `reference`: the mean loss at training time, None until
    it is known. `kappa`: the cost of a retrain in units of loss. `confirmed`: the drift that waits for a decision; then
    `batches` are those that came after it was confirmed. `first`: it was never retrained. `seed`: for those who draw.
    """

    batches: Sequence[Batch]
    reference: float | None
    kappa: float
    now: float
    since: float
    confirmed: Confirmed | None = None
    seed: int = 0
    first: bool = False

    @property
    def labelled(self) -> int:
        """Labelled events since the last retrain."""
        return sum(batch.n for batch in self.batches)

    def column(self, name: str) -> Floats:
        """One field of all batches."""
        return np.array([getattr(batch, name) for batch in self.batches], dtype=np.float64)


class Choice(NamedTuple):
    """Retrain or keep, and the sum that decided: retrain when `total` is above `threshold` (seconds of a clock; of a count,
    also when it is reached).

    `why`: in words, with the numbers. `settled`: of a confirmed drift, that it has cost less than a retrain and is over.
    """

    retrain: bool
    total: float
    threshold: float
    why: str
    settled: bool = False
    numbers: Mapping[str, Any] = {}


@runtime_checkable
class Policy(Protocol):
    """`name`: as in the configuration. `gated`: it answers confirmed drifts, and nothing else. `evidence`: it speaks of losses,
    so that a new version that is not worse may be promoted; a clock has seen nothing, and its version must be better.
    `sample`: how many feature vectors of a batch it wants told, 0 for none."""

    @property
    def name(self) -> str: ...

    @property
    def gated(self) -> bool: ...

    @property
    def evidence(self) -> bool: ...

    @property
    def sample(self) -> int: ...

    def decide(self, seen: Seen) -> Choice:
        """Retrain or keep. Pure."""

    def params(self) -> dict[str, Any]:
        """What it was called with, JSON-able: what one writes into the configuration."""


@dataclass(frozen=True, slots=True)
class Past:
    """What models made at the end of each of `w` batches did on those that followed: what a policy may be tuned on.

    `n` and `at`: (w,), labelled events of each batch, and when its last one came. `loss`, `psi` and `shift`: (w, w); row i is
    the model made when batch i had been seen, column j the batch; NaN where j ≤ i. `reference`: (w,), the mean loss of model i
    at training time.
    """

    n: Floats
    at: Floats
    loss: Floats
    psi: Floats
    shift: Floats
    reference: Floats
    extra: Mapping[str, Any] = field(default_factory=dict)

    def batch(self, i: int, j: int) -> Batch:
        """Batch j under model i."""
        return Batch(int(self.n[j]), float(self.loss[i, j]), float(self.at[j]), float(self.psi[i, j]), float(self.shift[i, j]))


@runtime_checkable
class Tunable(Policy, Protocol):
    """A policy with parameters that are found on a past."""

    def tuned(self, past: Past, kappa: float) -> Policy:
        """The policy of this kind that would have cost least there."""
