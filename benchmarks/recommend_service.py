"""A recommender as a service: events learned a second, alone and beside questions, and what questions take meanwhile.

A real service over SQLite. Films and likes of MovieTweetings are put on its log at once, as a backlog that keeps the learner
at full speed; then `POST /v1/recommend` is asked by a closed loop of a few connections, in a process of its own, each answer
logged.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from streamlearn.events import Event, encode
from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog
from streamlearn.store.sqlite import SqliteStore

from .harness import Rows
from .recommend_data import Data
from .service import Service, load, service

CONFIG: Final = """
data_dir = "data"
[serve]
port = {port}
[streams.visits]
[models.m]
stream = "visits"
task = "recommend"
pipeline = "{pipeline}"
[models.m.recommend]
actions = {{ like = 1.0 }}
item_fields = ["genres"]
"""
CONNECTIONS: Final = 4
FIRST: Final = 1000  # likes that are learned before it is measured
PATIENCE_S: Final = 120.0


def fill(running: Service, data: Data, repeats: int) -> int:
    """Films, then likes in the order of time, again and again by other users; how many records."""
    log, likes = SqliteLog(running.folder / "data" / "log.sqlite"), [row for row in data.ratings if row.good]
    known = {row.item for row in likes}
    entries = [
        Entry(item.encode(), encode(Event("visits", item=item, action="$set", ts=likes[0].ts, x={"genres": genres})))
        for item, genres in data.genres.items()
        if item in known
    ]
    span = likes[-1].ts - likes[0].ts
    for again in range(repeats):
        for row in likes:
            user = f"{again}-{row.user}" if again else row.user
            event = Event("visits", ts=row.ts + again * span, user=user, item=row.item, action="like")
            entries.append(Entry(user.encode(), encode(event)))
    try:
        for first in range(0, len(entries), 5000):
            log.append("visits", entries[first : first + 5000]).result()
    finally:
        log.close()
    return len(entries)


def status(running: Service) -> dict[str, Any]:
    """What the learner told of itself last; {} before it did."""
    store = SqliteStore(running.folder / "data" / "store.sqlite")
    try:
        found = store.statuses().get(("m", 0))
        told: dict[str, Any] = {} if found is None else msgspec.json.decode(found)
        return told
    finally:
        store.close()


def wait_for(running: Service, n: int) -> None:
    """Until so many likes are learned. Raises RuntimeError after two minutes."""
    deadline = time.monotonic() + PATIENCE_S
    while status(running).get("n", 0) < n:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{n} likes were not learned within {PATIENCE_S:g} s")
        time.sleep(0.1)


def between(first: dict[str, Any], last: dict[str, Any]) -> float:
    """Likes learned a second from one status to another."""
    return float((last["n"] - first["n"]) / max(1e-9, last["at"] - first["at"]))


def measure(rows: Rows, data: Data, quick: bool) -> None:
    """The learner alone, then beside questions."""
    seconds = 3.0 if quick else 30.0
    with tempfile.TemporaryDirectory() as name, service(Path(name), "mlp", config=CONFIG) as running:
        end = fill(running, data, 1 if quick else 2)
        wait_for(running, FIRST // 5 if quick else FIRST)
        first = status(running)
        time.sleep(seconds)
        last = status(running)
        rows.add(f"{data.name}: learned by a service, nobody asks", between(first, last), "events/s", None, "SQLite")
        user = data.ratings[0].user
        first = status(running)
        found = load(running.port, "/v1/recommend/m", {"user": user, "k": 10}, CONNECTIONS, seconds)
        last = status(running)
        asked = f"{CONNECTIONS} connections, k = 10, {last['n']:,} likes learned"
        rows.add(f"{data.name}: learned meanwhile", between(first, last), "events/s", "> 0", asked)
        rows.add(f"{data.name}: recommendations while learning", found["per_s"], "1/s", "> 0", asked)
        rows.add(f"{data.name}: recommendations, p50", found["p50_ms"], "ms", None, asked)
        rows.add(f"{data.name}: recommendations, p99", found["p99_ms"], "ms", None, asked)
        rows.add(f"{data.name}: answers other than 200", found["errors"], "answers", "<= 0")
        rows.add(f"{data.name}: still to be learned at the end", end - last["position"], "records", "> 0")
