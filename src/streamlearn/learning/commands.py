"""What a command does to a learner: try, detach, promote, roll back, hold, resume, reset. Applied at its own position.

Each is answered by a signal, "applied" or "refused"; a repeated command (its `seq` is not above the last one's) is passed
over in silence. Nothing here reads a log or a store: the version to try comes as a trainer, already brought up to date.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from ..records import Command
from .learner import Learner
from .model import Model
from .paired import PairedBlocks
from .trainer import Trainer


class Refusal(Exception):
    """A command cannot be carried out: a stable reason and a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def apply(learner: Learner, command: Command, trainer: Trainer | Refusal | None) -> None:
    """Carry out `command`. `trainer` holds the version that a "try" names, or why it cannot be had."""
    if command.seq <= learner.last_command:
        return
    learner.last_command = command.seq
    about = {"verb": command.verb, "seq_of": command.seq}
    try:
        if isinstance(trainer, Refusal):
            raise trainer
        act = _VERBS.get(command.verb)
        if act is None:
            raise Refusal("unknown_verb", f"this learner does not know {command.verb!r}; it knows {sorted(_VERBS)}")
        act(learner, command, trainer)
    except Refusal as refusal:
        learner.tell("refused", {**about, "reason": refusal.reason, "detail": refusal.detail})
        return
    learner.bind()
    learner.tell(
        "applied", {**about, "version": learner.version, "shadow": learner.shadow_version, "offset": learner.position}
    )


def block_size(learner: Learner) -> int:
    """Questions in a block: at least `trial.min_block`, and the 95th percentile of the label delay in questions."""
    delays = sorted(learner.delays)
    late = delays[math.ceil(0.95 * len(delays)) - 1] if delays else 0
    return max(learner.settings.trial.min_block, late)


def _try(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    if trainer is None or command.version is None:
        raise Refusal("unknown_version", "the command names no version that could be loaded or made again")
    _park_old_champion(learner)
    trainer.model.adopt(learner.champion)
    learner.shadow, learner.shadow_version = trainer.model, command.version
    learner.shadow_was_champion = False
    learner.blocks = PairedBlocks(command.seq, block_size(learner))


def _detach(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    if learner.shadow is None:
        raise Refusal("not_in_trial", "there is no shadow to detach")
    _park_old_champion(learner)
    learner.shadow = learner.shadow_version = learner.blocks = None
    learner.shadow_was_champion = False


def _promote(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    if learner.shadow is None or learner.shadow_version != command.version:
        raise Refusal("not_in_trial", f"version {command.version} is not the shadow ({learner.shadow_version} is)")
    former = learner.champion
    _swap(learner)
    learner.shadow_was_champion = True
    learner.blocks = PairedBlocks(command.seq, block_size(learner))
    _serve_anew(learner, former)


def _roll_back(learner: Learner, command: Command, trainer: Trainer | None) -> None:
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
    learner.shadow = learner.shadow_version = learner.blocks = None
    learner.shadow_was_champion = False
    _serve_anew(learner, former)


def _hold(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    if learner.held is not None:
        raise Refusal("held", f"the model is held already: {learner.held}")
    learner.hold(command.reason or "asked")


def _resume(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    if learner.held is None:
        raise Refusal("not_held", "the model is not held")
    if command.mode != "skip":
        raise Refusal("unknown_mode", f"a held range can only be skipped, not {command.mode!r}")
    learner.odd_in_a_row = 0
    learner.resume()


def _reset(learner: Learner, command: Command, trainer: Trainer | None) -> None:
    learner.watch.reset(command.confirmed)


def _swap(learner: Learner) -> None:
    assert learner.shadow is not None
    assert learner.shadow_version is not None
    champion, version = learner.champion, learner.version
    learner.champion, learner.version = learner.shadow, learner.shadow_version
    learner.shadow, learner.shadow_version = champion, version


def _park_old_champion(learner: Learner) -> None:
    if learner.shadow_was_champion:
        learner.parked, learner.parked_version = learner.shadow, learner.shadow_version


def _serve_anew(learner: Learner, former: Model) -> None:
    """Another champion serves: a hold was the former one's, and its losses say nothing of this one's."""
    learner.champion.adopt(former)
    learner.odd_in_a_row = 0
    if learner.held is not None:
        learner.resume()
    learner.watch.begin_recovery(learner.n)


_VERBS: Final[dict[str, Callable[[Learner, Command, Trainer | None], None]]] = {
    "try": _try,
    "detach": _detach,
    "promote": _promote,
    "rollback": _roll_back,
    "hold": _hold,
    "resume": _resume,
    "reset": _reset,
}
