"""What operators measure: the metrics of the HTTP side. What they read: `logs`.

Metrics take their registry, so that tests and several apps in one process do not share counters. Nothing here is called
once per learned event, and nothing here may raise because of what it is given to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = [
    "EXPOSITION", "CollectorRegistry", "Counter", "Family", "Histogram", "Metrics", "exposition", "watch",
]  # fmt: skip
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


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
        self.predictions = Counter(
            "streamlearn_predictions_total", "Predictions by model and what became of their logging", ("model", "logged"),
            registry=registry,
        )
        self.answers = Counter(
            "streamlearn_answers_total", "Predictions by model and by what answered: champion, challenger (of a canary), or "
            "fallback (the champion, since the challenger could not)", ("model", "role"), registry=registry,
        )
        self.buffered = Gauge(
            "streamlearn_prediction_buffer", "Predictions that wait to be written to the log", registry=registry
        )
        self.unlogged = Counter(
            "streamlearn_predictions_lost_total", "Predictions that were to be logged and were not", ("why",), registry=registry
        )
        self.publications = Counter(
            "streamlearn_publications_total", "Publications by model and fate", ("model", "fate"), registry=registry
        )
        self.swap = Histogram(
            "streamlearn_publication_load_seconds", "Time to verify and load a publication", registry=registry
        )


class Family(NamedTuple):
    """A metric whose values are worked out when it is scraped: (label values, value) a row."""

    kind: Literal["gauge", "counter"]
    name: str
    text: str
    labels: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], float]]


class _Scraped(Collector):
    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not scrape

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
            metric = kind(family.name, family.text, labels=family.labels)
            for labels, value in family.rows:
                metric.add_metric(labels, value)
            yield metric


def watch(registry: CollectorRegistry, families: Callable[[], Iterable[Family]]) -> None:
    """Have `registry` call `families` whenever it is scraped."""
    registry.register(_Scraped(families))


def exposition(registry: CollectorRegistry) -> bytes:
    """The registry as Prometheus reads it, of media type `EXPOSITION`."""
    return generate_latest(registry)
