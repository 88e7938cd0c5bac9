"""`streamlearn demo --recommend`: a shop of real films whose recommendations follow every click, to be tried in a browser.

It starts the roles, posts the films and what real people liked through the public HTTP API, and then lets the same people come
as visitors, a few each second, until a person ends it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..client import Client, Retry
from ..errors import StreamlearnError, Unreachable
from .console import console, say
from .demo_feed import Errand
from .demo_service import Service
from .films import films, ratings
from .shop_feed import MODEL, SHOWN, Replay, Visitors, familiar, liked

LIKES: Final = 15_000
MOST: Final = 60_000  # so that somebody is left to visit
CONFIG: Final = "shop.toml"
READY_S: Final = 60.0
SILENT_S: Final = 120.0  # for which the learner may stand still in the replay
LOOK_S: Final = 0.25
TOLD_S: Final = 30.0  # between two lines about the visitors
PATIENT: Final = Retry(attempts=12)
IMPATIENT: Final = Retry(attempts=1)


class Shop:
    """The demo over a running service; every method raises StreamlearnError when that fails."""

    def __init__(self, running: Service, count: int) -> None:
        self._running, self._stop = running, running.life.stop
        self._client = Client(running.url, retry=PATIENT)
        likes = liked(ratings())
        self._likes, self._later = likes[:count], likes[count:]

    def play(self) -> bool:
        """All of it, once, until a person ends it; False when that was before the shop was open."""
        with self._client:
            return self._play()

    def _play(self) -> bool:
        say("streamlearn demo --recommend: which film will somebody like next?")
        if not self._until_ready():
            return False
        known = films()
        say(f"{len(known):,} films with their genres, and {len(self._likes):,} likes of real people in 2013 (MovieTweetings)")
        began = time.monotonic()
        replay = Replay(self._client.send, known, self._likes, time.time())
        if not self._replay(replay):
            return False
        took = time.monotonic() - began
        say(f"All {replay.total:,} events are learned, after {took:.0f} s: {replay.total / took:,.0f} a second.")
        say()
        say(f"The shop is open: {self._running.url}/shop  (the dashboard: {self._running.url}); Ctrl-C ends it.")
        say(f"Click a film, and see what is recommended next; or look as one of {', '.join(familiar(self._likes, 3))}.")
        say(f"In another terminal: streamlearn recommend {MODEL} --user {familiar(self._likes, 1)[0]} --explain"
            f" --url {self._running.url}")  # fmt: skip
        say("Meanwhile the same people come as visitors, some four a second: each is shown films, and clicks the one that they")
        say("really liked next when it is among them.")
        self._visits()
        return True

    def _until_ready(self) -> bool:
        deadline = time.monotonic() + READY_S
        missing = "no answer"
        with Client(self._running.url, retry=IMPATIENT) as client:
            while not self._stop.wait(LOOK_S):
                self._check()
                try:
                    client.models()
                    return True
                except Unreachable as error:
                    missing = str(error)
                if time.monotonic() > deadline:
                    raise StreamlearnError(f"the service is not there after {READY_S:g} s: {missing}")
        return False

    def _replay(self, replay: Replay) -> bool:
        """Post and wait until all was learned; False when interrupted."""
        errand = Errand("replay", lambda: replay.run(self._stop))
        errand.start()
        last, since = -1, time.monotonic()
        with _bars(replay.total) as show:
            while not self._stop.wait(LOOK_S):
                self._check(errand)
                learned = self._position()
                show(replay.posted, min(learned, replay.total))
                if not errand.is_alive() and learned >= replay.end:
                    show(replay.posted, replay.total)
                    break
                if learned != last:
                    last, since = learned, time.monotonic()
                elif time.monotonic() - since > SILENT_S:
                    raise StreamlearnError(f"the learner has stood still at record {learned:,} for {SILENT_S:g} s")
        errand.join()
        self._check(errand)
        if replay.refused:
            raise StreamlearnError(f"the service refused {replay.refused:,} of {replay.total:,} events")
        return not self._stop.is_set()

    def _visits(self) -> None:
        visitors = Visitors(self._client, self._later)
        errand = Errand("visitors", lambda: visitors.run(self._stop.wait))
        errand.start()
        due = time.monotonic() + TOLD_S
        while not self._stop.wait(LOOK_S):
            self._check(errand)
            if time.monotonic() > due and visitors.came and errand.is_alive():
                due += TOLD_S
                share = visitors.clicked / visitors.came
                say(f"{visitors.came:,} visitors: {share:.1%} found their film among {SHOWN} shown")
        errand.join()

    def _position(self) -> int:
        view = self._client.model(MODEL)
        return max((shard.status["position"] for shard in view.shards if shard.status), default=0)

    def _check(self, *errands: Errand) -> None:
        for errand in errands:
            if errand.error is not None:
                raise errand.error
        if self._running.ended.is_set() and not self._stop.is_set():
            raise StreamlearnError(f"the service ended with exit code {self._running.code}")


@contextmanager
def _bars(total: int) -> Iterator[Any]:
    """Two progress bars on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), disable=not console().is_terminal) as progress:
        tasks: Sequence[Any] = [progress.add_task(name, total=total) for name in ("posted", "learned")]

        def show(*done: int) -> None:
            for task, completed in zip(tasks, done, strict=True):
                progress.update(task, completed=completed)

        yield show
