"""Where a shard goes on when it is opened: the newest sound checkpoint of this build, else the log.

A checkpoint that is damaged is set aside. One of another build (river, Python or schema) is left as it is, for a process of
that build that may come back; when there are no others, the state is made again by replay.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from ..config import Settings
from ..errors import CodecError, Corrupt, ForeignLog, LogError, OtherBuild, PositionExpired, UnknownStream
from ..keys import KeyRing
from ..lineage import Backfill
from ..log import Log
from ..logs import named
from ..store import CheckpointInfo, Store
from ..store.codec import open_blob
from ..store.links import links_of
from .catchup import kept_past
from .checkpoint import load
from .genesis import genesis
from .learner import Learner, mark
from .protocols import WatchMaker
from .replay import new_learner

logger = logging.getLogger("streamlearn.learn")
GONE: Final = (PositionExpired, ForeignLog, UnknownStream)  # what no waiting mends: a person has to choose


class Begun(NamedTuple):
    """The learner to go on with. `kept_at`: when its checkpoint was put; `past`: what it has still to read of what was there
    when it began; `stopped`: why it must not go on."""

    learner: Learner
    kept_at: float | None = None
    past: Backfill | None = None
    champion_bytes: int = 0
    whole_bytes: int = 0
    stopped: LogError | None = None


def begin(
    settings: Settings, model: str, shard: int, log: Log, store: Store, keys: KeyRing, watches: WatchMaker
) -> Begun:
    """Open a shard. Raises ModelError, Unexpected for a model whose task, stream or labels changed: that is for the operator
    to decide, LogUnavailable, and StoreError."""
    return _Opening(settings, model, shard, log, store, keys, watches).begin()


class _Opening:
    def __init__(
        self, settings: Settings, model: str, shard: int, log: Log, store: Store, keys: KeyRing, watches: WatchMaker
    ) -> None:
        self._settings, self._model, self._shard, self._log = settings, model, shard, log
        self._store, self._keys, self._watches = store, keys, watches
        self._stream = settings.models[model].stream
        self._who = named(model, shard, self._stream)

    def begin(self) -> Begun:
        try:
            return self._recovered()
        except GONE as error:
            return Begun(self._new(0), stopped=error)

    def _new(self, start: int) -> Learner:
        return new_learner(self._settings, self._model, self._shard, start, self._watches)

    def _recovered(self) -> Begun:
        """From the newest sound checkpoint of this build; from the log when there is none."""
        foreign: OtherBuild | None = None
        infos = self._store.checkpoints(self._model, self._shard)
        for info in infos:
            if info.set_aside is not None:
                continue
            try:
                begun = self._opened(info)
            except OtherBuild as error:
                foreign = foreign or error
            except Corrupt as error:
                self._set_aside(info, error)
            else:
                if begun is not None:
                    return begun
        if foreign is not None:
            what = "no checkpoint of this build: the state is made again by replay"
            logger.warning(what, extra=self._who | {"error": str(foreign)})
        return self._from_the_log("start" if foreign is None else "rebuild", len(infos))

    def _from_the_log(self, why: str, unused: int) -> Begun:
        """Everything is to be read again, from where the model begins."""
        origin = genesis(self._settings, self._model, self._shard, self._log)
        first, until = self._log.bounds(self._stream, self._shard)
        learner = new_learner(self._settings, self._model, self._shard, origin.start, self._watches, origin)
        why = "rebuild" if origin.dropped else why  # with trials that cannot be had again it sends fewer signals
        past = Backfill(origin.start, until, origin.start, why) if until > origin.start else None
        say = logger.warning if first or unused else logger.info
        what = {"version": origin.version, "offset": origin.start, "until": until, "why": why, "not_used": unused}
        trimmed = f"; what came before {first} was trimmed, so version {origin.version} learns from what is left"
        say(f"starts from the log{trimmed if origin.trimmed else ''}", extra=self._who | what)
        return Begun(learner, past=past)

    def _opened(self, info: CheckpointInfo) -> Begun | None:
        """From a checkpoint; None when it had to be set aside. Raises OtherBuild, Corrupt, ForeignLog, Unexpected."""
        identity = self._log.identity(self._stream)
        try:
            blob = self._store.checkpoint(info.id)
            sealed = open_blob(blob, self._keys, kind="checkpoint", model=self._model, shard=self._shard)
            kept = sealed.all_parts()
        except OtherBuild:
            raise
        except CodecError as error:
            self._set_aside(info, error)
            return None
        for position in sealed.header.positions:
            if position.log != identity:
                raise ForeignLog(
                    f"{self._model}/{self._shard}: the checkpoint was taken on log {position.log}, this one is {identity}; "
                    "restore that log, or start over"
                )
        learner = self._new(0)
        links = links_of(sealed.header.extra)
        load(learner, kept, self._watches, links, lambda name: self._store.piece(self._model, self._shard, name))
        about = {"version": learner.version, "offset": learner.position, "n": learner.n, "checkpoint": info.id}
        logger.info("recovered", extra=self._who | about)
        past = kept_past(sealed.header.extra, learner.position)
        begun = Begun(learner, info.created, past, len(kept.get("champion", b"")), sum(map(len, kept.values())))
        try:
            self._check_last(learner)
        except GONE as error:
            return begun._replace(stopped=error)
        return begun

    def _check_last(self, learner: Learner) -> None:
        """Raises one of GONE when the log lost records that were read, also when it has grown beyond them since.

        A last record that was trimmed cannot be compared.
        """
        if learner.last_read is None or learner.last_read[0] < self._log.bounds(self._stream, self._shard)[0]:
            return
        offset, was = learner.last_read
        found = self._log.read(self._stream, self._shard, offset, 1)
        if not found or found[0].offset != offset or mark(found[0]) != was:
            raise ForeignLog(
                f"{self._model}/{self._shard}: the record at {self._stream}/{self._shard} offset {offset} is not the one that "
                "was read: the log lost records and has grown again; restore it, or start over"
            )

    def _set_aside(self, info: CheckpointInfo, error: CodecError) -> None:
        self._store.set_aside(info.id, str(error))
        logger.error("checkpoint set aside", extra=self._who | {"checkpoint": info.id, "error": str(error)})
