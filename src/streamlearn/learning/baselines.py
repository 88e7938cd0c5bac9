"""What a model must beat: no-change (the last label known) and majority (the commonest label; for numbers, the mean).

Each is read when a question is asked, with the labels known then, so that with late labels it is as late as the model.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Baselines(msgspec.Struct, array_like=True):
    """`last` and `usual` answer the next question; None before the first label. `most` is how often `usual` came."""

    task: str
    last: Any = None
    usual: Any = None
    n: int = 0
    counts: dict[Any, int] = {}
    most: int = 0

    def learn(self, y: Any) -> None:
        """A label became known."""
        self.last = y
        if self.task == "regression":
            self.n += 1
            usual = self.usual or 0.0
            self.usual = usual + (y / self.n - usual / self.n)  # this way the difference of two huge labels stays finite
            return
        counts = self.counts
        counts[y] = count = counts.get(y, 0) + 1
        if count > self.most:
            self.usual, self.most = y, count
