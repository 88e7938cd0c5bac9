"""What retrain policies cost on a ledger, with the drifts that the service would have confirmed.

The first share of the batches is the calibration stretch: parameters are found there. All policies are then costed on the rest,
served at first by the model that was made at the stretch's end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..config import DriftSettings
from ..config_retrain import PolicySettings
from ..drift import offline
from ..drift.watch import needed
from ..errors import ConfigError, ModelError
from ..retrain import policies, simulate
from ..retrain.ledger import Ledger
from ..retrain.policy import Confirmed, Past, Policy, Tunable
from ..retrain.upf import Upf

LEAST_STRETCH: Final = 4  # batches of a calibration
ORACLE: Final = "oracle"
TOGETHER: Final = "all that are configured"
UPF: Final = "upf"
DEBT: Final = PolicySettings(name="debt")
TIMED: Final = ("cron", UPF)  # what goes by the clock


class Gate:
    """Which drift of model i was confirmed in batch j: what `simulate.replay` asks for gated policies.

    The service's own watch and test, over the losses since the model was made. The model as it was before a change is not
    asked, since a drift that it alone has felt is not retrained for. Only detectors on the loss are played.
    """

    def __init__(self, ledger: Ledger, drift: DriftSettings, seed: int = 0) -> None:
        self._ledger, self._seed = ledger, seed
        self._drift = on_loss(drift)
        self._found: dict[int, dict[int, Confirmed]] = {}

    def __call__(self, i: int, j: int) -> Confirmed | None:
        """The newest drift of model i that was confirmed in batch j."""
        if i not in self._found:
            self._found[i] = self._confirmed(i)
        return self._found[i].get(j)

    def _confirmed(self, i: int) -> dict[int, Confirmed]:
        losses, ends = self._ledger.losses[i], [cut - self._ledger.cuts[i + 1] for cut in self._ledger.cuts[i + 2 :]]
        shown = [offline.Shown(offline.LOSS, float(loss), n, n + 1) for n, loss in enumerate(losses)]
        tape = offline.Tape(self._ledger.kind, len(losses), shown)
        found: dict[int, Confirmed] = {}
        begin = 0
        for case in offline.cases(tape, self._drift, self._seed):
            if not case.confirmed:
                continue
            change, batch = case.change_n - 1, bisect_left(ends, case.end_n)
            last = max(begin + 1, change - self._drift.gap)
            before = losses[max(begin, last - self._drift.max_reference) : last]
            fresh = losses[change : ends[batch]]
            found[i + 1 + batch] = Confirmed(float(before.mean()), float(fresh.mean()), len(fresh))
            begin = change
        return found


def on_loss(drift: DriftSettings) -> DriftSettings:
    """The settings with their detectors on the loss alone; the default ones where there are none."""
    kept = tuple(detector for detector in drift.detectors if detector.on == "loss")
    if len(kept) == len(drift.detectors):
        return drift
    if not kept:
        return drift.model_copy(update={"detectors": DriftSettings().detectors, "quorum": "any"})
    return drift.model_copy(update={"detectors": kept, "quorum": min(needed(drift), len(kept))})


class Result(NamedTuple):
    """What was asked at one κ: its title, the policies as a configuration holds them (none: the oracle), what they cost on the
    rest of the stream, their retrains (batches), and the lost events that are part of the cost."""

    name: str
    policies: tuple[PolicySettings, ...]
    cost: float
    retrains: list[int]
    lost: float


class Compared(NamedTuple):
    """Everything at one κ: the oracle at the head, then the cheapest first; and why those that are missing could not run."""

    kappa: float
    results: list[Result]
    missing: dict[str, str]

    @property
    def oracle(self) -> Result:
        """The least that any retrains would have cost."""
        return self.results[0]

    def over(self, result: Result) -> float:
        """Its cost in units of the oracle's; 1 where nothing was lost."""
        return result.cost / self.oracle.cost if self.oracle.cost > 0 else 1.0

    def named(self, name: str) -> Result | None:
        """The result of this title."""
        return next((one for one in self.results if one.name == name), None)


# What is compared beside the configured ones; those that can be tuned are.
BESIDE: Final[Mapping[str, tuple[PolicySettings, ...]]] = {
    "never": (PolicySettings(name="never"),),
    "always": (PolicySettings(name="always"),),
    "periodic": (PolicySettings(name="periodic", params={"every": 1}),),
    "debt": (DEBT,),
    "debt without the gate": (PolicySettings(name="debt", params={"gate": False}),),
    "debt, or twice unconfirmed": (DEBT, PolicySettings(name="debt", params={"gate": False, "times": 2})),
    "cara_t": (PolicySettings(name="cara_t"),),
    "cara_ct": (PolicySettings(name="cara_ct"),),
    "cara_p": (PolicySettings(name="cara_p", params={"phi": 1}),),
    UPF: (PolicySettings(name=UPF),),
}


def head(past: Past, count: int) -> Past:
    """The first `count` batches, and the models made in them."""
    square = (slice(count), slice(count))
    n, at, reference = past.n[:count], past.at[:count], past.reference[:count]
    return Past(n, at, past.loss[square], past.psi[square], past.shift[square], reference, past.extra)


def compare(
    ledger: Ledger, gate: Gate, configured: Mapping[str, PolicySettings], kappa: float, stretch: int, seed: int = 0
) -> Compared:
    """Cost all policies at this κ: those of the configuration as they are, the others tuned on the first `stretch` batches.

    Raises ConfigError for one of the configuration that cannot be built.
    """
    past, calibration = ledger.past, head(ledger.past, stretch)
    best = simulate.oracle(past, kappa, stretch - 1)
    found = [Result(ORACLE, (), best.cost, best.retrains, best.cost - kappa * len(best.retrains))]
    missing: dict[str, str] = {}
    given: dict[str, tuple[PolicySettings, ...]] = {title: (settings,) for title, settings in configured.items()}
    if len(given) > 1:
        given[TOGETHER] = tuple(configured.values())
    beside = {title: several for title, several in BESIDE.items() if several not in given.values()}
    for title, several in (beside | given).items():
        try:
            if past.at[-1] <= past.at[0] and any(one.name in TIMED for one in several):
                raise ModelError("the events have no times of their own; name their column with --ts")
            if title in given:
                asked = [policies.build(one) for one in several]
            else:
                asked = [_tuned(one, calibration, kappa) for one in several]
                several = tuple(_settings(one, policy) for one, policy in zip(several, asked, strict=True))
        except ModelError as error:
            missing[title] = str(error)
            continue
        done = simulate.replay(asked, past, kappa, stretch - 1, seed, gate)
        found.append(Result(title, several, done.cost, done.retrains, float(done.losses.sum())))
    return Compared(kappa, [found[0], *sorted(found[1:], key=lambda one: one.cost)], missing)


def _settings(settings: PolicySettings, policy: Policy) -> PolicySettings:
    """The settings as they were tuned."""
    return PolicySettings(name=settings.name, params=policy.params()) if isinstance(policy, Tunable) else settings


def _tuned(settings: PolicySettings, past: Past, kappa: float) -> Policy:
    """The policy as it would have cost least on this past, where it can be tuned. Raises ModelError."""
    made = policies.tuned(settings.name, past, kappa) or policies.build(settings)
    if isinstance(made, Upf) and made.growth <= 0:
        raise ModelError("no model lost more as it grew older on the batches to tune on: without drift it never retrains")
    return made


def stretch(batches: int, share: float) -> int:
    """How many batches are the calibration stretch. Raises ConfigError where too few are left, of it or of the rest."""
    count = round(share * batches)
    if count < LEAST_STRETCH or batches - count < LEAST_STRETCH:
        problem = f"{share:g} of {batches} batches leaves {count} to tune on and {batches - count} to compare on"
        raise ConfigError("--tune", problem, f"Leave {LEAST_STRETCH} to each: take smaller batches, or more events")
    return count
