"""What a command does to a learner: try, detach, canary, promote, roll back, hold, resume, reset. Applied at its own position.

Each is answered by a signal, "applied" or "refused"; a repeated command (its `seq` is not above the last one's) is passed
over in silence. Nothing here reads a log or a store: the version to try comes as a trainer, already brought up to date.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from ..lineage import REBUILT
from ..records import RESUME_MODES, Command
from .arms import Arms
from .breakdown import Breakdown
from .canary import Canary
from .held import Lesson, Repair
from .learner import Learner
from .paired import PairedBlocks
from .recommending import AnyModel
from .refusal import Refusal as Refusal
from .summary import known_features
from .trainer import Trainer

Prepared = Trainer | Repair | None  # what a command needs that was read before: a version to try, or a held range
MANY: Final = 1000  # open blocks, each of which is state, and a signal once it is closed


def apply(learner: Learner, command: Command, prepared: Prepared | Refusal) -> None:
    """Carry out `command`. `prepared` holds what a "try" or a "resume" needs, or why it cannot be had."""
    if command.seq <= learner.last_command:
        return
    learner.last_command = command.seq
    about: dict[str, Any] = {"verb": command.verb, "seq_of": command.seq}
    held_from, former = learner.held_from, learner.champion
    try:
        if isinstance(prepared, Refusal):
            raise prepared
        act = _VERBS.get(command.verb)
        if act is None:
            raise Refusal("unknown_verb", f"this learner does not know {command.verb!r}; it knows {sorted(_VERBS)}")
        act(learner, command, prepared)
    except Refusal as refusal:
        learner.tell("refused", {**about, "reason": refusal.reason, "detail": refusal.detail})
        return
    learner.bind()
    if held_from is not None and learner.held is None:
        about |= {"held": [held_from, learner.position], "mode": command.mode if command.verb == "resume" else "skip"}
    if command.verb in ("promote", "rollback"):
        about["knew"] = known_features(former)
    learner.tell(
        "applied", {**about, "version": learner.version, "shadow": learner.shadow_version, "offset": learner.position}
    )


def block_size(learner: Learner) -> int:
    """Questions in a block: at least `trial.min_block`, and so many that nearly all labels come while MANY blocks are open.

    "Nearly all" is the 95th percentile of the label delay, in questions.
    """
    delays = sorted(learner.delays)
    late = delays[math.ceil(0.95 * len(delays)) - 1] if delays else 0
    return max(learner.settings.trial.min_block, math.ceil(late / MANY))


def _try(learner: Learner, command: Command, trainer: Prepared) -> None:
    if not isinstance(trainer, Trainer) or command.version is None:
        raise Refusal("unknown_version", "the command names no version that could be loaded or made again")
    _park_old_champion(learner)
    trainer.model.adopt(learner.champion)
    arms = _arms(learner, command, (learner.version, command.version))
    learner.end_trial()
    learner.shadow, learner.shadow_version = trainer.model, command.version
    if learner.settings.task == "recommend":
        learner.arms, learner.canary = arms
        return
    breakdown = Breakdown.of(learner.settings)
    size = block_size(learner)
    learner.blocks = PairedBlocks(command.seq, size, breakdown=breakdown)
    rehearsal = _rehearsal(learner, trainer, size)
    if rehearsal:
        learner.tell("rehearsal", {"trial": command.seq, "blocks": rehearsal})


def _rehearsal(learner: Learner, trainer: Trainer, size: int) -> list[tuple[int, float, float]]:
    """Blocks [events, champion's losses, challenger's] of what both predicted before the trial, the oldest first.

    The challenger while it was fitted, the champion as it served. They are experience alone: nothing is decided by them.
    """
    rehearsed = trainer.rehearsed
    champion = learner.watch.since(min(offset for offset, _, _ in rehearsed)) if rehearsed else {}
    pairs = [
        (champion[offset], loss)
        for offset, y, predicted in rehearsed
        if offset in champion and (loss := learner.loss(y, predicted)) is not None
    ]
    blocks = [pairs[i : i + size] for i in range(len(pairs) % size, len(pairs), size)]
    return [(size, sum(pair[0] for pair in block), sum(pair[1] for pair in block)) for block in blocks]


def _detach(learner: Learner, command: Command, prepared: Prepared) -> None:
    if learner.shadow is None:
        raise Refusal("not_in_trial", "there is no shadow to detach")
    _park_old_champion(learner)
    learner.end_trial()


def _arms(learner: Learner, command: Command, versions: tuple[int, int]) -> tuple[Arms, Canary] | tuple[None, None]:
    """The arms by which a recommender's champion and challenger are compared, from here on; none without a share."""
    if learner.settings.task != "recommend":
        return None, None
    return Arms.of(command, learner.settings, versions, block_size(learner), learner.position) or (None, None)


def _canary(learner: Learner, command: Command, prepared: Prepared) -> None:
    blocks = learner.blocks
    if blocks is None or learner.shadow_was_champion or command.version is None or learner.shadow_version != command.version:
        raise Refusal("not_in_trial", f"version {command.version} is not on trial (the shadow is {learner.shadow_version})")
    if not 0.0 < command.share < 1.0:
        raise Refusal("bad_share", f"the challenger cannot answer for a share of {command.share:g}; it lies in (0, 1)")
    since = -(-blocks.asked // blocks.size)
    learner.canary = Canary(command.version, command.share, command.salt, command.seq, since)


def _promote(learner: Learner, command: Command, prepared: Prepared) -> None:
    if learner.shadow is None or learner.shadow_version != command.version:
        raise Refusal("not_in_trial", f"version {command.version} is not the shadow ({learner.shadow_version} is)")
    former = learner.champion
    arms = _arms(learner, command, (learner.shadow_version or 0, learner.version))
    _swap(learner)
    learner.shadow_was_champion = True
    if learner.settings.task == "recommend":
        learner.arms, learner.canary = arms
    else:
        learner.blocks, learner.canary = PairedBlocks(command.seq, block_size(learner)), None
    _serve_anew(learner, former)


def _roll_back(learner: Learner, command: Command, prepared: Prepared) -> None:
    former = learner.champion
    in_shadow = learner.shadow is not None and learner.shadow_was_champion
    back = learner.shadow_version if in_shadow else learner.parked_version
    if command.version is not None and back is not None and command.version != back:
        raise Refusal("no_previous", f"version {command.version} is no longer kept; going back would serve version {back}")
    if in_shadow:
        _swap(learner)
        learner.parked, learner.parked_version = learner.shadow, learner.shadow_version
    elif learner.parked is not None and learner.parked_version is not None:
        version = learner.version
        learner.champion, learner.version = learner.parked, learner.parked_version
        learner.parked, learner.parked_version = former, version
    else:
        raise Refusal("no_previous", "no earlier champion is kept: nothing was promoted since the learner began")
    learner.end_trial()
    _serve_anew(learner, former)


def _hold(learner: Learner, command: Command, prepared: Prepared) -> None:
    if learner.held is not None:
        raise Refusal("held", f"the model is held already: {learner.held}")
    learner.hold(command.reason or "asked")


def _resume(learner: Learner, command: Command, held: Prepared) -> None:
    if learner.held is None:
        raise Refusal("not_held", "the model is not held")
    if command.mode not in RESUME_MODES:
        raise Refusal("unknown_mode", f"there is no mode {command.mode!r}; a held range can be resumed with {RESUME_MODES}")
    learner.odd_in_a_row = 0
    if isinstance(held, Lesson | Repair):
        held.finish(learner)
    else:
        learner.resume()
    learner.champion.accepted |= command.accepts


def _reset(learner: Learner, command: Command, prepared: Prepared) -> None:
    learner.watch.reset(command.confirmed)
    if command.reason == REBUILT:
        # The former build may have sent more signals than this one did from the same records, but never two for each.
        learner.signal_seq = max(learner.signal_seq, 2 * learner.position)


def _swap(learner: Learner) -> None:
    assert learner.shadow is not None
    assert learner.shadow_version is not None
    champion, version = learner.champion, learner.version
    learner.champion, learner.version = learner.shadow, learner.shadow_version
    learner.shadow, learner.shadow_version = champion, version


def _park_old_champion(learner: Learner) -> None:
    if learner.shadow_was_champion:
        learner.parked, learner.parked_version = learner.shadow, learner.shadow_version


def _serve_anew(learner: Learner, former: AnyModel) -> None:
    """Another champion serves: a hold was the former one's, and its losses say nothing of this one's."""
    learner.champion.adopt(former)
    learner.odd_in_a_row = 0
    if learner.held is not None:
        learner.resume()
    learner.watch.begin_recovery(learner.n)
    learner.course.forget()


_VERBS: Final[dict[str, Callable[[Learner, Command, Prepared], None]]] = {
    "try": _try,
    "detach": _detach,
    "canary": _canary,
    "promote": _promote,
    "rollback": _roll_back,
    "hold": _hold,
    "resume": _resume,
    "reset": _reset,
}
