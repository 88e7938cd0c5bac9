"""What a publication holds: the champion, and while a canary is on the challenger beside it, with the share of keys it answers.

Both go out as one blob, so that whoever serves swaps all of it at once. Nothing here writes.
"""

from __future__ import annotations

from typing import Any, Final

from . import pickling
from .learner import ODD_IN_A_ROW, Learner

Standing = tuple[int, int, int, int]
NO_CANARY: Final = -1


def standing(learner: Learner) -> Standing:
    """What a publication is made anew for: labelled events, version, the canary's step, and what taught beside them."""
    return learner.n, learner.version, NO_CANARY if learner.canary is None else learner.canary.step, learner.taught


def stands_still(learner: Learner, published: Standing) -> bool:
    """Whether a held learner has nothing to publish. A canary that began or ended is told all the same, and what a recommender
    is told of its items, unless the champion is ruined: what is served then is its last good state."""
    if learner.held is None:
        return False
    return standing(learner)[1:] == published[1:] or learner.odd_in_a_row >= ODD_IN_A_ROW


def parts(learner: Learner) -> dict[str, bytes]:
    """The models, pickled: "model", and "challenger" while a canary is on."""
    named = {"model": pickling.dumps(learner.champion)}
    if learner.canary is not None and learner.shadow is not None:
        named["challenger"] = pickling.dumps(learner.shadow)
    return named


def extra(learner: Learner) -> dict[str, Any]:
    """What the header says beside version and position: n, and the canary {version, share, salt} while one is on."""
    canary = {} if learner.canary is None else {"canary": learner.canary.extra}
    return {"n": learner.n, **canary}
