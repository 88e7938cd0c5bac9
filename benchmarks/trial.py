"""Trials whose truth is known: how often a challenger that is not better is promoted, and how soon one that is better is.

Losses of two models are drawn, their labels come late, and the service's own blocks, bets and verdict (guard and horizon
included) are asked after every closed block, so stopping is optional. 1,000 trials of equal models, with labels at once, late,
and with shocks shared by 30 and by 100 events, or more; fewer of worse challengers, and of better ones, whose median may be
held against the published ones of a single process.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from streamlearn.config import TrialSettings
from streamlearn.learning.paired import PairedBlocks
from streamlearn.retrain.trial import Trial

from .harness import Rows, main

DEFAULTS = TrialSettings()
EQUAL, BEYOND, WORSE, BETTER = "equal", "equal, shocks beyond the longest block", "worse", "better"
CHUNK = 25
TRIALS = {EQUAL: 1000, BEYOND: 200, WORSE: 200, BETTER: 100}


class Truth(NamedTuple):
    """Two models that disagree this often; the challenger's error is lower by `gain`. `shock` events share a leaning."""

    disagreement: float
    gain: float
    shock: int = 1
    delay: float = 0.0  # mean of the label delays, in questions (geometric)


class Case(NamedTuple):
    """What is measured: its group and title, the truth, the least block, the tolerance, and the published median."""

    group: str
    title: str
    truth: Truth
    block: int = DEFAULTS.min_block
    tolerance: float = 0.0
    published: int | None = None


def outcomes(truth: Truth, events: int, rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """(champion's losses, challenger's losses). A shock favours one of them in 7 of 10 disagreements."""
    lean = np.zeros(events)
    if truth.shock > 1:
        lengths = rng.integers(1, 2 * truth.shock, 1 + 4 * events // truth.shock)
        lean = np.repeat(rng.choice([-0.4, 0.4], len(lengths)), lengths)[:events]
    disagree = rng.random(events) < truth.disagreement
    favoured = rng.random(events) < 0.5 + (truth.gain / truth.disagreement + lean) / 2
    both = (rng.random(events) < 0.15).astype(float)
    return np.where(disagree, favoured, both).tolist(), np.where(disagree, ~favoured, both).tolist()


def one_trial(case: Case, horizon: int, rng: np.random.Generator) -> tuple[str | None, int]:
    """The verdict of one trial, and the labelled events that it took."""
    truth = case.truth
    events = horizon + int(20 * truth.delay) + 2 * case.block  # so many that those of the horizon get their labels
    champion, challenger = outcomes(truth, events, rng)
    known = np.arange(events)  # by question: the number of the question at which its label is there
    if truth.delay:
        known += rng.exponential(truth.delay, events).astype(int)
    order = np.argsort(known, kind="stable").tolist()
    blocks, trial = PairedBlocks(0, case.block), Trial(DEFAULTS.alpha, case.tolerance, 1)
    numbers, times, answered = [], known.tolist(), 0
    for n in range(events):
        numbers.append(blocks.ask())
        while answered < events and times[order[answered]] <= n:
            question = order[answered]
            answered += 1
            if not blocks.answer(numbers[question], champion[question], challenger[question]):
                continue
            for data in blocks.take_closed():
                trial.add_block(data["n"], data["champion"], data["challenger"])
                verdict = trial.verdict(DEFAULTS.min_events, horizon)
                if verdict is not None:
                    return verdict, trial.events
    raise AssertionError("the horizon was not reached")


def several(case: Case, horizon: int, seed: int) -> list[tuple[str | None, int]]:
    """CHUNK trials, each with a seed of its own."""
    name = zlib.crc32(case.title.encode())
    return [one_trial(case, horizon, np.random.default_rng([name, seed, number])) for number in range(CHUNK)]


def cases() -> list[Case]:
    """Everything that is measured."""
    found = [
        Case(EQUAL, "labels at once", Truth(0.1, 0.0)),
        Case(EQUAL, "labels 100 events late", Truth(0.1, 0.0, delay=100)),
        Case(EQUAL, "shocks of about 30 events", Truth(0.3, 0.0, 30)),
        Case(EQUAL, "shocks of about 100 events", Truth(0.3, 0.0, 100)),
        Case(EQUAL, "shocks of about 100 events, labels 100 events late", Truth(0.3, 0.0, 100, delay=100)),
        Case(BEYOND, "of about 300 events", Truth(0.3, 0.0, 300)),
        Case(BEYOND, "of about 300 events, least block 30", Truth(0.3, 0.0, 300), 30),
    ]
    for points in (1, 2, 5):
        found.append(Case(WORSE, f"by {points} points", Truth(0.1, -points / 100)))
    for points in (1, 2):
        title = f"by {points} points, tolerance {DEFAULTS.tolerance:g}"
        found.append(Case(WORSE, title, Truth(0.1, -points / 100), tolerance=DEFAULTS.tolerance))
    found += [
        Case(BETTER, "2 points of 10 % disagreement", Truth(0.1, 0.02), 10, 0.0, 3405),
        Case(BETTER, "5 points of 20 % disagreement", Truth(0.2, 0.05)),
        Case(BETTER, "10 points of 30 % disagreement", Truth(0.3, 0.1)),
        Case(BETTER, "5 points of 20 % disagreement, labels 100 events late", Truth(0.2, 0.05, delay=100)),
        Case(BETTER, "5 points of 30 % disagreement, shocks of about 100 events", Truth(0.3, 0.05, 100)),
        Case(BETTER, "as good, with the default tolerance", Truth(0.1, 0.0), tolerance=DEFAULTS.tolerance),
    ]
    return found


def measure(rows: Rows, quick: bool) -> None:
    """Every case in turn, its trials two at a time."""
    horizon = 8000 if quick else 20_000
    with ProcessPoolExecutor(2) as pool:
        for case in sorted(cases(), key=lambda case: TRIALS[case.group]):
            trials = 50 if quick else TRIALS[case.group]
            noise = 2 * math.sqrt(DEFAULTS.alpha * (1 - DEFAULTS.alpha) / trials)
            run: Callable[[int], list[tuple[str | None, int]]] = partial(several, case, horizon)
            ended = [one for chunk in pool.map(run, range(trials // CHUNK)) for one in chunk]
            won = [events for verdict, events in ended if verdict == "promote"]
            share, told = len(won) / trials, f"{len(won)} of {trials}, {horizon:,} events at most"
            if case.group == BETTER:
                rows.add(f"{case.group}, {case.title}: promoted", share, "share", None, told)
                if 2 * len(won) > trials:
                    reference = "" if case.published is None else f"{case.published:,} by one process"
                    times = sorted([*won, *[horizon] * (trials - len(won))])
                    rows.add(f"{case.group}, {case.title}: median", statistics.median(times), "events", None, reference)
            else:
                goal = None if case.group == BEYOND else f"<= {DEFAULTS.alpha + noise:.3f}"
                rows.add(f"{case.group}, {case.title}: promoted", share, "share", goal, told)


if __name__ == "__main__":
    main("Trials", measure)
