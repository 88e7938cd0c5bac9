"""Champion against challenger: is the new version better, or at least not worse, on the very same events?

Both predicted each event before either learned from it. Their paired losses come in small blocks, in the order of the
questions; these are put together to blocks as long as losses correlate, and an anytime-valid test bets on those, so that
looking at it costs no error budget. Guardrails and slices may stop what the test would promote. Nothing here reads a
clock, draws a random number or forgets a block.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from .betting import OddEven
from .correlation import Span
from .guardrails import Guardrail, Watched
from .slices import Slices
from .sums import NONE, Sums, merge

SCALE: Final = 2.0  # c: paired differences lie in [-1, 1]
STITCH: Final = 1.4  # s
STEP: Final = 2.0  # η
LIKELY: Final = 1.645  # standard errors: a one-sided 95 %
ZETA: Final = 3.1055472779775806  # Riemann's ζ(STITCH); scipy would take control a second to import, for this alone
SETTLING: Final = 30  # blocks, or SETTLING_EVENTS if they come first, from which the span is measured before the first bet
SETTLING_EVENTS: Final = 300


class Trial:
    """The trial of the `k`-th challenger since the last promotion, k from 1, at the level 6·alpha/(π²k²).

    x is a block's mean of champion's loss − challenger's, H0: E[x | past] ≤ −tolerance: the challenger is worse by at least
    the tolerance. With a tolerance of 0, crossing means better; above 0, it means not worse by as much as that, and a
    challenger that is just as good is meant to pass. Odd and even blocks feed two processes whose capitals are averaged:
    "past" is what was over one whole block before, so that a shock may be shared by as many events as a block has.

    A block of the test is several of the blocks that `add_block` takes: as many as `Span` finds that losses correlate over.
    The first ones (SETTLING), or what was rehearsed, are experience alone. From then on the length of a block is fixed before
    the block before it begins, by what came before both, so that each bet is still on the future. Late labels need no longer
    blocks by themselves: what is unknown when a bet is made can only spoil it by being correlated, and that is measured.

    `e` is the evidence now, `peak` its maximum; `crossed` says whether it ever reached 1 / level. `blocks` counts the closed
    blocks of the test, `events` what was taken. `guardrails` and `slices` (whether sums by slice come with the blocks) stop
    a promotion that they speak against. Raises ValueError for an alpha or tolerance outside (0, 1) and [0, 1), and for k
    below 1.
    """

    def __init__(
        self, alpha: float, tolerance: float, k: int, guardrails: Sequence[Guardrail] = (), slices: bool = False
    ) -> None:
        if not 0.0 < alpha < 1.0 or not 0.0 <= tolerance < 1.0 or k < 1:
            raise ValueError(f"alpha {alpha}, tolerance {tolerance}, k {k}: they lie in (0, 1), [0, 1), and from 1 up")
        self.alpha, self.tolerance, self.k = alpha, tolerance, k
        self.alpha_k = 6.0 * alpha / (math.pi * k) ** 2
        self.threshold = 1.0 / self.alpha_k
        self.e = self.peak = 1.0
        self.blocks = 0
        self.guardrails = [Watched(guardrail) for guardrail in guardrails]
        self.slices = Slices(tolerance, alpha) if slices else None
        self._evidence = OddEven(-tolerance)
        self._span = Span()
        self._lengths: list[int] = []  # of the block that is open and of the next, in blocks taken; none while settling
        self._open: list[tuple[int, float, Sums]] = []  # taken and in no block of the test yet: events, difference, sums
        self._events = [0]  # running sums, so that any recent stretch is one subtraction
        self._differences = [0.0]
        self._squares = [0.0]
        self._rehearsed = self._rehearsed_events = 0
        self._sum = 0.0
        self._variance = 0.0
        self._losses = [0.0, 0.0]  # sums: the champion's, the challenger's

    @staticmethod
    def of(numbers: Mapping[str, Any]) -> Trial:
        """The trial that a `trial_started` decision begins, by its numbers; older ones have neither guardrails nor slices."""
        guardrails = [Guardrail(**row) for row in numbers.get("guardrails", ())]
        return Trial(numbers["alpha"], numbers["tolerance"], numbers["k"], guardrails, bool(numbers.get("slices")))

    @property
    def events(self) -> int:
        """Labelled events in closed blocks."""
        return self._events[-1]

    @property
    def length(self) -> int:
        """How many of the blocks taken make one block of the test, as it is now."""
        return self._lengths[0] if self._lengths else 1

    @property
    def crossed(self) -> bool:
        """Whether the evidence was ever enough. It stays so: the test is valid at any time."""
        return self.peak >= self.threshold

    @property
    def mean_difference(self) -> float:
        """Champion's mean loss less the challenger's over all closed events; above 0, the challenger is better."""
        return self._differences[-1] / self.events if self.events else 0.0

    def add_block(self, n: int, champion: float, challenger: float, sums: Sums = NONE) -> None:
        """Take the next block in order: `n` events, each side's sum of losses in [0, 1] over them, and what else was summed.

        Raises ValueError for an empty block or sums that such losses cannot have; nothing has changed then.
        """
        if n < 1 or not (-1e-9 <= champion <= n + 1e-9 and -1e-9 <= challenger <= n + 1e-9):
            raise ValueError(f"a block of {n} events cannot have loss sums of {champion} and {challenger}")
        for watched in self.guardrails:
            watched.add((n, champion, challenger), sums)
        self._events.append(self.events + n)
        self._differences.append(self._differences[-1] + champion - challenger)
        self._squares.append(self._squares[-1] + (champion - challenger) ** 2)
        self._losses = [self._losses[0] + champion, self._losses[1] + challenger]
        self._span.add((champion - challenger) / n)
        self._open.append((n, champion - challenger, sums))
        if self._lengths:
            if len(self._open) >= self._lengths[0]:
                self._close(len(self._open), stake=True)
                self._lengths = [self._lengths[1], self._span.blocks()]
        elif len(self._open) + self._rehearsed >= SETTLING or self.events + self._rehearsed_events >= SETTLING_EVENTS:
            self._settle()

    def rehearse(self, blocks: Sequence[tuple[int, float, float]]) -> None:
        """Take blocks from before the trial, (events, champion's losses, challenger's), as experience: nothing is staked on
        them. What they teach, the first stakes and how long losses correlate, needs no events of the trial then.

        Since bets are on what comes, they are as fair whatever these were and however they were chosen. The last block of the
        test among them is left out, so that a whole block lies between it and the first bet. Too late once a block was taken.
        """
        if self.events or self._rehearsed_events:
            return
        means = [(champion - challenger) / n for n, champion, challenger in blocks]
        for mean in means:
            self._span.add(mean)
        self._rehearsed, self._rehearsed_events = len(means), sum(block[0] for block in blocks)
        if self._rehearsed >= SETTLING or self._rehearsed_events >= SETTLING_EVENTS:
            length = self._span.blocks()
            self._lengths = [length, length]
            for number, start in enumerate(range(len(means) % length, len(means) - length, length)):
                self._evidence.learn(number, math.fsum(means[start : start + length]) / length)

    def _settle(self) -> None:
        """The first lengths, and what was taken until now as experience, in blocks of that length."""
        length = self._span.blocks()
        self._lengths = [length, length]
        while len(self._open) >= length:
            self._close(length, stake=False)
        self._open.clear()

    def _close(self, length: int, *, stake: bool) -> None:
        """Make the first `length` of what is open one block of the test."""
        block, self._open = self._open[:length], self._open[length:]
        x = min(max(math.fsum(part[1] for part in block) / sum(part[0] for part in block), -1.0), 1.0)
        (self._evidence.bet if stake else self._evidence.learn)(self.blocks, x)
        if self.slices is not None:
            self.slices.add(self.blocks, merge(part[2] for part in block), stake=stake)
        self.e = self._evidence.e
        self.peak = max(self.peak, self.e)
        self._variance += (x - (self._sum / self.blocks if self.blocks else 0.0)) ** 2
        self._sum += x
        self.blocks += 1

    def recent(self, n_events: int) -> float:
        """The mean paired difference over the last closed blocks that together hold at least `n_events`, or over all."""
        start = self._start(n_events)
        events = self.events - self._events[start]
        return (self._differences[-1] - self._differences[start]) / events if events else 0.0

    def gain_at_most(self, least: int) -> float | None:
        """What the challenger's gain hardly exceeds of late: the mean difference and 1.645 standard errors, of the last half.

        Blocks are summed as they were taken; where they correlate, the error is larger by the root of their span. None until
        `least` events are half of all, and between one multiple of `least` events and the next, so that chance is not asked
        again and again until it agrees.
        """
        if self.events < 2 * least or self.events // least == self._events[-2] // least:
            return None
        start = self._start(self.events // 2)
        blocks, events = len(self._events) - 1 - start, self.events - self._events[start]
        total, squares = self._differences[-1] - self._differences[start], self._squares[-1] - self._squares[start]
        if blocks < 2:
            return None
        spread = max(0.0, squares - total**2 / blocks) * blocks / (blocks - 1) * self.length
        return (total + LIKELY * math.sqrt(spread)) / events

    def interval(self) -> tuple[float, float]:
        """A 1 − alpha confidence sequence for the mean of the blocks' differences, within [−1, 1]: for show.

        Empirical-Bernstein (Howard, Ramdas, McAuliffe & Sekhon, Annals of Statistics 49, 2021, Theorem 4) with the
        stitched boundary, c = 2, s = 1.4, η = 2, alpha / 2 on each side.
        """
        if not self.blocks:
            return -1.0, 1.0
        variance = max(1.0, self._variance)
        log = STITCH * math.log(math.log(STEP * variance)) + math.log(ZETA / (self.alpha / 2 * math.log(STEP) ** STITCH))
        k1 = (STEP**0.25 + STEP**-0.25) / math.sqrt(2.0)
        k2 = (math.sqrt(STEP) + 1.0) / 2.0
        spread = math.sqrt(k1**2 * variance * log + (k2 * SCALE * log) ** 2) + k2 * SCALE * log
        centre = self._sum / self.blocks
        return max(-1.0, centre - spread / self.blocks), min(1.0, centre + spread / self.blocks)

    def objections(self, min_events: int) -> list[str]:
        """What speaks against a promotion though the evidence is enough, in words: recent losses, guardrails, slices.

        Guardrails must hold over all closed events and over the last `min_events` of them.
        """
        found = []
        if self.recent(min_events) < -self.tolerance:
            found.append(f"over the last {min_events} events it is worse by more than the tolerance")
        for watched in self.guardrails:
            why, recently = watched.broken(), watched.broken(self._start(min_events))
            if why or recently:
                found.append(f"guardrail {why or f'{recently} over the last {min_events} events'}")
        worse = self.slices.why() if self.slices is not None else ""
        return [*found, worse] if worse else found

    def verdict(self, min_events: int, horizon: int) -> Literal["promote", "reject"] | None:
        """Promote once crossed, with `min_events` closed and no objection; reject at `horizon` events.

        Objections are there because both models go on learning, and because a mean may hide much: the evidence says "better
        at some time, on the whole". They hold a promotion up while they last, and the trial goes on.
        """
        if self.crossed and self.events >= min_events and not self.objections(min_events):
            return "promote"
        return "reject" if self.events >= horizon else None

    def why(self, min_events: int, horizon: int) -> str:
        """In words, what `verdict` rests on."""
        evidence = f"evidence {self.peak:.3g} of {self.threshold:.3g} after {self.events} events"
        if not self.crossed:
            return f"{evidence}: " + ("undecided at the horizon" if self.events >= horizon else "undecided")
        if self.events < min_events:
            return f"{evidence}: enough, but {min_events} events are the least"
        recently = f"over the last {min_events} events the challenger's loss is lower by {self.recent(min_events):.4f}"
        objections = self.objections(min_events)
        return "; but ".join([f"{evidence}; {recently}", *objections])

    def numbers(self, min_events: int = 1000) -> dict[str, Any]:
        """What the audit keeps: JSON-able. `recent` is over the last `min_events` events, `block` the events in a block.

        `guardrails` and `slices` are there when the trial has them.
        """
        lower, upper = self.interval()
        taken = len(self._events) - 1
        found: dict[str, Any] = {
            "e": self.e,
            "peak": self.peak,
            "threshold": self.threshold,
            "alpha_k": self.alpha_k,
            "k": self.k,
            "tolerance": self.tolerance,
            "blocks": self.blocks,
            "block": round(self.events / taken * self._lengths[0]) if self._lengths and taken else 0,
            "events": self.events,
            "rehearsed": self._rehearsed_events,
            "champion_loss": self._losses[0] / self.events if self.events else None,
            "challenger_loss": self._losses[1] / self.events if self.events else None,
            "mean_difference": self.mean_difference,
            "interval": [lower, upper],
            "recent": self.recent(min_events),
        }
        if self.guardrails:
            found["guardrails"] = [watched.numbers(self._start(min_events)) for watched in self.guardrails]
        if self.slices is not None:
            found["slices"] = self.slices.numbers()
        return found

    def _start(self, n_events: int) -> int:
        """The first of the last blocks taken that together hold at least `n_events`."""
        return max(0, bisect_right(self._events, self.events - n_events) - 1)
