"""What the app is given from outside, and what its routes share. Nothing here opens anything by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from starlette.requests import Request

from ..apikeys import ApiKey
from ..config import Settings
from ..keys import KeyRing
from ..log import Log
from ..store import Store
from ..telemetry import CollectorRegistry, Metrics
from .holder import Holder
from .ingest import Ingest
from .keywatch import KeyWatch
from .limits import Buckets
from .pasts import Pasts
from .predictions import PredictionBuffer
from .refusals import Refusals
from .tracing import Tracing


@dataclass(frozen=True)
class Deps:
    """The world outside: settings, log, store, signing keys, API keys of the environment, metrics registry, clock, timer.

    The clock gives Unix seconds and may be set anew; the timer's seconds only ever go on. `renewed` gives a stream's identity
    as a process that starts now would learn it, by default as the log's handle knows it. `shared_metrics`: the folder in which
    several processes behind one port add up what they count.
    """

    settings: Settings
    log: Log
    store: Store
    keys: KeyRing
    api_keys: Collection[ApiKey] = ()
    registry: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=True))
    clock: Callable[[], float] = time.time
    timer: Callable[[], float] = time.monotonic
    renewed: Callable[[str], str] | None = None
    tracing: Tracing | None = None
    shared_metrics: str | None = None


@dataclass(frozen=True)
class Shared:
    """What one running app's routes share, as `request.app.state.shared`."""

    deps: Deps
    metrics: Metrics
    holder: Holder
    ingest: Ingest
    buffer: PredictionBuffer
    keys: KeyWatch
    refusals: Refusals
    attempts: Buckets  # to sign in, by address
    pasts: Pasts


def shared(request: Request) -> Shared:
    found: Shared = request.app.state.shared
    return found
