"""The default policy: retrain once the losses above what was normal have cost more than a retrain."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamlearn.config_fields import Margin, Positive

from .builtin import Builtin, Flag, choice
from .policy import Choice, Floats, Seen


class Debt(Builtin):
    """D_t = max(0, D_{t−1} + n (loss_t − reference − ε)); retrain when D > κ: a CUSUM (Page, Biometrika 1954) on excess loss.

    A design of this project, measured on synthetic streams. A plain Σ max(0, loss − reference) sums noise without end; D stays
    near σ²/2ε while nothing changes (σ²: variance of one event's loss). Of a confirmed drift, D begins with what the fresh
    events lost above the reference before it, and goes on over the batches since; when it has come back to 0, the drift has
    cost less than a retrain and is over. Joined batches can only lower D. With `gate = false` it asks for no confirmation, and
    compares with the loss at training time. The threshold is `times` κ.

    A drift that comes while the watch has no reference yet, or that is slow, is confirmed late or never. With a second debt,
    `gate = false` and `times = 2`, beside the default one it is paid for all the same: see `benchmarks.policy`.
    """

    name: ClassVar[str] = "debt"
    evidence: ClassVar[bool] = True

    epsilon: Margin = 0.01
    gate: Flag = True
    times: Positive = 1.0

    @property
    def gated(self) -> bool:
        """As `gate` says."""
        return self.gate

    def decide(self, seen: Seen) -> Choice:
        """Retrain when the debt, as it stands after the last batch, is above the threshold."""
        confirmed, threshold = seen.confirmed, self.times * seen.kappa
        if confirmed is None and self.gate:
            return choice(seen, False, 0.0, threshold, "no drift is confirmed", epsilon=self.epsilon)
        reference = seen.reference if confirmed is None else confirmed.reference
        if reference is None:
            return choice(seen, False, 0.0, threshold, "the loss at training time is not known yet", epsilon=self.epsilon)
        start = 0.0 if confirmed is None else max(0.0, confirmed.n * (confirmed.fresh - reference - self.epsilon))
        debt = float(reflected(start, seen.column("n") * (seen.column("loss") - reference - self.epsilon))[-1])
        retrain = debt > threshold
        settled = confirmed is not None and bool(seen.batches) and debt == 0 and not retrain
        what = f"{debt:.1f} lost events above the reference {reference:.4f}"
        if settled:
            why = "the losses are back at the reference: the drift cost less than a retrain, and is over"
        else:
            cost = "a retrain costs" if self.times == 1 else f"{self.times:g} times what a retrain costs"
            why = f"{what}, {'more than' if retrain else 'not more than'} {cost} ({threshold:g})"
        return choice(
            seen, retrain, debt, threshold, why, settled, reference=reference, epsilon=self.epsilon, start=start
        )  # fmt: skip


def reflected(start: float, steps: Floats) -> Floats:
    """The sum that never falls below 0, before the first step (`start` ≥ 0) and after each: shape (steps + 1,)."""
    sums = np.concatenate(([start], start + np.cumsum(steps)))
    return np.asarray(sums - np.minimum(0.0, np.minimum.accumulate(sums)), dtype=np.float64)
