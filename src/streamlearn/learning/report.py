"""What a shard says of itself about once a second: its learner's state in numbers that people and dashboards read.

Nothing here decides anything, and nothing is kept but the last count, for the rate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..buckets import Buckets
from ..lineage import Backfill
from ..records import Status
from .arms import Arms
from .learner import Learner
from .measured import Measured
from .paired import PairedBlocks


class Pace:
    """Labelled events a second since it was last asked. `now` is by a monotonic timer."""

    def __init__(self, now: float, n: int) -> None:
        self._from = (now, n)

    def rate(self, now: float, n: int) -> float:
        """`n` is the labelled events so far."""
        then, before = self._from
        self._from = (now, n)
        return (n - before) / (now - then) if now > then else 0.0


def status(
    learner: Learner,
    *,
    generation: int,
    log: str,
    end: int,
    at: float,
    stopped: str | None,
    rate: float,
    ages: Collection[float],
    pauses: Mapping[str, float],
    checkpoint_at: float | None,
    backfill: Backfill | None = None,
    withheld: str = "",
    log_lost: float | None = None,
    measured: Measured | None = None,
    pauses_s: Mapping[str, Buckets] = {},
    failures: Mapping[str, int] = {},
) -> Status:
    """The status of a shard. `ages` are seconds from append to learned, `pauses` seconds that the loop did not learn.

    `log_lost` is seconds without the log, None while it can be read.
    """
    join, scores = learner.join, learner.view()
    fresh, delays, waits = sorted(ages), sorted(learner.delays), sorted(learner.waits)
    return Status(
        model=learner.name,
        shard=join.partition,
        generation=generation,
        version=learner.version,
        shadow=learner.shadow_version,
        position=learner.position,
        end=end,
        log=log,
        at=at,
        n=learner.n,
        clock=join.clock,
        held=stopped or learner.held,
        counters=dict(join.counters),
        pending=len(join.pending),
        early=len(join.early),
        scores=scores,
        shadow_scores=_paired(learner.blocks or learner.arms),
        delay={
            "p50": quantile(delays, 0.5), "p95": quantile(delays, 0.95),
            **{f"p{share}_s": quantile(waits, share / 100) for share in (50, 90, 99) if waits},
            **_of_clicks(scores.get("delay", {})),
        },
        rate=rate,
        freshness_ms={"p50": 1000 * quantile(fresh, 0.5), "p99": 1000 * quantile(fresh, 0.99)},
        pause_ms={name: 1000 * seconds for name, seconds in pauses.items()},
        checkpoint_at=checkpoint_at,
        outcomes={str(version): [row[0], row[1]] for version, row in learner.outcomes.items()},
        backfill=backfill,
        withheld=withheld,
        log_lost_s=log_lost,
        drift=learner.watch.statistics(),
        failures=dict(failures),
        pauses_s=dict(pauses_s),
        **({} if measured is None else _measured(measured, learner.position < end)),
    )


def _of_clicks(delay: Mapping[str, Any]) -> dict[str, float]:
    """The delays of a recommender are those of clicks: its answers wait for nothing."""
    return {name: value for name, value in delay.items() if name.startswith("p") and value is not None}


def _measured(measured: Measured, behind: bool) -> dict[str, Any]:
    return {
        "lag_s": measured.lag_s if behind else 0.0,
        "checkpoint_bytes": measured.checkpoint_bytes,
        "counted": measured.counted(),
        "learn_s": measured.learn_s,
        "fresh_s": measured.fresh_s,
    }


def quantile(ordered: list[float] | list[int], share: float) -> float:
    """The value below which about `share` of the ordered values lie; 0 without any."""
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0.0


def _paired(trial: PairedBlocks | Arms | None) -> dict[str, float]:
    """Mean losses of champion and challenger, on the same events or of as many users of either arm; {} without a trial."""
    if trial is None:
        return {}
    n = max(1, trial.n)
    return {"n": trial.n, "champion": trial.champion / n, "challenger": trial.challenger / n}
