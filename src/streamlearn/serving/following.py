"""A recommender's tables in this process: they follow the chain of the publications, and take what changed in place.

So a publication of tables with a million rows costs what changed of them. Whoever answers from a model and whoever writes the
tables hold its `lock` by turns: an answer takes milliseconds, and a piece at a time is written.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from ..store.links import Fetch, Links

if TYPE_CHECKING:
    from ..learning.chain import Reader

FREE: Final = nullcontext()


class Follower:
    """One part of a shard's publications, such as "model". All but `lock` is the poller's alone."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[Any] = FREE
        self._reader: Reader | None = None

    def load(self, shell: bytes, links: Links | None, fetch: Fetch) -> Any:
        """The model in a verified publication; without links, it is whole. Raises Corrupt, and what unpickling raises.

        Another lineage has tables and a lock of its own, so who answers from the model before is not disturbed.
        """
        from ..learning import chain, pickling

        if links is None:
            self._reader, self.lock = None, FREE
            return pickling.loads_apart(shell, {})
        reader, lock = self._reader, self.lock
        if reader is None or not reader.goes_on(links):
            reader, lock = chain.Reader(), threading.Lock()
        try:
            for piece in reader.follow(links, fetch):
                with lock:
                    chain.apply(reader.tables, piece)
            with lock:
                model = pickling.loads_apart(shell, reader.tables)
        except BaseException:
            if reader is self._reader:
                self._reader = None  # nobody knows how far it got: the next publication begins afresh
            raise
        self._reader, self.lock = reader, lock
        return model
