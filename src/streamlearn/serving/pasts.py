"""The last hour of every model, and since when its version serves, as the fleet shows them.

It is what costs a look into the store, so it is read at most every `FRESH_S` seconds, and no request waits for it but the first
ones; while the store is away it stays as it was known.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..config import Settings
from ..errors import StoreError
from ..gauges import main_metric
from ..store import Store

if TYPE_CHECKING:
    from ..config_history import HistorySettings
    from ..history import Series

logger = logging.getLogger(__name__)

SPARK_S: Final = 3600
SPARK_STEP_S: Final = 60
FRESH_S: Final = 5.0
PATIENCE_S: Final = 1.0


class Past(NamedTuple):
    """What the store knows of a model's last hour, and since when its version serves."""

    at: list[float]
    series: Mapping[str, list[float | None]]
    version_since: float | None


NOTHING: Final = Past([], {}, None)


class Pasts:
    """The past of every model. Once it is older than `FRESH_S`, whoever asks has it read anew, and does not wait for it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._reading: asyncio.Future[None] | None = None
        self._known: dict[str, Past] = {}
        self._read_at = -math.inf

    async def get(self, now: float, timer: float) -> Mapping[str, Past]:
        """By model, as it is known; `now` in Unix seconds. Only before anything is known it waits, `PATIENCE_S` at most."""
        if timer - self._read_at >= FRESH_S and (self._reading is None or self._reading.done()):
            self._read_at = timer
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read, now))
        if not self._known and self._reading is not None:
            await asyncio.wait([self._reading], timeout=PATIENCE_S)
        return self._known

    def _read(self, now: float) -> None:
        since = math.ceil((now - SPARK_S) / SPARK_STEP_S) * SPARK_STEP_S
        try:
            served = self._store.views("history", list(self._settings.models))
            known = {}
            for name, model in self._settings.models.items():
                metric = main_metric(model.task)[0]
                wanted = f"metric:{metric}", "baseline:*"
                points = SPARK_S // SPARK_STEP_S
                found = read_series(self._store, self._settings.history, name, since, now, points, wanted, now)
                series = {series: values["mean"] for series, values in found.series.items() if series.endswith(f":{metric}")}
                known[name] = Past([float(at) for at in found.at], series, _version_since(served.get(name)))
        except StoreError as error:
            logger.warning("the fleet's last hour cannot be read; what was known is shown: %s", error)
            return
        self._known = known


def read_series(
    store: Store, settings: HistorySettings, model: str, since: float, until: float, points: int,
    names: Sequence[str] | None, now: float,
) -> Series:  # fmt: skip
    """`history.read`, which brings numpy in: only once somebody asks, so that the service starts without it."""
    from ..history import read

    return read(store, settings, model, since, until, points, names, now)


def _version_since(doc: bytes | None) -> float | None:
    items = [] if doc is None else msgspec.json.decode(doc)["items"]
    return float(items[-1]["since"]["at"]) if items else None
