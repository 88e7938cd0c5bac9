"""What a publication holds: the champion, and while a canary is on the challenger beside it, with the share of keys it answers.

Both go out as one blob, so that whoever serves swaps all of it at once. Nothing here writes.
"""

from __future__ import annotations

from typing import Any, Final

from .chain import shell
from .learner import ODD_IN_A_ROW, Learner
from .recommending import AnyModel

Standing = tuple[int, int, int, int]
NO_CANARY: Final = -1


def standing(learner: Learner) -> Standing:
    """What a publication is made anew for: labelled events, version, what taught beside events, and the canary's step."""
    return learner.n, learner.version, learner.taught, NO_CANARY if learner.canary is None else learner.canary.step


def stands_still(learner: Learner, published: Standing) -> bool:
    """Whether a held learner has nothing to publish. A canary that began or ended is told all the same, and what a recommender
    is told of its items, unless the champion is ruined: what is served then is its last good state."""
    if learner.held is None:
        return False
    return standing(learner)[1:] == published[1:] or learner.odd_in_a_row >= ODD_IN_A_ROW


def models(learner: Learner) -> dict[str, AnyModel]:
    """By the part that each is: "model", and "challenger" while a canary is on."""
    if learner.canary is None or learner.shadow is None:
        return {"model": learner.champion}
    return {"model": learner.champion, "challenger": learner.shadow}


def parts(learner: Learner) -> dict[str, bytes]:
    """The models, pickled; of recommenders without their tables, see `chain`."""
    return {name: shell(model) for name, model in models(learner).items()}


def extra(learner: Learner) -> dict[str, Any]:
    """What the header says beside version and position: n, and the canary {version, share, salt} while one is on."""
    canary = {} if learner.canary is None else {"canary": learner.canary.extra}
    return {"n": learner.n, **canary}
