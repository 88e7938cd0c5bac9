"""What a decision writes down about the version that it makes, so that the registry can be rebuilt from the log alone.

Pure: what is known at the moment of the decision goes in, values that JSON carries come out.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .. import __version__
from ..lineage import known
from ..records import Status
from ..store.codec import Header, river_version
from .world import World

STRATEGY: Final = ("strategy", "thinned", "sample")  # of a header's extra


def made_with(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a version: the libraries' versions, and the digest of the model's table of settings."""
    return {
        "streamlearn": __version__, "river": river_version(), "python": platform.python_version(),
        "settings_sha256": settings_digest(settings),
    }  # fmt: skip


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256, in hex, over a model's settings as JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()


def of_blob(header: Header, blob: bytes) -> dict[str, Any]:
    """What the registry keeps of one shard's blob: `bytes` (with its pieces), `sha256`, labelled events `learned` and
    `skipped`, the append time `read_to` of the last record, how many `features` the model knows and the `types` of the
    first of them by name (see `learning.summary`), and the SHA-256 of the pickled model alone; and what the fit says of its
    strategy, where it does: `strategy`, events that were `thinned` out, the `sample` for further epochs; of a batch
    estimator that was `fitted_to` fewer events than it `gathered`, both."""
    extra = header.extra
    summary = extra.get("summary", {})
    return {
        "bytes": len(blob) + extra.get("apart_bytes", 0), "sha256": hashlib.sha256(blob).hexdigest(),
        "learned": extra.get("learned"), "skipped": extra.get("skipped"), "read_to": header.created,
        "features": summary.get("features"), "types": summary.get("types"), "model_sha256": header.parts["model"].sha256,
        **{name: extra[name] for name in STRATEGY if name in extra}, **_gathered(summary),
    }  # fmt: skip


def _gathered(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = ("fitted_to", "gathered")
    return {name: summary[name] for name in names} if summary.get("fitted_to") != summary.get("gathered") else {}


def strategy_told(facts: Mapping[int, Mapping[str, Any]]) -> str:
    """What blobs of a version (`of_blob`) say of their strategy, in words that go on a sentence; "" when nothing."""
    several, words = len(facts) > 1, []
    for shard, fact in sorted(facts.items()):
        told = []
        strategy, sample = fact.get("strategy", {}), fact.get("sample")
        if "instead" in strategy:
            told.append(strategy["instead"])
        if "renewed" in strategy:
            of, events = len(strategy["losses"]), strategy["events"]
            told.append(f"{len(strategy['renewed'])} of {of} members were begun anew, by their losses on {events} events")
        if "thinned" in fact:
            came = (fact.get("learned") or 0) + fact["thinned"]
            told.append(f"{fact['thinned']} of {came} labelled events were thinned out for their age")
        if sample is not None:
            told.append(f"further epochs passed over {sample['kept']} of {sample['of']} labelled events, evenly spread")
        if "gathered" in fact:
            told.append(f"it was fitted to {fact['fitted_to']} of {fact['gathered']} labelled events, evenly spread")
        if told:
            words.append((f"shard {shard}: " if several else "") + ", ".join(told))
    return "".join(f"; {one}" for one in words)


def knows(told: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The decision's field `knows`: what models of all shards say together of their features, see `lineage.known`; {} where
    none does. The first shard's word counts."""
    said = [one for _, one in sorted(told.items(), reverse=True) if one.get("types") is not None]
    types = {name: type_ for one in said for name, type_ in one["types"].items()}
    return {"knows": known(types, max(one["features"] for one in said))} if said else {}


def shards_of(told: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The decision's fields `shards`, facts of each blob, and `knows`: the features of all of them, once."""
    each = {shard: {name: value for name, value in one.items() if name != "types"} for shard, one in told.items()}
    return {"shards": by_shard(each), **knows(told)}


def window_times(world: World, starts: Mapping[int, int], until: Mapping[int, int]) -> dict[str, dict[str, float | None]]:
    """By shard, the append times of a window's first record and of its last, None for an empty one. Raises LogError."""
    full = {shard: starts[shard] < until[shard] for shard in starts}
    first = {shard: world.time_at(shard, starts[shard]) if full[shard] else None for shard in starts}
    last = {shard: world.time_at(shard, until[shard] - 1) if full[shard] else None for shard in starts}
    return {"starts": by_shard(_finite(first)), "until": by_shard(_finite(last))}


def _finite(times: Mapping[int, float | None]) -> dict[int, float | None]:
    """Where only a broker's marks follow, there is no time."""
    return {shard: None if time is None or math.isinf(time) else time for shard, time in times.items()}


def scores_of(status: Status) -> dict[str, Any]:
    """What a status says of its models' worth: labelled events, the champion's scores, the shadow's paired losses."""
    scores: dict[str, Any] = {name: status.scores[name] for name in ("cumulative", "window") if name in status.scores}
    return {"n": status.n, "version": status.version, "shadow": status.shadow, **scores, "paired": status.shadow_scores}


def by_shard(values: Mapping[int, Any]) -> dict[str, Any]:
    """The same with keys that JSON can have, in order."""
    return {str(shard): values[shard] for shard in sorted(values)}
