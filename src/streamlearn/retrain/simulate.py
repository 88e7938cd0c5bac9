"""What a policy would have cost on a past, and the least that any could have: for tuning, and for comparing.

Losses are in lost events: a batch of n events with mean loss l costs n·l, a retrain costs κ. A batch is served by the model
made at the last retrain; a retrain at the end of batch j makes model j, which serves from batch j + 1. After the last batch
nobody is asked, since nothing is left to be served.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .policy import Batch, Choice, Confirmed, Floats, Past, Policy, Seen

Gate = Callable[[int, int], Confirmed | None]
P = TypeVar("P", bound=Policy)


class Replay(NamedTuple):
    """What a policy did: after which batches it retrained, what all of it cost, the lost events of each batch after `start`,
    and its choices, one after each of them but the last."""

    retrains: list[int]
    cost: float
    losses: Floats
    choices: list[Choice]


class Best(NamedTuple):
    """The least that retrains at the best times would have cost, and those times."""

    cost: float
    retrains: list[int]


def replay(
    policy: Policy | Sequence[Policy], past: Past, kappa: float, start: int = 0, seed: int = 0, gate: Gate | None = None
) -> Replay:
    """What `policy` would have done from batch start + 1 on, served at first by the model made after batch `start`.

    Of several policies each is asked until one retrains: while a drift waits the gated ones alone (in service the others, too),
    and it is settled when they all say so. `choices` then holds the last answer to each batch.
    `gate(i, j)` is the drift that was confirmed of model i by the end of batch j, or None, and is asked for gated policies
    alone; what it says first is shown until it leads to a retrain or is settled, after which the very same one is not shown
    again. A gated policy without a gate is never shown one. The policy's `seed` is `seed` plus the number of the batch.
    """
    width, model = len(past.n), start
    several = tuple(policy) if isinstance(policy, Sequence) else (policy,)
    confirms = gate if any(one.gated for one in several) else None
    retrains: list[int] = []
    choices: list[Choice] = []
    losses = np.zeros(max(0, width - start - 1))
    batches: list[Batch] = []  # since the last retrain
    before, confirmed, settled = 0, None, None  # `before`: how many of them came before the drift was confirmed
    for j in range(start + 1, width):
        losses[j - start - 1] = past.n[j] * past.loss[model, j]
        if j == width - 1:
            break
        batches.append(past.batch(model, j))
        if confirms is not None and confirmed is None:
            found = confirms(model, j)
            if found is not None and found != settled:
                confirmed, before = found, len(batches)
        reference = float(past.reference[model])
        over = True
        for one in several:
            if confirmed is not None and not one.gated:
                continue
            choice = one.decide(
                Seen(
                    batches=tuple(batches[before:]),
                    reference=None if math.isnan(reference) else reference,
                    kappa=kappa,
                    now=float(past.at[j]),
                    since=float(past.at[model]),
                    confirmed=confirmed,
                    seed=seed + j,
                    first=not retrains,
                )
            )
            over = over and choice.settled
            if choice.retrain:
                break
        choices.append(choice)
        if over and confirmed is not None:
            before, confirmed, settled = 0, None, confirmed
        if choice.retrain:
            retrains.append(j)
            model, batches = j, []
            before, confirmed, settled = 0, None, None
    return Replay(retrains, float(losses.sum()) + kappa * len(retrains), losses, choices)


def oracle(past: Past, kappa: float, start: int = 0) -> Best:
    """The best retrains in hindsight, exactly, by dynamic programming in the setting of `replay`.

    With Ψ[m, t] the lost events of model m in batch t: V_t(m) = Ψ[m, t] + min{V_{t+1}(m), κ + V_{t+1}(t)}. Quadratic in the
    length. Mahadevan & Mathioudakis, arXiv 2310.04216, compare with an oracle by dynamic programming as well; theirs was not
    read, this one is tested against all subsets.
    """
    width = len(past.n)
    value = np.zeros(width)  # of serving from the batch at hand to the end, for each model made before it
    swap = np.zeros((width, width), dtype=bool)
    for t in range(width - 1, start, -1):
        made = slice(start, t)
        if t < width - 1:
            anew = kappa + value[t]
            swap[t, made] = anew < value[made]
            value[made] = np.minimum(value[made], anew)
        value[made] += past.n[t] * past.loss[made, t]
    model, retrains = start, []
    for t in range(start + 1, width):
        if swap[t, model]:
            retrains.append(t)
            model = t
    return Best(float(value[start]) if width > start else 0.0, retrains)


def cheapest(candidates: Sequence[P], past: Past, kappa: float) -> P:
    """The candidate whose replay costs least; of equals the first."""
    costs = [replay(candidate, past, kappa).cost for candidate in candidates]
    return candidates[int(np.argmin(costs))]
