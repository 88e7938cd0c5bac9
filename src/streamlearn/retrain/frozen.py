"""How a model as it was before a change does on the losses that came after it: a judge who does not learn.

A model that unlearns within some hundred events hides a change from a test on its own losses, which are low again, or lower
than ever, before the fresh window is full. Its last checkpoint from before the change has not unlearned anything. A worker
process takes it through the records since; nothing is learned, stored or sent here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamlearn.config import ModelSettings, StreamSettings
from streamlearn.errors import CodecError, PositionExpired, RetrainError, StoreError, StoreUnavailable
from streamlearn.events import Limits
from streamlearn.keys import KeyRing
from streamlearn.log import Log, pages_below
from streamlearn.store import Store
from streamlearn.store.codec import open_blob
from streamlearn.store.links import kept_checkpoint

if TYPE_CHECKING:
    from streamlearn.learning.loss import Loss
    from streamlearn.learning.recommending import AnyModel

BATCH: Final = 1000

Progress = Callable[[int, int], None]


class FrozenSpec(msgspec.Struct):
    """Whom to ask, and what. Offsets are of one partition, which is the shard's number.

    The champion in the checkpoint `checkpoint` predicts for the features in [start, until); losses count of labels in
    [after, until). `block`: consecutive losses to a mean, for losses that are not 0 or 1.
    """

    model: str
    shard: int
    stream: str
    checkpoint: int
    start: int
    after: int
    until: int
    block: int
    settings: dict[str, Any]
    stream_settings: dict[str, Any]
    limits: dict[str, Any]


class Losses(msgspec.Struct):
    """A window as `drift.confirm` takes it: how many losses, their sum, and means of consecutive ones."""

    n: int
    sum: float
    blocks: list[float]

    @classmethod
    def of(cls, losses: list[float], block: int) -> Losses:
        """The last whole blocks; what is left over at the beginning is in the sum alone."""
        begin = len(losses) % block
        means = [sum(losses[i : i + block]) / block for i in range(begin, len(losses), block)]
        return cls(len(losses), sum(losses), means)


def ask(
    spec: FrozenSpec, open_log: Callable[[], Log], keys: KeyRing, open_store: Callable[[], Store], progress: Progress
) -> bytes:
    """The `Losses`, as MessagePack.

    Raises RetrainError "failed" for a checkpoint or records that are gone or cannot be used, and StoreUnavailable.
    """
    from streamlearn.learning.onlooker import Onlooker  # here, since it brings river: control must start without it

    settings, stream = ModelSettings.model_validate(spec.settings), StreamSettings.model_validate(spec.stream_settings)
    log = open_log()
    try:
        champion, loss = _brought_back(spec, settings, open_store, keys, log.identity(spec.stream))
        limits, place = Limits(**spec.limits), (spec.stream, spec.shard)
        onlooker = Onlooker(spec.model, settings, stream, limits, place, spec.start, spec.after, champion, loss)
        for records in pages_below(log, spec.stream, spec.shard, spec.start, spec.until, BATCH):
            onlooker.feed(records)
            progress(onlooker.position - spec.start, spec.until - spec.start)
    except PositionExpired as error:
        raise RetrainError("failed", str(error)) from error
    finally:
        log.close()
    return msgspec.msgpack.encode(Losses.of(onlooker.losses, spec.block))


def _brought_back(
    spec: FrozenSpec, settings: ModelSettings, open_store: Callable[[], Store], keys: KeyRing, identity: str
) -> tuple[AnyModel, Loss]:
    """The champion of the checkpoint, and the loss as it was measured."""
    from streamlearn.learning.chain import opened  # as above
    from streamlearn.learning.checkpoint import loss_of

    store = open_store()
    try:
        kept = kept_checkpoint(store, spec.checkpoint, spec.model, spec.shard)
        sealed = open_blob(kept.blob, keys, kind="checkpoint", model=spec.model, shard=spec.shard, log=identity)
        return opened(sealed, "champion", kept.fetch), loss_of(settings, sealed.part("rest"))
    except StoreUnavailable:
        raise
    except (StoreError, CodecError) as error:
        raise RetrainError("failed", f"checkpoint {spec.checkpoint} of {spec.model} cannot be used: {error}") from error
    except Exception as error:  # unpickling may raise anything: the class of a pipeline's step may be gone
        raise RetrainError("failed", f"checkpoint {spec.checkpoint} cannot be brought back: {error!r}") from error
    finally:
        store.close()
