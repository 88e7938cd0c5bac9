"""What policies are shown in tests: pasts and moments, made by hand or drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from streamlearn.retrain.policy import Batch, Confirmed, Floats, Past, Seen

HOUR = 3600.0
BEGAN = 1_760_000_000.0


def seen_of(losses: Sequence[float], n: int = 500, reference: float | None = 0.2, kappa: float = 20.0, **more: Any) -> Seen:
    """What came since the last retrain: a batch of `n` events an hour."""
    batches = tuple(Batch(n, loss, BEGAN + HOUR * (place + 1), loss) for place, loss in enumerate(losses))
    times = {"now": BEGAN + HOUR * len(losses), "since": BEGAN}
    return Seen(batches=batches, reference=reference, kappa=kappa, **(times | more))


def past_of(loss: Floats, n: int = 500, reference: float = 0.2, shift: float = 0.0) -> Past:
    """A past with these mean losses, shape (w, w), of which the staleness is the loss; a batch of `n` events an hour."""
    width = len(loss)
    after = np.triu(np.ones((width, width), dtype=bool), 1)
    known = np.where(after, loss, np.nan)
    return Past(
        n=np.full(width, float(n)), at=BEGAN + HOUR * np.arange(width), loss=known, psi=known.copy(),
        shift=np.where(after, shift, np.nan), reference=np.full(width, reference),
    )  # fmt: skip


def simulated(width: int, rate: Callable[[int, int], float], n: int = 500, seed: int = 0, reference: float = 0.2) -> Past:
    """A past in which model i errs on an event of batch j with the chance rate(i, j)."""
    rng = np.random.default_rng(seed)
    rates = np.array([[rate(i, j) if i < j else 0.0 for j in range(width)] for i in range(width)])
    return past_of(rng.binomial(n, rates) / n, n, reference)


LOSSES = st.floats(0, 1).map(lambda loss: round(loss, 3))
BATCHES = st.lists(
    st.tuples(st.integers(1, 2000), LOSSES, LOSSES, st.floats(0, 5)).map(
        lambda row: Batch(row[0], row[1], 0.0, row[2], row[3])
    ),
    max_size=12,
)
CONFIRMED = st.builds(Confirmed, reference=LOSSES, fresh=LOSSES, n=st.integers(1, 2000))


@st.composite
def seens(draw: st.DrawFn) -> Seen:
    """Any moment: batches come every 20 minutes or so."""
    batches = draw(BATCHES)
    times = np.cumsum([draw(st.integers(60, 3600)) for _ in batches]) + BEGAN
    return Seen(
        batches=tuple(batch._replace(at=float(at)) for batch, at in zip(batches, times, strict=True)),
        reference=draw(st.none() | LOSSES),
        kappa=draw(st.floats(0, 300)),
        now=float(times[-1]) if batches else BEGAN,
        since=BEGAN,
        confirmed=draw(st.none() | CONFIRMED),
        seed=draw(st.integers(0, 5)),
        first=draw(st.booleans()),
    )


@st.composite
def pasts(draw: st.DrawFn, least: int = 1, most: int = 7) -> Past:
    """Any past, with batches of unequal size."""
    width = draw(st.integers(least, most))
    rows = draw(st.lists(st.lists(LOSSES, min_size=width, max_size=width), min_size=width, max_size=width))
    past = past_of(np.array(rows), reference=draw(LOSSES))
    past.n[:] = draw(st.lists(st.integers(1, 300), min_size=width, max_size=width))
    return past
