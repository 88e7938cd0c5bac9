"""Trials whose truth is known: how often a challenger that is not better is promoted, and how soon one that is better is.

Losses of two models are drawn, their labels come late, and what control asks is asked after every closed block, so stopping is
optional: the trial's verdict, and then the canary's guard and the end of each of its steps, on the paired losses alone. 1,000
trials of equal models, with labels at once, late, and with shocks shared by 30 and by 100 events, or more; fewer of worse
challengers, and of better ones, whose medians, from the first event to the promotion, stand beside the published ones: those of
a bet alone, without settling, without a least number of events, and without a canary.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from streamlearn.config import TrialSettings
from streamlearn.learning.paired import PairedBlocks
from streamlearn.retrain.canary import Canary
from streamlearn.retrain.trial import Trial

from .harness import Rows, main

DEFAULTS = TrialSettings()
EQUAL, BEYOND, WORSE, BETTER = "equal", "equal, shocks beyond the longest block", "worse", "better"
CHUNK = 25
TRIALS = {EQUAL: 1000, BEYOND: 200, WORSE: 200, BETTER: 100}
NOT_SERVED = (0, 0.0, 0.0)  # the outcomes of an arm without served answers
PUBLISHED = "published, a single process, each event: {:,}"


class Truth(NamedTuple):
    """Two models that disagree this often; the challenger's error is lower by `gain`. `shock` events share a leaning."""

    disagreement: float
    gain: float
    shock: int = 1
    delay: float = 0.0  # mean of the label delays, in questions (geometric)


class Case(NamedTuple):
    """What is measured: its group and title, the truth, the least block, the tolerance, and the published medians."""

    group: str
    title: str
    truth: Truth
    block: int = DEFAULTS.min_block
    tolerance: float = 0.0
    published: str = ""


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


class Challenger:
    """A challenger as control judges it with the default settings: a trial, a canary in steps, the promotion."""

    def __init__(self, case: Case, horizon: int) -> None:
        self.trial = Trial(DEFAULTS.alpha, case.tolerance, 1)
        self.canary: Canary | None = None
        self._block, self._horizon = case.block, horizon
        self._since = 0  # the first block of questions that all came after the present step began

    def add(self, data: dict[str, Any], asked: int) -> str | None:
        """Take a block that was closed when so many questions had been asked: "promote" or "reject" once that is decided."""
        trial, canary, n = self.trial, self.canary, data["n"]
        trial.add_block(n, data["champion"], data["challenger"])
        if canary is None:
            verdict = trial.verdict(min(DEFAULTS.canary_events, DEFAULTS.min_events), self._horizon)
            if verdict == "promote":
                self.canary = Canary(DEFAULTS.canary, "", DEFAULTS.alpha, trial.tolerance, trial.events, trial.length)
                self._next(self.canary, asked)
                return None
            return verdict
        if data["block"] >= self._since:
            canary.add(0, n, {"step": canary.seq, "champion": NOT_SERVED, "challenger": NOT_SERVED})
        canary.guard.add_block(n, data["challenger"], data["champion"])
        if canary.guard.crossed:
            return "reject"
        if canary.events >= DEFAULTS.canary_events and (not canary.last or trial.events >= DEFAULTS.min_events):
            if canary.problem(trial.recent(DEFAULTS.min_events)) or trial.objections(DEFAULTS.min_events):
                return "reject"
            if canary.last:
                return "promote"
            self._next(canary, asked)
            return None
        return "reject" if trial.events - canary.at >= self._horizon else None

    def _next(self, canary: Canary, asked: int) -> None:
        canary.next(canary.seq + 1)
        self._since = -(-asked // self._block)


class Ended(NamedTuple):
    """How a challenger fared: whether it was promoted, whether its canary had begun, and the labelled events until then."""

    promoted: bool
    tried: bool
    events: int


def one_trial(case: Case, horizon: int, rng: np.random.Generator) -> Ended:
    """One challenger's way, from the first event on."""
    truth = case.truth
    events = 2 * horizon + int(20 * truth.delay) + 2 * case.block  # so many that those that count get their labels
    champion, challenger = outcomes(truth, events, rng)
    known = np.arange(events)  # by question: the number of the question at which its label is there
    if truth.delay:
        known += rng.exponential(truth.delay, events).astype(int)
    order = np.argsort(known, kind="stable").tolist()
    blocks, judged = PairedBlocks(0, case.block), Challenger(case, horizon)
    numbers, times, answered = [], known.tolist(), 0
    for n in range(events):
        numbers.append(blocks.ask())
        while answered < events and times[order[answered]] <= n:
            question = order[answered]
            answered += 1
            if not blocks.answer(numbers[question], champion[question], challenger[question]):
                continue
            for data in blocks.take_closed():
                verdict = judged.add(data, blocks.asked)
                if verdict is not None:
                    return Ended(verdict == "promote", judged.canary is not None, judged.trial.events)
    raise AssertionError("the horizon was not reached")


def several(case: Case, horizon: int, seed: int) -> list[Ended]:
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
        Case(BETTER, "1 point of 10 % disagreement", Truth(0.1, 0.01), published=PUBLISHED.format(7979)),
        Case(
            BETTER, "2 points of 10 % disagreement", Truth(0.1, 0.02),
            published=f"{PUBLISHED.format(1752)}; odd and even blocks of 10: 3,405",
        ),
        Case(
            BETTER, "2 points of 10 % disagreement, least block 30", Truth(0.1, 0.02), 30,
            published="published, odd and even blocks of 30: 9,840",
        ),
        Case(BETTER, "5 points of 20 % disagreement", Truth(0.2, 0.05), published=PUBLISHED.format(571)),
        Case(BETTER, "10 points of 30 % disagreement", Truth(0.3, 0.1), published=PUBLISHED.format(179)),
        Case(BETTER, "5 points of 20 % disagreement, labels 100 events late", Truth(0.2, 0.05, delay=100)),
        Case(BETTER, "5 points of 30 % disagreement, shocks of about 100 events", Truth(0.3, 0.05, 100)),
        Case(BETTER, "as good, with the default tolerance", Truth(0.1, 0.0), tolerance=DEFAULTS.tolerance),
    ]  # fmt: skip
    return found


def measure(rows: Rows, quick: bool) -> None:
    """Every case in turn, its trials two at a time."""
    horizon = 4000 if quick else 20_000
    with ProcessPoolExecutor(2) as pool:
        for case in sorted(cases(), key=lambda case: TRIALS[case.group]):
            trials = CHUNK if quick else TRIALS[case.group]
            run: Callable[[int], list[Ended]] = partial(several, case, horizon)
            ended = [one for chunk in pool.map(run, range(trials // CHUNK)) for one in chunk]
            times = sorted(one.events if one.promoted else math.inf for one in ended)
            won, tried = sum(map(math.isfinite, times)), sum(one.tried for one in ended)
            told = f"{won} of {trials}, canary begun in {tried}, horizon {horizon:,} events"
            goal = f"<= {DEFAULTS.alpha:g}" if case.group in (EQUAL, WORSE) else None
            if goal is not None:
                noise = 2 * math.sqrt(DEFAULTS.alpha * (1 - DEFAULTS.alpha) / trials)
                told += f"; at a true {DEFAULTS.alpha:g}, chance alone gives ± {noise:.3f}"
            median = statistics.median(times)
            known = math.isfinite(median)
            if case.published and not known:
                told += f"; {case.published}"
            rows.add(f"{case.group}, {case.title}: promoted", won / trials, "share", goal, told)
            if case.group == BETTER and known:
                rows.add(f"{case.group}, {case.title}: median to the promotion", median, "events", None, case.published)


if __name__ == "__main__":
    main("Trials", measure)
