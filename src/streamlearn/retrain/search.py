"""A batch model search: candidates fitted side by side to growing parts of a window, scored on its end, fewer after each rung.

*Successive halving* (Jamieson & Talwalkar 2016, Algorithm 1; from memory): of R rungs, rung r fits what is left to the newest
`keep`^(R−1−r) of the training part, and the best `keep` share goes on, at least one. All are scored on the same events, the
last `holdout` of the window, one after the other: those that learn online predict, then learn (prequential). A candidate's
difference to the best one is paired, event by event; its interval comes from the means of BLOCKS consecutive stretches, since
losses in time order correlate (batch means; from memory): mean ± t(BLOCKS − 1, .975) · s/√BLOCKS.

After the first rung, which shows little, as many again may stay as the share says, if they are not clearly worse than the best
(their interval touches 0); after any, what serves now may, likewise, and the best of those that learn online, when no other
does. Who is alone goes to the last rung at once. A candidate that fails is out, and the search goes on. The winner has the
lowest mean loss. Those whose interval touches 0 are ties: among them what serves now goes first, if it learns online, so that a
short window's chances change nothing (after 500 events, of which 100 are scored, many candidates are ties: measured on
insects, the lowest of them lost .067 more than what served); then what learns online before what does not, and then, before the
lowest loss, what cost less than half as much CPU, where that saves more than SPARED seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from ..config import ModelSettings
from ..errors import RetrainError
from ..lineage import Recipe
from .candidates import SERVING, Candidate, candidates
from .job import FitSpec
from .scoring import Scored, ScoreSpec, part_of

Floats = npt.NDArray[np.float64]

BLOCKS: Final = 20
T: Final = 2.0930240544082634  # t with 19 degrees of freedom, two-sided 95 %
SPARED: Final = 0.5  # seconds of CPU: to cost less is no virtue below
OUTSTANDING: Final = 8  # jobs handed in at a time: fits of other models find a place between
POLL_S: Final = 0.1


class Scoring(Protocol):
    """A candidate being scored; the result is `Scored` as MessagePack."""

    def done(self) -> bool: ...

    def cancel(self) -> None: ...

    def result(self) -> Any: ...


Submit = Callable[[ScoreSpec, float, float], Scoring]


class Found(NamedTuple):
    """The winner's recipe, and the report: what was compared, how each did, and why this one, JSON-able."""

    recipe: Recipe
    report: dict[str, Any]


class Difference(NamedTuple):
    """Mean of a candidate's losses less the best one's, and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def difference(losses: Floats, best: Floats) -> Difference:
    """Of paired losses in time order; with fewer than two events a block nothing is known: ±1."""
    apart = losses - best
    mean = float(apart.mean())
    if len(apart) < 2 * BLOCKS:
        return Difference(mean, -1.0, 1.0)
    means = np.array([part.mean() for part in np.array_split(apart, BLOCKS)])
    half = T * float(means.std(ddof=1)) / math.sqrt(BLOCKS)
    return Difference(mean, mean - half, mean + half)


@dataclass(slots=True)
class _Entrant:
    candidate: Candidate
    batch: bool = False
    serves: str = ""  # of a batch estimator: "residual" or "refresh"
    losses: Floats = field(default_factory=lambda: np.empty(0))
    frozen: Floats = field(default_factory=lambda: np.empty(0))
    residual: Floats = field(default_factory=lambda: np.empty(0))
    apart: Difference | None = None
    rungs: int = 0
    fitted: int = 0
    seconds: float = 0.0  # of the last rung
    spent: float = 0.0  # of all
    size: int = 0
    dropped: str = ""

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    @property
    def near(self) -> bool:
        """Whether it is not clearly worse than the best one of its last rung."""
        return self.apart is not None and self.apart.low <= 0.0

    def take(self, scored: Scored, serving: str) -> None:
        self.rungs += 1
        self.fitted, self.seconds, self.size = scored.fitted, scored.seconds, scored.size
        self.spent += scored.seconds
        self.losses = self.frozen = np.frombuffer(scored.losses)
        self.batch = bool(scored.residual)
        if self.batch:
            self.residual = np.frombuffer(scored.residual)
            better = "residual" if self.residual.mean() < self.frozen.mean() else "refresh"
            self.serves = better if serving == "auto" else serving
            self.losses = self.residual if self.serves == "residual" else self.frozen

    def told(self) -> dict[str, Any]:
        known: dict[str, Any] = {"loss": None, "difference": None}
        if self.rungs:
            apart = None if self.apart is None else list(self.apart)
            known = {"loss": self.loss, "difference": apart}
        return {
            "name": self.candidate.name, "pipeline": self.candidate.pipeline, "params": self.candidate.params, **known,
            "rungs": self.rungs, "fitted": self.fitted, "seconds": self.spent, "bytes": self.size,
            "online": not self.batch if self.rungs else None, "serves": self.serves, "dropped": self.dropped,
        }  # fmt: skip


class Search:
    """A search under way; polling `done` moves it on. Its methods are those of a job; the result is `Found`.

    `submit` hands a `ScoreSpec` to the executor, with the limits of one candidate: `retrain.time_limit_s` shared out among all,
    `retrain.memory_limit_mb` for each. `spec` is the fit of the shard whose window is read; `champion` what serves.
    """

    def __init__(self, submit: Submit, spec: FitSpec, champion: Recipe | None = None) -> None:
        self._submit, self._spec = submit, spec
        self._settings = ModelSettings.model_validate(spec.settings)
        self._entrants = [_Entrant(one) for one in candidates(self._settings, champion)]
        search = self._settings.retrain.search
        self._keep, self._serving = search.keep, search.batch_only
        self._parts = [search.keep ** (search.rungs - 1 - rung) for rung in range(search.rungs)]
        self._left = list(self._entrants)
        self._waiting = list(self._left)
        self._running: list[tuple[_Entrant, Scoring]] = []
        self._rungs: list[dict[str, Any]] = []
        self._last: Scored | None = None
        self._finished = 0
        self._found: Found | None = None
        self._error: RetrainError | None = None

    def progress(self) -> tuple[int, int]:
        """Records read, and to be read: each candidate of each rung reads the window."""
        planned, count = 0, len(self._entrants)
        for _ in self._parts:
            planned += count
            count = self._kept(count)
        window = self._spec.until - self._spec.start
        return self._finished * window, max(planned, self._finished) * window

    def cancel(self) -> None:
        """Let it end without a result."""
        if self._found is None and self._error is None:
            self._end(RetrainError("cancelled", "cancelled"))

    def done(self) -> bool:
        """Whether `result` would not wait; takes in what has ended, and begins what may."""
        if self._found is None and self._error is None:
            try:
                self._advance()
            except RetrainError as error:
                self._end(error)
        return self._found is not None or self._error is not None

    def result(self) -> Found:
        """What was found; waits for it. Raises RetrainError: "empty" for too few labelled events, "failed" with each
        candidate's reason when none is left, "cancelled"."""
        while not self.done():
            time.sleep(POLL_S)
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def _end(self, error: RetrainError) -> None:
        self._error = error
        for _, job in self._running:
            job.cancel()
        self._running, self._waiting = [], []

    def _advance(self) -> None:
        still: list[tuple[_Entrant, Scoring]] = []
        for entrant, job in self._running:
            if job.done():
                self._finished += 1
                self._take(entrant, job)
            else:
                still.append((entrant, job))
        self._running = still
        while self._waiting and len(self._running) < OUTSTANDING:
            entrant = self._waiting.pop(0)
            retrain = self._settings.retrain
            limit_s = retrain.time_limit_s / len(self._entrants)
            self._running.append((entrant, self._submit(self._job(entrant), limit_s, retrain.memory_limit_mb)))
        if not self._running and not self._waiting:
            self._close_rung()

    def _job(self, entrant: _Entrant) -> ScoreSpec:
        spec = self._spec
        return ScoreSpec(
            spec.model, spec.stream, spec.partition, spec.start, spec.until, list(spec.skip),
            {**spec.settings, **entrant.candidate.recipe}, spec.stream_settings, spec.limits, self._parts[len(self._rungs)],
            dict(spec.types),
        )  # fmt: skip

    def _take(self, entrant: _Entrant, job: Scoring) -> None:
        try:
            scored = msgspec.msgpack.decode(job.result(), type=Scored)
        except RetrainError as error:
            if error.reason == "empty":
                raise
            entrant.dropped = f"{error.reason}: {error.detail}"
            return
        last = self._last
        if last is not None and (last.kept, last.training) != (scored.kept, scored.training):
            entrant.dropped = f"it was shown {scored.kept} events of the window, others {last.kept}: the log was trimmed"
            return
        self._last = scored
        entrant.take(scored, self._serving)

    def _kept(self, count: int) -> int:
        return max(1, math.ceil(self._keep * count))

    def _close_rung(self) -> None:
        left = sorted((one for one in self._left if not one.dropped), key=lambda one: one.loss)
        if not left:
            names: dict[str, list[str]] = {}
            for one in self._entrants:
                names.setdefault(one.dropped, []).append(one.candidate.name)
            reasons = "; ".join(f"{', '.join(of)}: {dropped}" for dropped, of in names.items())
            raise RetrainError("failed", f"no candidate is left: {reasons}")
        best, last = left[0], self._last
        assert last is not None
        for one in left:
            one.apart = difference(one.losses, best.losses)
        self._rungs.append(
            {"candidates": len(self._left), "fitted": best.fitted, "seconds": sum(one.seconds for one in left)}
        )
        rung = self._next_rung(last)
        if rung is None:
            self._found = self._choose(left)
            return
        kept = self._kept(len(left))
        stay = left[:kept]
        if len(self._rungs) == 1:
            stay += [one for one in left[kept:] if one.near][:kept]
        stay += [one for one in left if one is self._entrants[0] and one.near and not one.batch and one not in stay]
        if all(one.batch for one in stay):
            stay += [one for one in left if one.near and not one.batch][:1]
        for one in left:
            if one not in stay:
                one.dropped = f"not among the best {len(stay)} of {len(left)} when fitted to {one.fitted:,} events"
        del self._parts[len(self._rungs) : rung if len(stay) > 1 else len(self._parts) - 1]
        self._left = stay
        self._waiting = list(stay)

    def _next_rung(self, last: Scored) -> int | None:
        """The next rung that gives more events than the one that has ended: a short window makes some of them alike."""
        least = self._settings.retrain.min_events
        for rung in range(len(self._rungs), len(self._parts)):
            if part_of(last.training, self._parts[rung], least) > last.fitted:
                return rung
        return None

    def _choose(self, left: Sequence[_Entrant]) -> Found:
        best = left[0]
        ties = [one for one in left if one.near]
        online = [one for one in ties if not one.batch]
        serving = [one for one in online if one is self._entrants[0]]
        field_ = serving or online or ties
        winner = field_[0]
        cheap = [one for one in field_ if one.seconds < winner.seconds / 2 and winner.seconds - one.seconds > SPARED]
        if cheap:
            winner = min(cheap, key=lambda one: one.seconds)
        why = f"the lowest mean loss, {winner.loss:.4f}, of {len(self._entrants)} candidates"
        if winner is not best and winner.apart is not None:
            words = (("learns online", best.batch), ("serves now", winner in serving), ("costs less", winner in cheap))
            virtues = [word for word, has in words if has]
            why = (
                f"its mean loss, {winner.loss:.4f}, cannot be told from the lowest, {best.loss:.4f} of {best.candidate.name} "
                f"(difference {winner.apart.low:+.4f} to {winner.apart.high:+.4f}), and it {' and '.join(virtues)}"
            )
        for one in left:
            if one is not winner:
                one.dropped = "reached the last rung, and did not win"
        recipe = winner.candidate.recipe
        if winner.batch:
            recipe = {**recipe, "params": {**recipe["params"], SERVING: winner.serves == "residual"}}
        last = self._last
        assert last is not None
        report = {
            "shard": self._spec.shard, "labelled": last.labelled, "kept": last.kept, "training": last.training,
            "scored": last.kept - last.training, "rungs": self._rungs, "candidates": [one.told() for one in self._entrants],
            "winner": winner.candidate.name, "why": why, "batch": self._served(winner) if winner.batch else None,
        }  # fmt: skip
        return Found(recipe, report)

    def _served(self, winner: _Entrant) -> dict[str, Any]:
        """How a winner that cannot learn online will serve, and why."""
        apart = difference(winner.residual, winner.frozen)
        numbers = (
            f"mean loss {winner.residual.mean():.4f} under an online model, {winner.frozen.mean():.4f} frozen "
            f"(difference {apart.low:+.4f} to {apart.high:+.4f})"
        )
        why = numbers if self._serving == "auto" else f'retrain.search.batch_only is "{self._serving}"; {numbers}'
        if winner.serves == "refresh":
            why += "; it serves as it is until the next retrain, so give the model a schedule (a cron policy)"
        return {"serves": winner.serves, "why": why, "difference": list(apart)}
