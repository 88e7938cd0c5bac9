"""What control knows of one model: plain values that only `fold` changes, and nothing that cannot be rebuilt from the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..config import ModelSettings
from ..lineage import Recipe
from ..log.ranges import Range
from ..records import Command, Request, Signal
from ..retrain.canary import Canary
from ..retrain.policy import Batch, Confirmed
from ..retrain.reversal import Reversal
from ..retrain.sums import NONE, Sums, merge
from ..retrain.trial import Trial
from .course import Course
from .growth import Growth


class Phase(StrEnum):
    """Where the story of a model stands. Every phase but the first has an open case, or a rollback under way."""

    STEADY = "steady"
    CONFIRM = "confirm"  # an alarm opened a case; its fresh window has not come
    CONFIRMED = "confirmed"  # a retrain is due, at once or after a backoff
    RETRAINING = "retraining"
    FITTED = "fitted"  # the new version is stored; it may have fallen too far behind to be tried
    TRIAL = "trial"
    CANARY = "canary"  # the challenger answers for a share of the keys
    PROMOTING = "promoting"
    RECOVERING = "recovering"
    CLOSING = "closing"  # the shadow is being let go, then the detectors are reset
    ROLLING_BACK = "rolling_back"


@dataclass(slots=True)
class Alarm:
    """A shard's newest alarm that no reset has answered, and the looks at its fresh window that came."""

    log_offset: int  # of the signal, in `_signals`
    signal: Signal
    windows: list[dict[str, Any]] = field(default_factory=list)
    until: int = 0  # the position in the partition up to which the newest look has read


@dataclass(slots=True)
class Order:
    """A command on its way: one record to each of `shards`, with the control-log offset of its decision as `seq`."""

    seq: int
    arguments: dict[str, Any]
    shards: tuple[int, ...]
    answers: dict[int, str] = field(default_factory=dict)  # by shard: "" when applied, else why it was refused
    at: dict[int, int] = field(default_factory=dict)  # by shard: the position in its partition at which it answered
    knew: dict[int, dict[str, Any]] = field(default_factory=dict)  # by shard: the features of the champion that it let go

    @property
    def verb(self) -> str:
        """What is asked, see `records.Command`."""
        return str(self.arguments["verb"])

    @property
    def waiting(self) -> list[int]:
        """The shards that have not answered."""
        return [shard for shard in self.shards if shard not in self.answers]

    @property
    def applied(self) -> list[int]:
        """The shards that did it."""
        return [shard for shard in self.shards if self.answers.get(shard) == ""]

    @property
    def refused(self) -> dict[int, str]:
        """The shards that would not, and why."""
        return {shard: why for shard, why in self.answers.items() if why}


@dataclass(slots=True)
class Blocks:
    """Paired block losses by number and shard, waiting until every shard has reported the same number."""

    shards: int
    next: int = 0
    events: int = 0  # in all reports, whether merged or not
    waiting: dict[int, dict[int, tuple[int, float, float, Sums]]] = field(default_factory=dict)

    def add(
        self, number: int, shard: int, n: int, champion: float, challenger: float, sums: Sums = NONE
    ) -> list[tuple[int, float, float, Sums]]:
        """The merged blocks (events, champion's loss sum, challenger's, other sums) that this report completes, in order."""
        if number < self.next or shard in self.waiting.setdefault(number, {}):
            return []
        self.waiting[number][shard] = (n, champion, challenger, sums)
        self.events += n
        merged = []
        while len(self.waiting.get(self.next, ())) == self.shards:
            parts = [part for _, part in sorted(self.waiting.pop(self.next).items())]
            losses = sum(part[0] for part in parts), sum(part[1] for part in parts), sum(part[2] for part in parts)
            merged.append((*losses, merge(part[3] for part in parts)))
            self.next += 1
        return merged


@dataclass(slots=True)
class Guard:
    """The old champion in the shadow against the version promoted over it, on paired losses since the promote command `seq`.

    What its `test` proves is that the old champion is better.
    """

    seq: int
    test: Reversal
    blocks: Blocks

    def take(self, shard: int, data: dict[str, Any], counts: bool) -> None:
        """The data of a "block" signal; those of another trial are left out. What does not count is numbered on."""
        if data["trial"] == self.seq:
            for n, new, old, _ in self.blocks.add(data["block"], shard, data["n"], data["champion"], data["challenger"]):
                if n and counts:
                    self.test.add_block(n, new, old)


@dataclass(slots=True)
class Case:
    """One story, from an alarm, a request, a policy or a change of the file or the features to its end. `kind` is "drift",
    "manual", "policy", "changed" (the file), "contract" (the features), "rewind" or "restore".

    `confirmed`: the drift about which the policies are asked, `batches` what came after it; `kept` once they have kept the
    model; `evidence`: the policy that opened the case has seen losses. `alarms`: the first others that came while it was open,
    of `alarms_in_all`, for people. Of the last two kinds, whose end a person has decided: `to` is where a rewind goes back to
    and `skip` what it passes over, by shard, `base` the version that a restore goes on from. `bases` and
    `skips` are those of the fit under way.
    """

    id: str
    kind: str
    opened_at: float
    shard: int = -1
    change_offset: int = 0
    alarm_n: int = 0
    change_n: int = 0
    reference: dict[str, Any] | None = None
    version: int | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    until: dict[int, int] = field(default_factory=dict)
    trained_to: dict[int, int] = field(default_factory=dict)
    run: int = 0
    attempt: int = 0
    catch_ups: int = 0
    empties: int = 0  # fits that found too few events
    not_before: float = 0.0
    trial: Trial | None = None
    growth: Growth = field(default_factory=Growth)
    trial_seq: int = -1
    blocks: Blocks = field(default_factory=lambda: Blocks(1))
    rehearsals: dict[int, list[tuple[int, float, float]]] = field(default_factory=dict)  # by shard, see `records.Signal`
    shadow_failed: str = ""
    champion: list[tuple[int, float]] = field(default_factory=list)  # (events, loss) of its shard's last blocks in the trial
    champion_events: int = 0
    canary: Canary | None = None
    canary_at: float = 0.0  # when its present step began
    then: list[dict[str, Any]] = field(default_factory=list)
    promoted_n: int = 0
    to: dict[int, int] = field(default_factory=dict)
    skip: dict[int, list[Range]] = field(default_factory=dict)
    base: int = 0
    bases: dict[int, dict[str, Any]] = field(default_factory=dict)
    skips: dict[int, list[Range]] = field(default_factory=dict)
    searched: dict[str, Any] = field(default_factory=dict)  # the recipe that a search found
    diagnosis: dict[str, Any] | None = None
    confirmed: Confirmed | None = None
    confirmed_n: int = 0  # labelled events of its shard that are in `confirmed`, or came before the change
    batches: list[Batch] = field(default_factory=list)
    kept: bool = False
    evidence: bool = False
    changes: list[dict[str, str]] = field(default_factory=list)  # of the features, see `contract`
    alarms: list[dict[str, Any]] = field(default_factory=list)
    alarms_in_all: int = 0

    @property
    def decided(self) -> bool:
        """Whether a person has decided that the new version serves, without a trial."""
        return self.kind in ("rewind", "restore")

    def rehearse(self, shard: int, blocks: list[tuple[int, float, float]]) -> None:
        """Take a shard's blocks from before the trial; once all have told, the trial learns from the newest that all have."""
        self.rehearsals[shard] = blocks
        if self.trial is not None and len(self.rehearsals) == self.blocks.shards:
            common = min(len(told) for told in self.rehearsals.values())
            each = [told[len(told) - common :] for _, told in sorted(self.rehearsals.items())]
            self.trial.rehearse([_total(parts) for parts in zip(*each, strict=True)])

    def add_champion(self, n: int, loss: float, window: int) -> None:
        """Take a block of the champion's in the shard that saw the drift, and keep the last that hold `window` events."""
        if not n:
            return
        self.champion.append((n, loss))
        self.champion_events += n
        while self.champion_events - self.champion[0][0] >= window:
            self.champion_events -= self.champion[0][0]
            del self.champion[0]

    def champion_window(self) -> dict[str, Any]:
        """The champion's last losses in that shard, as `drift.confirm` takes a window."""
        blocks = [loss / n for n, loss in self.champion]
        return {"n": self.champion_events, "sum": sum(loss for _, loss in self.champion), "blocks": blocks}

    def spec(self, shard: int) -> dict[str, Any]:
        """The fields of the FitSpec of one shard; once it was fitted, those that make the very same version again."""
        start, until, stop = self.starts[shard], self.until[shard], self.trained_to.get(shard)
        spec = {**self.fit, "shard": shard, "partition": shard, "start": start, "until": until, "stop": stop}
        if shard in self.bases:
            spec["base"] = {name: self.bases[shard][name] for name in ("kind", "id")}
        return {**spec, "skip": self.skips[shard]} if self.skips.get(shard) else spec

    @property
    def to_search(self) -> bool:
        """Whether the recipe of the fit under way is to be searched for: not again once it was found, nor for a base."""
        how = self.fit["settings"].get("retrain", {}).get("strategy", {}).get("how")
        return how == "search" and not self.searched and not self.bases

    def go_on_with_canary(self, seq: int, numbers: dict[str, Any]) -> None:
        """The canary's next step, or its first, begins with the command `seq`."""
        assert self.trial is not None
        if self.canary is None:
            trial, at = self.trial, self.blocks.events
            of = numbers["shares"], numbers["salt"], trial.alpha, trial.tolerance
            self.canary = Canary(*of, at, trial.length, self.blocks.shards)
        self.canary.next(seq)


def _total(parts: Sequence[tuple[int, float, float]]) -> tuple[int, float, float]:
    return sum(part[0] for part in parts), sum(part[1] for part in parts), sum(part[2] for part in parts)


@dataclass(slots=True)
class State:
    """One model, as its records and signals have it. `n` and `seen` are by shard; offsets are positions in streams."""

    name: str
    settings: ModelSettings | None  # None: its records are in the log, but the configuration no longer knows it
    partitions: int = 1
    phase: Phase = Phase.STEADY
    since: float = 0.0
    registered: bool = False
    version: int = 0
    previous: int | None = None
    shadow: int | None = None
    watch_from: int | None = None  # labelled count from which the old champion stands in the shadow
    last_version: int = 0
    cases: int = 0
    case: Case | None = None
    input_since: float = 0.0  # when the features began to be those that they are compared with
    broken: dict[str, Any] | None = None  # what a diagnosis found in the input, until it has healed or a person accepts it
    drifted: dict[str, float] = field(default_factory=dict)  # features that were told to have drifted, by when
    contract: set[tuple[str, str, str]] = field(default_factory=set)  # changes of features that had their case
    accepted: dict[str, Any] | None = None  # changes of features that a person accepted, and that wait for their case
    types: dict[str, str] = field(default_factory=dict)  # what features are known to be since their case
    unsettled: bool = False  # the detectors have seen losses of broken input
    story: str = ""  # the case whose promotion is the last one
    last_starts: dict[int, int] = field(default_factory=dict)
    drift_cases: list[int] = field(default_factory=list)  # labelled counts of those opened since the last confirmed change
    trials: list[float] = field(default_factory=list)  # when each trial since the last promotion began
    reference: tuple[int, dict[str, Any]] | None = None  # (shard, window) from before the drift that is not recovered
    degraded: str | None = None
    held: str | None = None
    held_at: int = -1  # the control-log offset of the decision that says so
    held_by_learner: str | None = None
    silenced_until: float | None = None  # nobody is notified of the model before then
    held_doubts: dict[int, str] = field(default_factory=dict)  # by shard: it held itself, but a swap on its way may end that
    alarms: dict[int, Alarm] = field(default_factory=dict)
    course: Course = field(default_factory=Course)
    recoveries: dict[int, dict[str, Any]] = field(default_factory=dict)
    shadow_lost: str = ""
    guard: Guard | None = None
    arms: dict[str, Any] | None = None  # a recommender's two arms as they were told last: version, share, salt; see `split`
    orders: dict[int, Order] = field(default_factory=dict)
    order: int = -1  # the seq that the present phase waits for
    asked: dict[int, Request] = field(default_factory=dict)
    rolling_back_for: int = -1  # the request behind the rollback under way
    request_ids: set[str] = field(default_factory=set)
    n: dict[int, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    offset: int = 0
    holding: dict[int, int] = field(default_factory=dict)  # by shard, the offset at which it was held, while it is
    to_skip: list[tuple[int, int, int]] = field(default_factory=list)  # (shard, from, to) held, not yet in the control log
    skipped: dict[int, list[Range]] = field(default_factory=dict)  # by shard, what no fit may learn
    fitted: dict[int, dict[int, int]] = field(default_factory=dict)  # versions fitted and not dropped, and to where, by shard
    untried: set[int] = field(default_factory=set)  # versions that were imported, and that no trial has come of yet
    tried: dict[int, dict[int, int]] = field(default_factory=dict)  # by version and shard, where its last "try" was answered
    dropped: dict[int, float] = field(default_factory=dict)  # versions whose bytes went, and when that was decided
    recipes: dict[int, Recipe] = field(default_factory=dict)  # by version, what it was made with; 1 by the first claim
    claimed: dict[int, float] = field(default_factory=dict)  # by shard, when it was claimed first
    rebuilt: dict[int, int] = field(default_factory=dict)  # by shard, the generation of the rebuild that was answered last

    @property
    def shards(self) -> tuple[int, ...]:
        """Every shard of the model; a shard's number is its partition."""
        return tuple(range(self.partitions))

    @property
    def held_by_diagnosis(self) -> bool:
        """Whether what holds the model is broken input, so that healing may end it."""
        return self.held is not None and self.broken is not None

    @property
    def labelled(self) -> int:
        """Labelled events over all shards, as far as signals tell."""
        return sum(self.n.values())

    @property
    def trial_numbers(self) -> dict[str, Any]:
        """How the open case's trial stands, {} before it began."""
        if self.case is None or self.case.trial is None or self.settings is None:
            return {}
        numbers = self.case.trial.numbers(self.settings.trial.min_events)
        return numbers if self.case.canary is None else {**numbers, "canary": self.case.canary.numbers()}

    @property
    def canary(self) -> Canary | None:
        """The canary that is on."""
        on = self.case is not None and self.phase in (Phase.CANARY, Phase.PROMOTING)
        return self.case.canary if self.case is not None and on else None

    @property
    def split(self) -> dict[str, Any] | None:
        """Who answers beside the champion now: {version, share, salt}. A canary's challenger, the challenger in a recommender's
        trial, or the recommender that gave way, while it is kept to compare with; None when nobody does."""
        if self.canary is not None:
            return {"version": self.shadow, "share": self.canary.share, "salt": self.canary.salt}
        return self.arms if self.arms is not None and self.arms["version"] == self.shadow else None

    def pending(self, shard: int, *verbs: str) -> bool:
        """Whether an order of one of these verbs is on its way to the shard."""
        return any(order.verb in verbs and shard in order.waiting for order in self.orders.values())

    def commands(self, order: Order) -> list[tuple[int, Command]]:
        """(shard, command) for every shard that has not answered."""
        arguments = dict(order.arguments)
        specs = arguments.pop("specs", {})
        arguments.pop("shards", None)
        return [
            (shard, Command(seq=order.seq, model=self.name, **arguments, **_spec(specs, shard))) for shard in order.waiting
        ]


def _spec(specs: dict[str, Any], shard: int) -> dict[str, Any]:
    return {"spec": specs[str(shard)]} if specs else {}
