"""Indexes of item factors for models of many items: made and kept fresh by a thread of their own, exchanged as one.

A request takes the index that is there and never waits for one. While there is none for a model's tables, the model searches as
it does without: the hottest `exact_items` exactly. A row that changed is put where it belongs with the next look.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..config import Settings
from .holder import Challenger, Holder, Served, Slot
from .served import Indexed

if TYPE_CHECKING:
    from ..recommend.candidates import Search
    from ..recommend.index import Approximate
    from ..recommend.tables import Table

LOOK_S: Final = 0.25
SAMPLE: Final = 64  # users by whom the lists to read are chosen, and as many by whom the recall is measured
BEST: Final = 100  # items that the recall is of
WORN: Final = 0.5  # changed rows, as a share of all, after which the lists are made anew
_log = logging.getLogger(__name__)
Place = tuple[str, int, str]


class Kept(NamedTuple):
    """The index of one table, as of the publication with this tag."""

    table: Table
    lists: Approximate
    tag: int
    recall: float


class Indexes:
    """For every model that recommends and has more items than its `exact_items`. Needs faiss; without, there are none."""

    def __init__(self, settings: Settings, holder: Holder, timer: Callable[[], float]) -> None:
        self._holder, self._timer = holder, timer
        self._models = {name: one for name, one in settings.models.items() if one.task == "recommend"}
        self._kept: dict[Place, Kept] = {}
        self._searches: dict[int, tuple[Table, Search]] = {}  # by the table's id; replaced whole
        self._told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indexes", daemon=True)

    def start(self) -> None:
        """Look every `LOOK_S` from now on, where a model recommends at all."""
        if self._models:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def search_of(self, model: Any) -> Search | None:
        """The search over the items of a served model, None while it has no index."""
        table = model.estimator.state.items
        found = self._searches.get(id(table))
        return None if found is None or found[0] is not table else found[1]

    def look(self) -> None:
        """Make or renew the index of whatever has changed. Public for tests; otherwise only the background thread calls it."""
        there: set[Place] = set()
        for place, one, tag in self._served():
            table = one.model.estimator.state.items
            if len(table) > self._models[place[0]].recommend.exact_items and self._available(place[0], len(table)):
                there.add(place)
                kept = self._kept.get(place)
                if kept is None or kept.table is not table or kept.tag != tag:
                    self._kept[place] = self._renewed(place[0], kept, one, tag)
                    self._exchange()
                    self._tell(place)
        gone = self._kept.keys() - there
        for place in gone:
            del self._kept[place]
            self._tell(place)
        if gone:
            self._exchange()

    def _served(self) -> Iterator[tuple[Place, Served | Challenger, int]]:
        for name in self._models:
            for slot in self._holder.slots[name]:
                yield from _parts(slot)

    def _renewed(self, name: str, kept: Kept | None, one: Served | Challenger, tag: int) -> Kept:
        """The index with what changed since; made anew for other tables, and when half of it has changed."""
        import numpy as np

        from ..recommend.index import Approximate
        from ..recommend.state import OFFERED

        state = one.model.estimator.state
        table = state.items
        with one.lock:
            rows = table.changed("index")
            held = table["available"][rows] == OFFERED
            factors = table["factors"]
        if kept is not None and kept.table is table:
            kept.lists.update(rows[held], factors)
            kept.lists.remove(rows[~held])
            if kept.lists.changed <= WORN * max(1, len(kept.lists)):
                return kept._replace(tag=tag)
            index, live = kept.lists, np.flatnonzero(table["available"][: len(factors)] == OFFERED)
        else:
            index, live = Approximate(seed=self._models[name].seed), rows[held].astype(np.int64)
        with one.lock:
            people = np.flatnonzero(state.users["hash"])
            asked = state.users["factors"][people[:: max(1, len(people) // (2 * SAMPLE))][: 2 * SAMPLE]]
        began = self._timer()
        index.build(factors, live, asked[::2] if len(asked) > 1 else None)
        recall = index.recall(asked[1::2], BEST, factors)
        what = "an index of %d items was made in %.1f s; of the best %d it finds %.3f"
        _log.info(what, len(index), self._timer() - began, BEST, recall, extra={"model": name})
        return Kept(table, index, tag, recall)

    def _tell(self, place: Place) -> None:
        """Write to the shard what its metrics tell: of the champion's index."""
        name, shard, part = place
        if part == "model":
            kept = self._kept.get(place)
            told = None if kept is None else Indexed(len(kept.lists), self._timer(), kept.recall)
            self._holder.slots[name][shard].index = told

    def _exchange(self) -> None:
        self._searches = {id(kept.table): (kept.table, _search_by(kept.lists)) for kept in self._kept.values()}

    def _available(self, name: str, items: int) -> bool:
        from ..recommend.index import available

        found = available()
        if not found and not self._told:
            self._told = True
            why = "of %d items only the hottest are searched by their factors: pip install 'streamlearn[recommend]'"
            _log.warning(why, items, extra={"model": name})
        return found

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # the thread must outlive a fault; the model goes on searching as it did
                _log.exception("making an index failed")
                self._stop.wait(LOOK_S * 20)


def _search_by(lists: Approximate) -> Search:
    """The search as a model takes it: rows are int32 there."""

    def search(vector: Any, n: int) -> Any:
        rows, scores = lists.search(vector, n)
        return rows.astype("int32"), scores

    return search


def _parts(slot: Slot) -> Iterator[tuple[Place, Served | Challenger, int]]:
    """Whoever answers for the shard, and the tag of the publication that brought them."""
    served = slot.served
    if served is not None:
        yield (slot.model, slot.shard, "model"), served, served.tag
        if served.challenger is not None:
            yield (slot.model, slot.shard, "challenger"), served.challenger, served.tag
