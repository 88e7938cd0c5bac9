"""A learner's whole state as named parts, and back; and the digest by which two runs are compared.

The parts "champion", "shadow", "parked" and "watch" are pickles, so they are only opened from a verified blob; the others
are MessagePack. Equality of two runs is equality of named values (`digest`), never of pickled bytes; "read" tells of the log
and not of the model, and is not among them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..config import ModelSettings
from ..errors import Corrupt, StoreUnavailable, Unexpected
from ..keys import KeyRing
from ..recommend.hearing import Heard
from ..store.codec import open_blob
from ..store.links import Fetch, Links, no_pieces
from . import chain, pickling
from .arms import Arms
from .baselines import Baselines
from .canary import Canary
from .chain import shell
from .course import Course
from .digest import digest as digest_of
from .inorder import InOrder
from .learner import DELAYS, Learner
from .loss import Loss, Scaled, make_loss
from .paired import PairedBlocks
from .pending import Join
from .protocols import WatchMaker
from .recommending import AnyModel
from .scores import Scores
from .waiting import JoinState

_MODELS: Final = ("champion", "shadow", "parked")


class _Rest(msgspec.Struct):
    """The small values of a learner."""

    stream: str
    task: str
    labels: list[Any]
    version: int
    shadow_version: int | None
    parked_version: int | None
    shadow_was_champion: bool
    blocks: PairedBlocks | None
    baselines: Baselines
    in_order: InOrder | None
    scale: Scaled | None
    held: str | None
    held_from: int | None
    held_ranges: list[tuple[int, int]]
    n: int
    odd_in_a_row: int
    signal_seq: int
    last_command: int
    outcomes: dict[int, list[float]]
    delays: list[int]
    canary: Canary | None = None
    course: Course = msgspec.field(default_factory=Course)
    waits: list[float] = []
    arms: Arms | None = None
    taught: int = 0
    telling: list[Heard] = []


def models(learner: Learner) -> dict[str, AnyModel]:
    """By the part that each is."""
    return {name: model for name in _MODELS if (model := getattr(learner, name)) is not None}


def parts(learner: Learner, *, apart: bool = False) -> dict[str, bytes]:
    """Everything that `load` needs, by name; with `apart` but for the tables of recommenders, see `chain`."""
    pickled = shell if apart else pickling.dumps
    out = {
        "join": learner.join.state(),
        "scores": learner.scores.state(),
        "watch": learner.watch.state(),
        "rest": _rest(learner),
        "read": msgspec.msgpack.encode(learner.last_read),
    }
    out |= {name: pickled(model) for name, model in models(learner).items()}
    if learner.held_join is not None:
        out["held_join"] = learner.held_join
    return out


def load(
    learner: Learner, kept: Mapping[str, bytes], watches: WatchMaker, links: Mapping[str, Links] | None = None,
    fetch: Fetch = no_pieces,
) -> None:
    """Make a new learner the one whose `parts` were kept; `links` are those of its header, and `fetch` finds their pieces.

    Raises Unexpected when the model's task, stream or labels changed, Corrupt for what cannot be brought back, such as a
    pickle of a class that is gone: that learner is then spoilt.
    """
    try:
        rest = msgspec.msgpack.decode(kept["rest"], type=_Rest)
    except (KeyError, msgspec.DecodeError) as error:
        raise Corrupt(f"{learner.name}: the part 'rest' cannot be read: {error}") from error
    settings = learner.settings
    if (rest.task, rest.stream, rest.labels) != (settings.task, settings.stream, list(settings.labels)):
        raise Unexpected(
            f"{learner.name}: the checkpoint is of task {rest.task!r} on stream {rest.stream!r} with labels {rest.labels}; "
            "give the changed model a new name"
        )
    try:
        _restore(learner, kept, rest, watches, links or {}, fetch)
    except StoreUnavailable:
        raise
    except Exception as error:  # unpickling may raise anything
        raise Corrupt(f"{learner.name}: the checkpoint cannot be brought back: {error!r}") from error
    learner.bind()


def _restore(
    learner: Learner, kept: Mapping[str, bytes], rest: _Rest, watches: WatchMaker, links: Mapping[str, Links], fetch: Fetch
) -> None:
    learner.join.load(kept["join"])
    learner.scores = Scores.restore(kept["scores"])
    if rest.scale is not None:
        learner.loss = rest.scale
    learner.watch = watches.restore(learner.settings.drift, learner.loss.kind, kept["watch"])
    for name in _MODELS:
        model: AnyModel | None = chain.load(kept[name], links.get(name), fetch) if name in kept else None
        if model is not None:
            model.bound(learner.limits, learner.settings)
        setattr(learner, name, model)
    for name in (
        "version", "shadow_version", "parked_version", "shadow_was_champion", "blocks", "baselines", "in_order",
        "held", "held_from", "held_ranges", "n", "odd_in_a_row", "signal_seq", "last_command", "outcomes", "canary",
        "course", "arms", "taught", "telling",
    ):  # fmt: skip
        setattr(learner, name, getattr(rest, name))
    learner.held_join = kept.get("held_join")
    learner.delays, learner.waits = deque(rest.delays, maxlen=DELAYS), deque(rest.waits, maxlen=DELAYS)
    learner.read_before = msgspec.msgpack.decode(kept["read"], type=tuple[int, int] | None)


def loss_of(model: ModelSettings, rest: bytes) -> Loss:
    """The loss as the learner measures it whose part "rest" is given: a number's error is on the scale that it has settled on.

    Raises msgspec.DecodeError.
    """
    return msgspec.msgpack.decode(rest, type=_Rest).scale or make_loss(model)


def digest(learner: Learner) -> str:
    """SHA-256 over the learner's named values: weights, counts, scores, waiting events, position."""
    total = hashlib.sha256()
    for name in _MODELS:
        model: AnyModel | None = getattr(learner, name)
        values = None if model is None else (model.estimator, model.types, model.label_type)
        total.update(f"{name}:{digest_of(values)}\n".encode())
    total.update(f"watch:{digest_of(learner.watch)}\n".encode())
    for part in (learner.join.state(), learner.held_join or b"", learner.scores.state(), _rest(learner)):
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def _rest(learner: Learner) -> bytes:
    return msgspec.msgpack.encode(
        _Rest(
            learner.settings.stream,
            learner.settings.task,
            list(learner.settings.labels),
            learner.version,
            learner.shadow_version,
            learner.parked_version,
            learner.shadow_was_champion,
            learner.blocks,
            learner.baselines,
            learner.in_order,
            learner.loss if isinstance(learner.loss, Scaled) else None,
            learner.held,
            learner.held_from,
            learner.held_ranges,
            learner.n,
            learner.odd_in_a_row,
            learner.signal_seq,
            learner.last_command,
            learner.outcomes,
            list(learner.delays),
            learner.canary,
            learner.course,
            list(learner.waits),
            learner.arms,
            learner.taught,
            learner.telling,
        )
    )


class Ledger(msgspec.Struct):
    """What a learner's state says of the events it took: ids still remembered with their labels, and its counters."""

    position: int
    learned: int
    labels: dict[str, Any]
    pending: int
    early: int
    counters: dict[str, int]


def ledger(blob: bytes, keys: KeyRing, model: str, shard: int) -> Ledger:
    """Read a checkpoint's account of ids without opening any pickle. Raises CodecError."""
    sealed = open_blob(blob, keys, kind="checkpoint", model=model, shard=shard)
    state = msgspec.msgpack.decode(sealed.part("join"), type=JoinState)
    rest = msgspec.msgpack.decode(sealed.part("rest"), type=_Rest)
    labels = Join.labels_of(state)
    return Ledger(state.position, rest.n, labels, len(state.pending), len(state.early), state.counters)
