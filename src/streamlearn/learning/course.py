"""How the serving version does, told to control by the batch: what the policies decide by, see `retrain.policy`."""

from __future__ import annotations

from typing import Any

import msgspec

from ..events import Features


class Course(msgspec.Struct, array_like=True):
    """The batch under way: `n` losses with the sum `loss`, and some of its events as [loss, features]."""

    n: int = 0
    loss: float = 0.0
    sample: list[tuple[float, dict[str, Any]]] = []

    def show(self, loss: float, x: Features, most: int) -> None:
        """Keep an event of the batch, `most` at most."""
        if len(self.sample) < most:
            self.sample.append((loss, dict(x)))

    def end(self) -> dict[str, Any]:
        """The data of the batch's signal; the next one begins."""
        data: dict[str, Any] = {"n": self.n, "loss": self.loss / self.n}
        if self.sample:
            data["sample"] = self.sample
        self.forget()
        return data

    def forget(self) -> None:
        """Begin anew: what was counted was another version's."""
        self.n, self.loss, self.sample = 0, 0.0, []
