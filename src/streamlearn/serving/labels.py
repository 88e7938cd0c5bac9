"""How a model's labels come: what waits, after how long they came, what became of them, and what could not be learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..config import ModelSettings
from ..events import REASONS, Kind
from ..log import DEAD, Log
from ..records import DeadLetter, Status

NEWEST: Final = 50
PAGE: Final = 500
MOST_READ: Final = 10_000  # records of `_dead` that are looked through for a model's own
MAX_TEXT: Final = 300  # characters of a letter's id, key and detail
OUTCOMES: Final = {
    "joined": "a label that met its features and was learned",
    "early": "of those, a label that came before its features and waited for them",
    "defaulted": "features whose wait ran out, so that the default label was learned",
    "missed": "features whose wait ran out, or that had to make room, and that were learned by no label",
    "skipped": "a label that belonged to a held range, and was dropped",
    "duplicate": "the same label for the same id again, dropped",
}
TAKEN: Final = {
    "organic": "an action that was found without a slate of ours",
    "joined": "an action on an item of a slate, while the slate was waited for",
    "early_clicks": "of the organic ones, actions that came before their slate",
    "late_clicks": "an action that named a slate whose window was over; learned as organic",
    "unshown_clicks": "an action that named a slate which did not show its item; learned as organic",
    "impressions": "slates that were shown",
    "expired": "slates whose window was over, which then taught the ranking",
    "pushed_out": "slates that had to make room before",
    "duplicate_interactions": "the same action under the same id again, dropped",
    "duplicate_impressions": "the same slate again, dropped",
    "other_actions": "actions that the settings give no weight",
    "heard": "actions of users of other shards, of which items alone are learned",
}
_letters: Final = msgspec.json.Decoder(DeadLetter)

Doc = dict[str, Any]


class _Named(msgspec.Struct):
    id: str | None = None


_named: Final = msgspec.json.Decoder(_Named)


def labels_view(model: str, settings: ModelSettings, statuses: Sequence[Status], newest: list[Doc] | None) -> Doc:
    """The answer of GET /v1/models/{model}/labels. `statuses`: the newest of each shard; `newest`: of `newest_dead`."""
    counts: dict[str, int] = {}
    for status in statuses:
        for name, count in status.counters.items():
            counts[name] = counts.get(name, 0) + count
    recommends = settings.task == "recommend"
    if recommends:
        outcomes = {name: counts.get(name, 0) for name in TAKEN}
    else:
        outcomes = outcomes_of(sum(status.n for status in statuses), counts)
    reasons = {name: count for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if name in REASONS}
    told = {*reasons, *outcomes, *(one["reason"] for one in newest or ())}
    return {
        "model": model, "waiting": sum(status.pending for status in statuses),
        "early": sum(status.early for status in statuses),
        "limits": {
            "label_wait_s": settings.label_wait_s, "max_pending": settings.max_pending, "default_label": settings.default_label,
        },
        "delay": delay_of(statuses), "outcomes": outcomes, "dead": {"total": sum(reasons.values()), "reasons": reasons},
        "explain": {name: text for name, text in {**(TAKEN if recommends else OUTCOMES), **REASONS}.items() if name in told},
        "slates": slates_of(settings, statuses) if recommends else None,
        "shards": [
            {
                "shard": status.shard, "waiting": status.pending, "early": status.early,
                "delay": delay_of([status]), "n": status.n,
            }
            for status in statuses
        ],
        "newest": newest,
    }  # fmt: skip


def slates_of(settings: ModelSettings, statuses: Sequence[Status]) -> Doc:
    """What comes of a recommender's slates: how many were shown, the share with a click, the mean reward, and how late clicks
    come, `curve` as [seconds, share of all clicks that have come by then]; the delays of the shard that has shown the most."""
    told = [scores for status in statuses if (scores := status.scores).get("impressions")]
    shown = sum(scores["impressions"]["n"] for scores in told)

    def mean(name: str) -> float | None:
        values = [(scores["impressions"]["n"], scores["impressions"].get(name)) for scores in told]
        return sum(n * value for n, value in values if value is not None) / shown if shown else None

    delays = max((scores.get("delay") or {} for scores in told), key=lambda delay: delay.get("impressions") or 0, default={})
    return {
        "window_s": settings.recommend.window_s, "shown": shown, "click_rate": mean("click_rate"), "reward": mean("reward"),
        "curve": delays.get("curve", []), **{name: delays.get(name) for name in ("p50_s", "p90_s", "p99_s")},
    }  # fmt: skip


def outcomes_of(n: int, counts: Mapping[str, int]) -> dict[str, int]:
    """What became of labels and of the features that waited for them. `n`: labelled events; `counts`: learners' counters."""
    defaulted = counts.get("defaulted", 0)
    return {
        "joined": max(0, n - defaulted), "early": counts.get("early_labels", 0), "defaulted": defaulted,
        "missed": max(0, counts.get("expired", 0) + counts.get("pushed_out", 0) - defaulted),
        "late": counts.get("late", 0), "orphan": counts.get("orphan", 0), "correction": counts.get("correction", 0),
        "duplicate": counts.get("duplicate_labels", 0), "skipped": counts.get("skipped_labels", 0),
    }  # fmt: skip


def delay_of(statuses: Sequence[Status]) -> Doc:
    """How long the last labels took, in questions asked meanwhile and in seconds of event time: the longest of the shards.

    Null before the first label; the seconds also where an older learner does not tell them.
    """
    told = [status.delay for status in statuses if status.n and status.delay]
    seconds = [delay for delay in told if "p50_s" in delay]
    return {
        "events": {name: max(delay.get(name, 0.0) for delay in told) for name in ("p50", "p95")} if told else None,
        "seconds": {name: max(delay[f"{name}_s"] for delay in seconds) for name in ("p50", "p90", "p99")} if seconds else None,
    }


def newest_dead(log: Log, model: str, count: int = NEWEST) -> list[Doc]:
    """The newest dead letters of a model, the newest first, at most `count`; a letter that was written again is told once.

    The last `MOST_READ` records of their stream are looked through. Texts are cut at `MAX_TEXT` characters. Raises LogError.
    """
    found: dict[tuple[int, int, str], Doc] = {}
    for number, letter in _backwards(log):
        if letter.model == model:
            found.setdefault((letter.shard, letter.offset, letter.reason), _doc(number, letter))
            if len(found) >= count:
                break
    return list(found.values())


def _backwards(log: Log) -> Iterator[tuple[int, DeadLetter]]:
    first, end = log.bounds(DEAD, 0)
    lowest = max(first, end - MOST_READ)
    while end > lowest:
        start = max(lowest, end - PAGE)
        for record in reversed(list(log.read(DEAD, 0, start, end - start))):
            if record.offset < end and record.kind != Kind.COMMAND:
                try:
                    yield record.offset, _letters.decode(record.value)
                except msgspec.DecodeError:  # not ours: another program wrote into the stream
                    continue
        end = start


def _doc(number: int, letter: DeadLetter) -> Doc:
    return {
        "number": number, "at": letter.ts, "reason": letter.reason, "detail": letter.detail[:MAX_TEXT],
        "id": _id_of(letter.raw), "key": letter.key[:MAX_TEXT],
        "shard": letter.shard, "offset": letter.offset, "stream": letter.stream,
    }  # fmt: skip


def _id_of(raw: bytes) -> str | None:
    """The event's id, None where it has none or cannot be read."""
    try:
        id = _named.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if id is None else id[:MAX_TEXT]
