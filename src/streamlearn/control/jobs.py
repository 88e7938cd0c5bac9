"""The fits that the machines want, kept running: one per shard, none twice, none that is no longer wanted. Where the strategy
is to search, the recipe is searched for first, on one shard, and every shard is then fitted with what was found.

A fit lives only in this process: after a restart it is begun again, under the same number. What it made is stored before
its outcome is told, so the decision that follows never names a version that is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ..errors import CodecError, RetrainError
from ..keys import KeyRing
from ..lineage import Recipe
from ..retrain.job import FitSpec
from ..retrain.scoring import ScoreSpec
from ..retrain.search import Found, Search
from ..store import Store
from ..store.codec import open_blob
from ..store.links import lacking, names_of
from .facts import of_blob
from .hindsight import Asking, Question
from .state import Case, Phase, State
from .world import Outcome

logger = logging.getLogger("streamlearn.control")


class Job(Question, Protocol):
    """A fit under way, of one shard; its result is the version's blob."""

    def progress(self) -> tuple[int, int]:
        """Records read, and records to read."""


class Jobs(Asking, Protocol):
    """Where fits and questions run: `retrain.job.Jobs`, or what a test puts in its place."""

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> Job:
        """Begin a fit. Raises RetrainError."""

    def score(self, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> Question:
        """Begin to score a candidate of a search. Raises RetrainError."""


@dataclass(slots=True)
class _Run:
    case: str
    number: int
    version: int
    jobs: dict[int, Job]
    trained_to: dict[int, int] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    outcome: Outcome | None = None
    search: Search | None = None
    found: Found | None = None

    def failed(self, error: RetrainError) -> None:
        self.outcome = Outcome(self.case, self.number, {}, error.reason, error.detail)
        self.cancel()

    def cancel(self) -> None:
        if self.search is not None:
            self.search.cancel()
        for job in self.jobs.values():
            job.cancel()


class Fits:
    """The running fits by model. `identity` gives a stream's: a version fitted from another log is not taken."""

    def __init__(self, jobs: Jobs, store: Store, keys: KeyRing, identity: Callable[[str], str]) -> None:
        self._jobs, self._store, self._keys, self._identity = jobs, store, keys, identity
        self._runs: dict[str, _Run] = {}

    def outcome(self, model: str) -> Outcome | None:
        """How the model's fit ended, None while it runs."""
        run = self._runs.get(model)
        return None if run is None else run.outcome

    def progress(self, model: str) -> tuple[int, int] | None:
        """Records read and to be read, over all shards or by a search; None when nothing is being fitted."""
        run = self._runs.get(model)
        if run is None:
            return None
        if run.search is not None and run.found is None:
            return run.search.progress()
        each = [job.progress() for job in run.jobs.values()]
        return sum(done for done, _ in each), sum(total for _, total in each)

    def tend(self, state: State) -> bool:
        """Begin, follow or cancel the model's fit, as its state wants. True when it has just ended. Raises StoreError."""
        case, run, settings = state.case, self._runs.get(state.name), state.settings
        wanted = state.phase == Phase.RETRAINING
        wanted = wanted and case is not None and settings is not None
        if run is not None and (not wanted or case is None or (run.case, run.number) != (case.id, case.run)):
            run.cancel()
            if run.outcome is None:
                self._forget(state.name, run)
            del self._runs[state.name]
            run = None
        if not wanted or case is None or settings is None:
            return False
        if run is None:
            run = self._begin(state, case)
        if run.outcome is None:
            if run.search is not None and run.found is None:
                self._searched(state, case, run)
            else:
                self._follow(state.name, settings.stream, run)
            return run.outcome is not None
        return False

    def close(self) -> None:
        """Cancel everything."""
        for run in self._runs.values():
            run.cancel()
        self._runs.clear()

    def _begin(self, state: State, case: Case) -> _Run:
        run = self._runs[state.name] = _Run(case.id, case.run, case.version or 0, {})
        if case.to_search:
            spec = _spec(case, _shown(state, case))
            run.search = Search(self._jobs.score, spec, state.recipes.get(state.version))
        else:
            self._submit(state, case, run, None)
        what = "search begun" if case.to_search else "fit begun"
        about = {"model": state.name, "version": case.version, "case": case.id, "run": case.run}
        logger.info(what, extra=about)
        return run

    def _searched(self, state: State, case: Case, run: _Run) -> None:
        """Move the search on; when it has found a recipe, fit every shard with it."""
        assert run.search is not None
        if not run.search.done():
            return
        try:
            run.found = run.search.result()
        except RetrainError as error:
            run.failed(error)
            return
        about = {"model": state.name, "version": case.version, "case": case.id, "winner": run.found.report["winner"]}
        logger.info("search ended", extra=about)
        self._submit(state, case, run, run.found.recipe)

    def _submit(self, state: State, case: Case, run: _Run, recipe: Recipe | None) -> None:
        assert state.settings is not None
        retrain = state.settings.retrain
        try:
            for shard in state.shards:
                spec = _spec(case, shard, recipe)
                run.jobs[shard] = self._jobs.submit(spec, retrain.time_limit_s, retrain.memory_limit_mb)
        except RetrainError as error:
            run.failed(error)

    def _follow(self, model: str, stream: str, run: _Run) -> None:
        for shard, job in run.jobs.items():
            if shard in run.trained_to or not job.done():
                continue
            try:
                blob = job.result()
                sealed = open_blob(
                    blob, self._keys, kind="version", model=model, shard=shard, log=self._identity(stream), version=run.version
                )
                lacks = lacking(self._store, model, run.version, shard, sealed.header.extra)
                if lacks:
                    raise RetrainError("failed", f"{lacks}: the worker that fitted it must write into the same store")
            except RetrainError as error:
                self._forget(model, run)
                run.failed(error)
                return
            except CodecError as error:
                self._forget(model, run)
                run.failed(RetrainError("failed", f"the fit returned bytes that cannot be used: {error}"))
                return
            self._store.put_version(model, run.version, shard, blob, names_of(sealed.header.extra))
            run.trained_to[shard] = next(at.offset for at in sealed.header.positions if at.partition == shard)
            run.facts[shard] = of_blob(sealed.header, blob)
        if len(run.trained_to) == len(run.jobs):
            found = None if run.found is None else run.found._asdict()
            run.outcome = Outcome(run.case, run.number, dict(run.trained_to), facts=dict(run.facts), search=found)

    def _forget(self, model: str, run: _Run) -> None:
        """Of a fit that did not end well, nothing is kept: neither other shards' versions nor pieces of its own."""
        self._store.drop_version(model, run.version)


def _spec(case: Case, shard: int, recipe: Recipe | None = None) -> FitSpec:
    """The fit of one shard, with another recipe where one is given."""
    spec = msgspec.convert(case.spec(shard), FitSpec)
    return msgspec.structs.replace(spec, seed=recipe["seed"], settings={**spec.settings, **recipe}) if recipe else spec


def _shown(state: State, case: Case) -> int:
    """The shard that candidates are shown: the one that saw the drift, else the one with the longest window."""
    if case.kind == "drift":
        return case.shard
    return max(state.shards, key=lambda shard: (case.until[shard] - case.starts[shard], -shard))
