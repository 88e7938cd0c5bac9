"""What a model must beat: no-change (the last label known) and majority (the commonest label; for numbers, the mean).

Each is read when a question is asked, with the labels known then, so that with late labels it is as late as the model.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Baselines(msgspec.Struct, array_like=True):
    """`last` and `usual` answer the next question; None before the first label. `most` is the place of `usual`."""

    task: str
    last: Any = None
    usual: Any = None
    n: int = 0
    classes: list[Any] = []
    counts: list[int] = []
    most: int = 0

    def learn(self, y: Any) -> None:
        """A label became known."""
        self.last = y
        self.n += 1
        if self.task == "regression":
            usual = self.usual or 0.0
            self.usual = usual + (y - usual) / self.n
            return
        try:
            place = self.classes.index(y)
        except ValueError:
            place = len(self.classes)
            self.classes.append(y)
            self.counts.append(0)
        count = self.counts[place] = self.counts[place] + 1
        if self.usual is None or count > self.counts[self.most]:
            self.usual, self.most = y, place
