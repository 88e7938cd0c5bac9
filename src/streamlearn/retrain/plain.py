"""The simple policies: a floor under the performance, so many labels, never, always, every so many batches."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from streamlearn.config_fields import Count, Share, Whole

from .builtin import Builtin, choice
from .policy import Choice, Past, Seen
from .simulate import cheapest

Periods = Annotated[int, Field(ge=1, strict=True)]
NEVER: Final = 1000  # as many times as long as a past, a period is as good as none


class Floor(Builtin):
    """Retrain when the mean loss over the last `events` labelled events is above `loss` (of classifiers 1 − accuracy).

    Of the oldest batch that reaches into them, the part that does counts, with the batch's mean.
    """

    name: ClassVar[str] = "floor"
    evidence: ClassVar[bool] = True

    loss: Share
    events: Count = 1000

    def decide(self, seen: Seen) -> Choice:
        """Keep until `events` have come since the last retrain."""
        left, lost = self.events, 0.0
        for batch in reversed(seen.batches):
            taken = min(left, batch.n)
            left, lost = left - taken, lost + taken * batch.loss
            if not left:
                break
        if left:
            why = f"only {self.events - left} of {self.events} labelled events have come since the last retrain"
            return choice(seen, False, 0.0, self.loss, why, events=self.events)
        mean = lost / self.events
        retrain = mean > self.loss
        why = f"mean loss {mean:.4f} over the last {self.events} labelled events, {_word(retrain)} {self.loss:g}"
        return choice(seen, retrain, mean, self.loss, why, events=self.events)


class Labels(Builtin):
    """Retrain when `events` labelled events have come since the last retrain."""

    name: ClassVar[str] = "labels"

    events: Count

    def decide(self, seen: Seen) -> Choice:
        """Count."""
        count = seen.labelled
        why = f"{count} labelled events since the last retrain, of {self.events}"
        return choice(seen, count >= self.events, count, self.events, why)


class Never(Builtin):
    """Never retrain: what every other one is to be compared with."""

    name: ClassVar[str] = "never"

    def decide(self, seen: Seen) -> Choice:
        """Keep."""
        return choice(seen, False, 0.0, seen.kappa, "this policy never retrains")


class Always(Builtin):
    """Retrain after every batch."""

    name: ClassVar[str] = "always"

    def decide(self, seen: Seen) -> Choice:
        """Retrain as soon as there is a batch."""
        count = len(seen.batches)
        return choice(seen, count > 0, count, 1, f"{count} batches since the last retrain; this policy retrains after each")


class Periodic(Builtin):
    """Retrain `every` so many batches, the first time `after` so many (0: `every`).

    A batch is as large as the newest one, since older ones may have been joined. `after` counts while the model was never
    retrained; then each period begins with a retrain, whoever asked for it.
    """

    name: ClassVar[str] = "periodic"

    every: Periods
    after: Whole = 0

    def decide(self, seen: Seen) -> Choice:
        """Count."""
        return periodic(seen, self.every, self.after)

    def tuned(self, past: Past, kappa: float) -> Periodic:
        """The period and offset of at most the past's length that would have cost least there; of equals the longest."""
        return cheapest([Periodic(every=every, after=after) for every, after in grid(len(past.n))], past, kappa)


def periodic(seen: Seen, every: int, after: int) -> Choice:
    """The choice of a period of `every` batches, the first one of `after` (0: `every`)."""
    count = round(seen.labelled / seen.batches[-1].n) if seen.labelled else 0
    due = after if seen.first and after else every
    why = f"{count} batches since {'the model began' if seen.first else 'the last retrain'}, of {due}"
    return choice(seen, count >= due, count, due, why)


def grid(length: int) -> list[tuple[int, int]]:
    """Periods and offsets to try on a past of `length` batches, longest first: one that is as good as never, since it may hold
    no retrain that was worth its price, then up to 16 periods, and 8 offsets of each."""
    periods = sorted({round(length ** (step / 15)) for step in range(16)} | {1, max(1, length)}, reverse=True)
    return [(NEVER * max(1, length), 0)] + [
        (every, after) for every in periods for after in sorted({-(-every * part // 8) for part in range(1, 9)}, reverse=True)
    ]


def _word(above: bool) -> str:
    return "above" if above else "not above"
