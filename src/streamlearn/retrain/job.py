"""A retrain: replay a window of a partition and what follows to the log's head, and give back a sealed version.

A fresh model learns it, or a copy of the champion, see `FitSpec`. What comes out depends on the records read, on the base and
on the seed alone: no clock is read, and `created` is the append time of the last record. A worker process runs it, since it
takes minutes; see `pool` for its limits.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
from pydantic import ValidationError

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.errors import CodecError, ModelError, PositionExpired, RetrainError, StoreError, StoreUnavailable
from streamlearn.events import Limits, Position
from streamlearn.keys import KeyRing
from streamlearn.log import Log, pages_below
from streamlearn.store import Store, codec
from streamlearn.store.links import Kept, Put, kept_checkpoint, kept_version

from .executor import Call, Executor
from .frozen import FrozenSpec, ask
from .limits import report
from .pool import Pool
from .renewal import MEASURED, MEASURED_RECORDS, renew_worst
from .scoring import ScoreSpec, score

if TYPE_CHECKING:
    from streamlearn.learning.trainer import Trainer
    from streamlearn.store.codec import Sealed

BATCH: Final = 1000
WARM: Final = ("streamlearn.retrain.job", "streamlearn.learning.trainer")  # the latter brings river, which takes longest
WARM_AFTER_S: Final = 10.0  # a service that starts has better uses for its processors

Progress = Callable[[int, int], None]
Fetch = Callable[["FitSpec"], Kept]


class Base(msgspec.Struct):
    """What a fit goes on from: a checkpoint of the shard, by its id in the store, or a version that the store keeps."""

    kind: Literal["checkpoint", "version"]
    id: int


class FitSpec(msgspec.Struct, omit_defaults=True):
    """What to fit. Offsets are of one partition; `settings`, `stream_settings` and `limits` are the tables as JSON.

    The fit reads [start, until), passes over its pairs again for each further epoch, and then, once each, over what was
    appended since: to the head until fewer than `catch_up_records` remain or, to make the very same version again, exactly
    to `stop`. With a `base` it goes on from that champion and what waited beside it, which have read to `start`. Records in
    the ranges `skip` ([from, to)) are passed over (`learning.trainer.Trainer.pass_over`).

    `how` is a strategy (`config_retrain.StrategySettings`): with "warm" and "members" the `base` is a checkpoint whose champion
    alone is taken, however far that has read, and learns the window again, with a join of its own. With "members" the worst
    `share` of an ensemble's members are begun anew before. Events of [start, until) count half as much for every `half_life`
    records of age (`learning.sampling.Decay`), 0 for all alike. For further epochs `max_events` are kept.

    `types`: what features are known to be now ("number" or "string"); the window may begin before they were.
    """

    model: str
    version: int
    shard: int
    stream: str
    partition: int
    start: int
    until: int
    epochs: int
    seed: int
    catch_up_records: int
    settings: dict[str, Any]
    stream_settings: dict[str, Any]
    limits: dict[str, Any]
    stop: int | None = None
    base: Base | None = None
    skip: list[tuple[int, int]] = []
    how: Literal["full", "warm", "members"] = "full"
    half_life: float = 0.0
    share: float = 0.5
    max_events: int = 200_000
    types: dict[str, str] = {}

    @property
    def goes_on(self) -> bool:
        """Whether it goes on where its base stopped."""
        return self.base is not None and self.how == "full"

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> FitSpec:
        """Raises RetrainError for what is no FitSpec."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise RetrainError("failed", f"not the description of a fit: {error}") from None


def fit(
    spec: FitSpec, open_log: Callable[[], Log], keys: KeyRing, progress: Progress, fetch: Fetch | None = None,
    put: Put | None = None,
) -> bytes:
    """The version that `spec` describes, as a sealed blob: parts "model" and "join", and the next offset as its position.

    `progress(done, total)` is told records after every batch; `fetch` gives the blob of a base; `put` takes the pieces of large
    tables, which without it are in the blob. Raises what these raise, and RetrainError: "empty" when fewer than
    `retrain.min_events` labelled events came and it does not go on where a base stopped, "failed" for settings that build no
    model, for a base that is gone and for records that the log no longer holds; any other LogError passes through.
    """
    settings = _settings(spec)
    log = open_log()
    try:
        base = _base(spec, fetch, keys, log)
        trainer = _trainer(spec, settings, base)
        trainer.pass_over(spec.skip)
        made = _strategy(spec, settings, trainer, log)
        known = 0 if base is None or spec.goes_on else base.position
        min_events = 0 if spec.goes_on else settings.retrain.min_events
        return _Fit(spec, trainer, log, progress, known, made).run(keys, min_events, put)
    except (PositionExpired, ModelError) as error:
        raise RetrainError("failed", str(error)) from error
    finally:
        log.close()


class Jobs:
    """Fits, questions to models as they were, and the scores of a search, in the workers of `executor`: a pool of one process
    if none is given.

    The workers are started at once; `warm_after_s` later they import what they need, and stay warm. Closing this closes the
    executor.
    """

    def __init__(
        self,
        open_log: Callable[[], Log],
        keys: KeyRing,
        open_store: Callable[[], Store] | None = None,
        executor: Executor | None = None,
        warm_after_s: float = WARM_AFTER_S,
    ) -> None:
        self._open_log, self._keys, self._open_store = open_log, keys, open_store
        self._executor = executor or Pool(1, WARM)
        self._warming = threading.Timer(warm_after_s, self._executor.warm)
        self._warming.daemon = True
        self._warming.start()

    def submit(self, spec: FitSpec, time_limit_s: float, memory_limit_mb: float) -> Call:
        """Begin a fit, or queue it behind others; the result is the sealed version. Raises RetrainError."""
        call = _fit_here, spec.to_bytes(), self._open_log, self._keys, self._open_store
        return self._executor.submit(time_limit_s, memory_limit_mb, *call)

    def ask(self, spec: FrozenSpec, time_limit_s: float, memory_limit_mb: float) -> Call:
        """Begin to take a model as it was through records, or queue that; the result is its losses. Raises RetrainError."""
        if self._open_store is None:
            raise RetrainError("failed", "no store was given to find a checkpoint in")
        call = ask, spec, self._open_log, self._keys, self._open_store, report
        return self._executor.submit(time_limit_s, memory_limit_mb, *call)

    def score(self, spec: ScoreSpec, time_limit_s: float, memory_limit_mb: float) -> Call:
        """Begin to score a candidate of a search, or queue that; the result is `Scored`. Raises RetrainError."""
        return self._executor.submit(time_limit_s, memory_limit_mb, score, spec, self._open_log, report)

    def close(self) -> None:
        """Cancel what runs, and let the workers go."""
        self._warming.cancel()
        self._warming.join()
        self._executor.close()


class _Base(NamedTuple):
    """A base that was verified, what fetches its pieces, and the next offset that it would have read."""

    sealed: Sealed
    fetch: Callable[[str], bytes | None]
    position: int


class _Fit:
    """`known`: below this offset the model may have learned events before, so what it predicts for them is no rehearsal.
    `made`: what the header is to say of the strategy."""

    def __init__(
        self, spec: FitSpec, trainer: Trainer, log: Log, progress: Progress, known: int, made: dict[str, Any]
    ) -> None:
        self._spec, self._trainer, self._log, self._progress = spec, trainer, log, progress
        self._known, self._made = known, made
        self._repeated = 0
        self._last_ts = 0.0

    def run(self, keys: KeyRing, min_events: int, put: Put | None) -> bytes:
        from streamlearn.learning.chain import put_model  # here, since these bring river
        from streamlearn.learning.summary import summarize
        from streamlearn.learning.trainer import REHEARSED_RECORDS

        spec, trainer = self._spec, self._trainer
        trainer.rehearse_from = max(spec.until - REHEARSED_RECORDS, self._known)
        self._read_to(spec.until)
        for epoch in range(1, spec.epochs):
            trainer.repeat()
            self._repeated = epoch * (spec.until - spec.start)
            self._tell(spec.until)
        repeated = trainer.repeated
        trainer.forget_pairs()
        if spec.stop is not None:
            self._read_to(spec.stop)
        else:
            self._catch_up()
        came = trainer.learned + trainer.thinned
        if came < min_events:
            raise RetrainError(
                "empty",
                f"{came} labelled events in offsets {spec.start} to {trainer.position} of "
                f"{spec.stream}/{spec.partition}; retrain.min_events asks for {min_events}",
            )
        model, apart = put_model(trainer.model, f"{spec.model}.{spec.shard}.v{spec.version}", put)
        return codec.encode(
            kind="version",
            model=spec.model,
            version=spec.version,
            shard=spec.shard,
            generation=0,
            positions=[Position(self._log.identity(spec.stream), spec.stream, spec.partition, trainer.position)],
            created=self._last_ts,
            parts={"model": model, **trainer.parts()},
            keys=keys,
            extra={
                "start": spec.start, "learned": trainer.learned, "skipped": trainer.skipped,
                "summary": summarize(trainer.model),
            } | apart | _origin(spec) | self._made | _sampled(trainer, repeated),
        )

    def _catch_up(self) -> None:
        read = self._trainer.position
        while True:
            end = self._log.bounds(self._spec.stream, self._spec.partition)[1]
            if end - read < self._spec.catch_up_records:
                return
            self._read_to(end)
            read = end

    def _read_to(self, end: int) -> None:
        spec, trainer = self._spec, self._trainer
        for records in pages_below(self._log, spec.stream, spec.partition, trainer.position, end, BATCH):
            trainer.feed(records)
            self._last_ts = records[-1].ts
            self._tell(end)
        if trainer.position < end and self._log.bounds(spec.stream, spec.partition)[1] < end:  # else a broker's marks are left
            raise RetrainError("failed", f"{spec.stream}/{spec.partition} ends at {trainer.position}, before {end}")

    def _tell(self, end: int) -> None:
        spec = self._spec
        repeats = (spec.epochs - 1) * (spec.until - spec.start)
        self._progress(self._trainer.position - spec.start + self._repeated, max(end, spec.until) - spec.start + repeats)


def _settings(spec: FitSpec) -> ModelSettings:
    try:
        settings = ModelSettings.model_validate(spec.settings)
    except ValidationError as error:
        raise RetrainError("failed", f"the settings of {spec.model} in the description of the fit: {error}") from error
    strategy = settings.retrain.strategy.model_copy(update={"max_events": spec.max_events})
    retrain = settings.retrain.model_copy(update={"epochs": spec.epochs, "strategy": strategy})
    return settings.model_copy(update={"seed": spec.seed, "retrain": retrain})


def _origin(spec: FitSpec) -> dict[str, Any]:
    """What a version's header says of a base and of what was passed over; nothing of a plain fit."""
    base = {} if spec.base is None else {"base": [spec.base.kind, spec.base.id]}
    return base | ({"passed_over": spec.skip} if spec.skip else {})


def _sampled(trainer: Trainer, repeated: tuple[int, int]) -> dict[str, Any]:
    """What a version's header says of events that were not learned, or not as often as others; nothing where there are none."""
    kept, of = repeated
    sample = {"sample": {"kept": kept, "of": of}} if kept < of else {}
    return sample | ({} if trainer.decay is None else {"thinned": trainer.thinned})


def base_blob(store: Store, spec: FitSpec) -> Kept:
    """What the fit goes on from. Raises RetrainError when it is gone, StoreUnavailable."""
    base = spec.base
    assert base is not None
    what = f"{base.kind} {base.id} of {spec.model}, shard {spec.shard}, which version {spec.version} goes on from"
    try:
        if base.kind == "checkpoint":
            return kept_checkpoint(store, base.id, spec.model, spec.shard)
        kept = kept_version(store, spec.model, base.id, spec.shard)
    except StoreUnavailable:
        raise
    except StoreError as error:
        raise RetrainError("failed", f"{what}, is no longer in the store: {error}") from error
    if kept is None:
        raise RetrainError("failed", f"{what}, is no longer in the store")
    return kept


def _base(spec: FitSpec, fetch: Fetch | None, keys: KeyRing, log: Log) -> _Base | None:
    base = spec.base
    if base is None:
        if spec.how != "full":
            raise RetrainError("failed", f'version {spec.version} of {spec.model}: the strategy "{spec.how}" needs a base')
        return None
    if fetch is None:
        raise RetrainError("failed", f"version {spec.version} of {spec.model} has a base, and no store was given to find it in")
    kept, version = fetch(spec), base.id if base.kind == "version" else None
    try:
        sealed = codec.open_blob(
            kept.blob, keys, kind=base.kind, model=spec.model, shard=spec.shard, version=version, log=log.identity(spec.stream)
        )
        read_to = [at.offset for at in sealed.header.positions if at.partition == spec.partition]
        if len(read_to) != 1 or (spec.goes_on and read_to[0] != spec.start):
            raise RetrainError("failed", f"{base.kind} {base.id} of {spec.model} has read to {read_to}, not to {spec.start}")
        return _Base(sealed, kept.fetch, read_to[0])
    except CodecError as error:
        raise _unusable(spec, error) from error


def _unusable(spec: FitSpec, error: CodecError) -> RetrainError:
    assert spec.base is not None
    return RetrainError("failed", f"{spec.base.kind} {spec.base.id} of {spec.model} cannot be used: {error}")


def _trainer(spec: FitSpec, settings: ModelSettings, base: _Base | None) -> Trainer:
    from streamlearn.learning.chain import opened  # here, since these bring river: control must start without it
    from streamlearn.learning.trainer import Trainer

    try:
        stream, limits = StreamSettings.model_validate(spec.stream_settings), Limits(**spec.limits)
        if base is None:
            trainer = Trainer.new(spec.model, settings, stream, limits, spec.stream, spec.partition, spec.start)
            trainer.accept(spec.types)
            return trainer
    except (ValidationError, TypeError, ModelError) as error:
        raise RetrainError("failed", f"version {spec.version} of {spec.model} cannot be built: {error}") from error
    about = spec.model, settings, stream, limits, spec.stream, spec.partition
    try:
        fitted = opened(base.sealed, "champion" if base.sealed.header.kind == "checkpoint" else "model", base.fetch)
        if spec.goes_on:
            return Trainer.restore(*about, fitted, {"join": base.sealed.part("join")})
        return Trainer.warm(*about, spec.start, fitted)
    except (MemoryError, StoreUnavailable):
        raise
    except CodecError as error:
        raise _unusable(spec, error) from error
    except Exception as error:  # unpickling may raise anything: the class of a pipeline's step may be gone
        raise RetrainError("failed", f"what version {spec.version} goes on from cannot be brought back: {error!r}") from error


def _strategy(spec: FitSpec, settings: ModelSettings, trainer: Trainer, log: Log) -> dict[str, Any]:
    """Prepare the trainer as the strategy has it; what the version's header is to say of that."""
    from streamlearn.learning.onlooker import Gatherer
    from streamlearn.learning.sampling import Decay

    if spec.half_life:
        trainer.decay = Decay(spec.until, spec.half_life, spec.seed)
    if spec.how != "members":
        return {} if spec.how == "full" else {"strategy": {"how": spec.how}}
    stream, limits = StreamSettings.model_validate(spec.stream_settings), Limits(**spec.limits)
    place = spec.stream, spec.partition
    start = max(spec.start, spec.until - MEASURED_RECORDS)
    gatherer = Gatherer(spec.model, settings, stream, limits, place, start, trainer.model, MEASURED)
    gatherer.pass_over(spec.skip)
    done = renew_worst(gatherer, log, spec.until, spec.share)
    return {"strategy": {"how": "warm" if "instead" in done else spec.how, **done}}


def _fit_here(spec: bytes, open_log: Callable[[], Log], keys: KeyRing, open_store: Callable[[], Store] | None) -> bytes:
    """In a worker: it opens the store only for a fit that may need it."""
    wanted = FitSpec.from_bytes(spec)
    if open_store is None or (wanted.base is None and wanted.settings.get("task") != "recommend"):
        return fit(wanted, open_log, keys, report)
    store = open_store()
    try:
        put = functools.partial(store.put_version_piece, wanted.model, wanted.version, wanted.shard)
        return fit(wanted, open_log, keys, report, functools.partial(base_blob, store), put)
    finally:
        store.close()
