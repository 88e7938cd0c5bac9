"""Chance on the final slate, with the probability that each shown item stands where it stands.

Every function takes the order that the slate would have without chance, and gives which of it are shown, position by position,
with their propensities: the probability, over the draws of this one call, that this very item stands at this very position.
Both are computed, not estimated. Whatever a rule forbids is out of the order before it comes here.
"""

from __future__ import annotations

import random
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

REACH: Final = 5  # Thompson: the first REACH * k of the order take part in the draw
NARROWEST: Final = 0.1  # of the widest deviation: the quadrature's step resolves every item's distribution
SPAN: Final = 5.0  # deviations on either side; what lies beyond is less than 1e-6

Floats = NDArray[np.float64]
Slots = tuple[list[int], list[float]]


def as_ranked(size: int, k: int) -> Slots:
    """The order itself: indices 0..k-1, each with probability one."""
    shown = min(size, k)
    return list(range(shown)), [1.0] * shown


def epsilon_greedy(size: int, k: int, epsilon: float, draw: random.Random) -> Slots:
    """Each position in turn takes the first item that is left or, with probability `epsilon`, any that is left, all alike."""
    left, shown = list(range(size)), []
    for _ in range(min(size, k)):
        at = draw.randrange(len(left)) if draw.random() < epsilon else 0
        shown.append(left.pop(at))
    return shown, epsilon_propensities(size, epsilon, shown).tolist()


def epsilon_propensities(size: int, epsilon: float, shown: list[int]) -> Floats:
    """P(item shown[j] stands at position j) under `epsilon_greedy`, float64[len(shown)], exact.

    All that matters for item r of m is how many (a) of the r items before it are gone after t draws, as long as it is not
    gone itself: the next draw takes one before it with probability (1-e) + e(r-a)/(m-t) while a < r and 0 afterwards, takes it
    with e/(m-t), and (1-e) more once a = r, or else takes one behind it. So a recursion over t carries the distribution of a.
    """
    count = len(shown)
    if not count:
        return np.empty(0)
    before = np.array(shown)[:, None]
    gone = np.arange(count + 1)[None, :]
    state = np.zeros((count, count + 1))
    state[:, 0] = 1.0
    found = np.empty(count)
    next_up = (gone == before) * (1.0 - epsilon)
    ahead = (gone < before) * (1.0 - epsilon)
    left_ahead, left_behind = np.maximum(before - gone, 0), size - 1 - before + gone
    for slot in range(count):
        share = epsilon / (size - slot)
        found[slot] = state[slot] @ (share + next_up[slot])
        taken_ahead = state * (ahead + share * left_ahead)
        state *= share * (left_behind - slot)  # negative only where `state` is 0: more cannot be gone than were taken
        state[:, 1:] += taken_ahead[:, :-1]
    return found


def thompson(means: Floats, deviations: Floats, k: int, draw: random.Random) -> Slots:
    """Each of the first `REACH * k` draws its score from its own normal; the k best draws are shown, best first.

    `means` float64[n], never rising (a mean that does is brought down to the one before: the order is what the rules made of
    the scores), and `deviations` float64[n] > 0, of which none counts for less than `NARROWEST` of the widest.
    """
    size = min(len(means), REACH * k)
    if not size:
        return [], []
    means = np.minimum.accumulate(means[:size])
    deviations = np.maximum(deviations[:size], NARROWEST * deviations[:size].max())
    sampled = means + deviations * np.array([draw.gauss(0.0, 1.0) for _ in range(size)])
    shown = np.argsort(-sampled, kind="stable")[: min(size, k)].tolist()
    return shown, thompson_propensities(means, deviations, shown).tolist()


def thompson_propensities(means: Floats, deviations: Floats, shown: list[int]) -> Floats:
    """P(shown[j] has the (j+1)-th largest of independent normal scores), float64[len(shown)].

    It is the integral over x of the item's density at x times P(just j of the others exceed x), the Poisson-binomial
    distribution by its recursion. The trapezoid rule, whose error falls exponentially with the step for integrands as smooth as
    these, over `SPAN` deviations to either side of each item; its step is at most half of the narrowest deviation.
    """
    count, size = len(shown), len(means)
    chosen = np.array(shown)
    step = min(0.5 * float(deviations.min()), 0.25 * float(deviations[chosen].max()))
    nodes = int(np.ceil(2 * SPAN * float(deviations[chosen].max()) / step)) + 1
    unit = np.linspace(-SPAN, SPAN, nodes)
    points = means[chosen, None] + deviations[chosen, None] * unit  # [count, nodes]
    exceed = ndtr((means[:, None, None] - points) / deviations[:, None, None])  # [size, count, nodes]
    exceed[chosen, np.arange(count)] = 0.0  # nobody exceeds itself
    exactly = np.zeros((count, count, nodes))  # [how many exceed, item, node]
    exactly[0] = 1.0
    for other in range(size):
        more = exactly[:-1] * exceed[other]
        exactly *= 1.0 - exceed[other]
        exactly[1:] += more
    weight = np.exp(-0.5 * unit**2)
    weight /= weight.sum()
    return np.clip(exactly[np.arange(count), np.arange(count)] @ weight, 0.0, 1.0)
