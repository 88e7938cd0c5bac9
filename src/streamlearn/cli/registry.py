"""The registry's tables: versions, one in full, the history, what differs between two. Pure; nothing is asked for here.

Times are told in UTC. A table reads well at 100 columns: what is long stands in a column of its own and wraps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table

from ..serving.differing import TRIAL, feature_type
from ..wire import Difference, History, ModelView
from .console import table

NONE: Final = "–"
SECONDS: Final = "%Y-%m-%d %H:%M:%SZ"
MINUTES: Final = "%Y-%m-%d %H:%MZ"
NOT_SHOWN: Final = frozenset({"weights", "types"})


def overview(rows: Sequence[tuple[ModelView, Sequence[Mapping[str, Any]], History]]) -> Table:
    """A line a model: what serves since when, how many versions there are."""
    made = table("model", "task", "pipeline", ">serves", "since", "state", ">versions", ">kept")
    for view, items, history in rows:
        since = history.items[-1].since.at if history.items else None
        kept = sum(bool(doc.get("kept")) for doc in items)
        made.add_row(
            view.name, view.task, view.pipeline, _plain(view.version), _time(since), view.state or NONE, str(len(items)),
            str(kept),
        )  # fmt: skip
    return made


def listing(items: Sequence[Mapping[str, Any]]) -> Table:
    """A line a version: its fate, why it was made, when, from what, how its trial went, whether it is kept."""
    made = table(">version", "fate", "made for", "made", ">learned", "records", ">evidence", ">gain", "kept")
    for doc in items:
        trial = doc.get("trial") or {}
        made.add_row(
            str(doc.get("version")), _plain(doc.get("fate")), _plain(doc.get("reason")),
            _time(doc.get("created"), MINUTES), _plain(doc.get("learned")), _span(doc), _plain(trial.get("e")),
            _plain(trial.get("mean_difference")), "yes" if doc.get("kept") else "dropped" if doc.get("dropped") else "no",
        )  # fmt: skip
    return made


def history_table(history: History) -> Table:
    """A line a stretch of service."""
    made = table(">version", "since", "until", "at position", "by", "why")
    for one in history.items:
        until = "now" if one.until is None else _time(one.until.at)
        positions = ", ".join(f"{shard}/{at:,}" for shard, at in one.since.positions.items()) or NONE
        made.add_row(str(one.version), _time(one.since.at), until, positions, one.by, one.why)
    return made


def in_full(doc: Mapping[str, Any]) -> RenderableType:
    """One version: its facts, the candidates of its search, then every decision about it."""
    facts = table("", "")
    facts.show_header = False
    for name, value in _facts(doc):
        facts.add_row(name, value)
    told = table("when", "decision", "by", "why", title="Decisions")
    for one in doc.get("decisions", ()):
        told.add_row(_time(one["at"]), str(one["kind"]).replace("_", " "), one["by"], one["why"])
    search = doc.get("search")
    return Group(facts, "", *((candidates_table(search), "") if search else ()), told)


def candidates_table(report: Mapping[str, Any]) -> Table:
    """A line a candidate, the winner first, then by how far each came; see `retrain.search`."""
    title = f"Search, scored on {report['scored']:,} events: {report['why']}"
    made = table("candidate", ">loss", "worse by", ">fitted to", ">CPU s", "", title=title)
    rows = sorted(report["candidates"], key=lambda one: (one["name"] != report["winner"], -one["rungs"], one["loss"] or 0.0))
    for one in rows:
        apart = one["difference"]
        worse = NONE if apart is None else f"{apart[0]:.4f} ({apart[1]:.4f} to {apart[2]:.4f})"
        serves = f"serves {one['serves']}" if one["serves"] else ""
        made.add_row(
            one["name"], _plain(one["loss"]), worse, _plain(one["fitted"]), f"{one['seconds']:.2f}",
            "; ".join(filter(None, [serves if one["name"] == report["winner"] else "", one["dropped"]])),
        )  # fmt: skip
    return made


def _facts(doc: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parent = "" if doc.get("parent") is None else f", from version {doc['parent']}"
    yield "version", f"{doc.get('version')} of {doc.get('model')}: {doc.get('fate')}"
    yield "made", f"{_time(doc.get('created'))} by {doc.get('by')}, for {doc.get('reason')}{parent}"
    made, settings = doc.get("made_with") or {}, doc.get("settings") or {}
    if made:
        yield "made with", ", ".join(f"{name} {made[name]}" for name in ("streamlearn", "river", "python") if name in made)
    if settings:
        params = ", ".join(f"{name} = {value!r}" for name, value in settings.get("params", {}).items())
        digest = str(made.get("settings_sha256", ""))[:16]
        yield "pipeline", f"{settings.get('pipeline')}{f' ({params})' if params else ''}, settings {digest}"
    origin = doc.get("origin")
    if origin:
        yield "imported", f"version {origin.get('version')} of {origin.get('model')} on log {origin.get('log')}"
    batch = (doc.get("search") or {}).get("batch")
    if batch:
        yield "serves", f"{batch['serves']}: {batch['why']}"
    yield "records", _span(doc)
    for shard, base in (doc.get("bases") or {}).items():
        read_to = _plain(base.get("position"))
        yield f"based on, shard {shard}", f"{base.get('kind')} {base.get('id')}, which had read to {read_to}"
    for shard, ranges in (doc.get("skip") or {}).items():
        yield f"skipped, shard {shard}", ", ".join(f"{start:,}–{end:,}" for start, end in ranges)
    times = doc.get("times") or {}
    for name, words in (("starts", "first record"), ("until", "last at the start"), ("trained_to", "last record")):
        if times.get(name):
            yield words, ", ".join(f"{shard}: {_time(at)}" for shard, at in times[name].items())
    if doc.get("learned") is not None:
        took = f" in {doc['fit_s']:.1f} s" if doc.get("fit_s") is not None else ""
        yield "fitted", f"{doc['learned']:,} labelled events{took}, {doc.get('skipped') or 0:,} skipped"
    yield from _features(doc)
    trial = doc.get("trial")
    if trial:
        known = [f"{name.replace('_', ' ')} {_plain(trial[name])}" for name in TRIAL if trial.get(name) is not None]
        yield "trial", ", ".join(known) or f"under way since {_time(trial.get('began_at'))}"
    promoted = doc.get("promoted")
    if promoted:
        yield "promoted", f"{_time(promoted['at'])} by {promoted['by']}: {promoted['why']}"
    for kind in ("fitted", "serving"):
        for shard, summary in (doc.get(kind) or {}).items():
            yield f"{'as fitted' if kind == 'fitted' else 'serving'}, shard {shard}", _summary(summary)
    for shard, blob in (doc.get("blobs") or {}).items():
        size = f"{blob['bytes']:,} bytes, " if blob.get("bytes") else ""
        yield f"model, shard {shard}", f"{size}SHA-256 {blob.get('sha256') or blob.get('model_sha256')}"
    dropped = doc.get("dropped")
    gone = "no" if dropped is None else f"no: dropped at {_time(dropped)}, being older than the newest that are kept"
    yield "kept", "yes" if doc.get("kept") else gone
    for shard, why in (doc.get("unusable") or {}).items():
        yield f"unusable, shard {shard}", why


def _features(doc: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    features = doc.get("features")
    if features is None:
        return
    in_all = doc.get("features_in_all") or len(features)
    yield "features", f"{in_all:,}" + (f", of which the first {len(features):,} by name" if in_all > len(features) else "")
    for type_, words in (("number", "numbers"), ("string", "strings")):
        names = [name for name, found in features.items() if found == type_]
        if names:
            yield words, ", ".join(names)


def _summary(summary: Mapping[str, Any]) -> str:
    weights = summary.get("weights") or {}
    numbers = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in summary.items() if name not in NOT_SHOWN]
    largest = sorted(weights, key=lambda name: -abs(weights[name]))[:5]
    most = [f"{name} {weights[name]:+.3g}" for name in largest]
    return ", ".join(numbers) + (f"; the largest weights: {', '.join(most)}" if most else "")


def features_by_version(items: Sequence[Mapping[str, Any]], last: int) -> tuple[list[int], dict[str, list[str | None]]]:
    """(versions, {feature: what it is to each}) for the newest `last` versions of which that is known, oldest first; features
    that are not the same to all come first."""
    known = sorted((doc for doc in items if doc.get("features") is not None), key=lambda doc: int(doc["version"]))[-last:]
    names = sorted({name for doc in known for name in doc["features"]})
    rows = {name: [feature_type(doc, name) for doc in known] for name in names}
    order = sorted(names, key=lambda name: (len(set(rows[name])) == 1, name))
    return [doc["version"] for doc in known], {name: rows[name] for name in order}


def features_table(versions: Sequence[int], rows: Mapping[str, Sequence[str | None]]) -> Table:
    """A line a feature, a column a version."""
    made = table("feature", *(f"version {version}" for version in versions))
    for name, types in rows.items():
        made.add_row(name, *(NONE if type_ is None else type_ for type_ in types))
    return made


def difference_table(found: Sequence[Difference], a: int, b: int) -> Table:
    """What differs, and the change where both are numbers."""
    made = table("", "differs", f">version {a}", f">version {b}", ">change")
    part = ""
    for row in found:
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (row.a, row.b))
        made.add_row(
            row.part if row.part != part else "", row.what, _plain(row.a), _plain(row.b),
            f"{row.b - row.a:+,.4g}" if numbers else "",
        )  # fmt: skip
        part = row.part
    return made


def _span(doc: Mapping[str, Any]) -> str:
    """The offsets that a fit read, by shard."""
    starts, ends = (doc.get("window") or {}).get("starts") or {}, doc.get("trained_to") or {}
    if not starts:
        foreign = (doc.get("origin") or {}).get("rebased")
        return "none of this log" if foreign else "as events came" if doc.get("reason") == "registered" else NONE
    spans = [f"{start:,}–{ends[shard]:,}" if shard in ends else f"{start:,}–…" for shard, start in starts.items()]
    return spans[0] if len(spans) == 1 else ", ".join(f"{shard}: {span}" for shard, span in zip(starts, spans, strict=True))


def _time(at: float | None, form: str = SECONDS) -> str:
    return NONE if at is None else datetime.fromtimestamp(at, UTC).strftime(form)


def _plain(value: Any) -> str:
    match value:
        case None | "":
            return NONE
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case list():
            return f"[{', '.join(map(_plain, value))}]"
    return str(value)
