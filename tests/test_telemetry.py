"""Metrics live in the registry they are given."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from streamlearn.telemetry import Metrics


def test_two_apps_do_not_share_counters() -> None:
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.events.labels("accepted").inc(3)
    assert first.registry.get_sample_value("streamlearn_events_posted_total", {"outcome": "accepted"}) == 3
    assert second.registry.get_sample_value("streamlearn_events_posted_total", {"outcome": "accepted"}) is None


def test_every_metric_is_named_for_the_product_and_explained() -> None:
    metrics = Metrics(CollectorRegistry())
    helps = [line for line in generate_latest(metrics.registry).decode().splitlines() if line.startswith("# HELP")]
    assert len(helps) >= 9
    for line in helps:
        _, _, name, text = line.split(" ", 3)
        assert name.startswith("streamlearn_")
        assert text
