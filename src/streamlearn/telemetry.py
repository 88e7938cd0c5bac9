"""What operators measure: the metrics of the HTTP side. What they read: `logs`.

Metrics take their registry, so that tests and several apps in one process do not share counters. Nothing here is called
once per learned event, and nothing here may raise because of what it is given to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .buckets import Buckets

__all__ = [
    "EXPOSITION", "CollectorRegistry", "Counter", "Family", "Histogram", "Metrics", "exposition", "watch",
]  # fmt: skip
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ANSWER_S: Final = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.05, 0.25)
RECOMMEND_S: Final = (2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter, which nothing asks for


class Metrics:
    """Counters and histograms of the HTTP side. What learners do is read from their statuses when metrics are scraped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Histogram(
            "streamlearn_http_request_seconds",
            "Requests by route and status, and how long they took",
            ("method", "route", "status"),
            buckets=LATENCY_S,
            registry=registry,
        )
        self.events = Counter(
            "streamlearn_events_posted_total", "Posted events by outcome", ("outcome",), registry=registry
        )
        self.rejections = Counter(
            "streamlearn_events_rejected_total", "Rejected events by reason", ("reason",), registry=registry
        )
        self.refusals = Counter(
            "streamlearn_requests_refused_total", "Requests refused for want of room or of a log", ("why",), registry=registry
        )
        for why in ("overloaded", "full", "log-unavailable"):  # an alarm misses the first of those that are not there before
            self.refusals.labels(why)
        self.predictions = Counter(
            "streamlearn_predictions_total", "Predictions by model and what became of their logging", ("model", "logged"),
            registry=registry,
        )
        self.answers = Counter(
            "streamlearn_answers_total", "Predictions by model and by what answered: champion, challenger (of a canary), or "
            "fallback (the champion, since the challenger could not)", ("model", "role"), registry=registry,
        )
        self.buffered = Gauge(
            "streamlearn_buffered_predictions", "Predictions that wait to be written to the log", registry=registry,
            multiprocess_mode="livesum",
        )
        self.unlogged = Counter(
            "streamlearn_predictions_lost_total", "Predictions that were to be logged and were not", ("why",), registry=registry
        )
        self.answering = Histogram(
            "streamlearn_predict_seconds", "The model's own time to answer one question", ("model",), buckets=ANSWER_S,
            registry=registry,
        )
        self.recommendations = Counter(
            "streamlearn_recommendations_total", "Recommendations by model, by what became of their logging, and by what "
            "helped out where candidates were too few (none: nothing had to)", ("model", "logged", "fallback"),
            registry=registry,
        )
        self.recommended = Counter(
            "streamlearn_recommended_items_total", "Items recommended, by model and by the source that named them",
            ("model", "source"), registry=registry,
        )
        self.recommending = Histogram(
            "streamlearn_recommend_seconds", "The model's own time to choose and order the items of one answer", ("model",),
            buckets=RECOMMEND_S, registry=registry,
        )
        self.store_errors = Counter(
            "streamlearn_store_errors_total", "Polls of the store by this process that failed", registry=registry
        )
        self.publications = Counter(
            "streamlearn_publications_total", "Publications by model and fate", ("model", "fate"), registry=registry
        )
        self.swap = Histogram(
            "streamlearn_publication_load_seconds", "Time to verify and load a publication", buckets=LATENCY_S,
            registry=registry,
        )


class Family(NamedTuple):
    """A metric whose values are worked out when it is scraped: (label values, value) a row."""

    kind: Literal["gauge", "counter", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], float | Buckets]]


KINDS: Final[dict[str, Any]] = {
    "gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily,
}  # fmt: skip


class _Scraped(Collector):
    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not scrape

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            metric = KINDS[family.kind](family.name, family.text, labels=family.labels)
            for labels, value in family.rows:
                if isinstance(value, Buckets):
                    bounds = [*map(floatToGoString, value.bounds), "+Inf"]
                    metric.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
                else:
                    metric.add_metric(labels, value)
            yield metric


def watch(registry: CollectorRegistry, families: Callable[[], Iterable[Family]]) -> None:
    """Have `registry` call `families` whenever it is scraped."""
    registry.register(_Scraped(families))


def together(registry: CollectorRegistry, folder: str) -> None:
    """Have `registry` tell what all processes count into `folder`, those that have ended too (but for their gauges).

    Their `Metrics` must be in another registry, and prometheus_client imported with PROMETHEUS_MULTIPROC_DIR set to the folder.
    """
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():  # it was killed, and could not say that it ends
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]


def ended(folder: str) -> None:
    """This process ends: its gauges count no more."""
    mark_process_dead(os.getpid(), folder)  # type: ignore[no-untyped-call]


def exposition(registry: CollectorRegistry) -> bytes:
    """The registry as Prometheus reads it, of media type `EXPOSITION`."""
    return generate_latest(registry)
