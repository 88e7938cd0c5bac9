"""The member update of a retrain: of a copy of an ensemble, the members that do worst of late are begun anew.

The whole ensemble learns the window then: the new members from nothing, the others on top of what they know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamlearn.log import Log, pages_below

if TYPE_CHECKING:
    from streamlearn.learning.onlooker import Gatherer

MEASURED: Final = 1000  # labelled events, the last of the window, on which members are compared
MEASURED_RECORDS: Final = 4 * MEASURED  # in which these are looked for: features and labels may come apart
BATCH: Final = 1000


def renew_worst(gatherer: Gatherer, log: Log, until: int, share: float) -> dict[str, Any]:
    """Measure each member of the gatherer's model on what it gathers up to `until`, and begin the worst `share` anew.

    What a version's header says of it: `renewed` (indices), the members' `losses` and the `events` that these are means over;
    or, for a model that has no members that can be begun anew, `instead`, why it learns on as it is. Raises LogError.
    """
    from streamlearn.learning import members  # here, since it brings river: control must start without it

    model, place = gatherer.model, gatherer.place
    found = members.members(model.estimator)
    if not found:
        what = "no ensemble whose members can be begun anew" if found is None else "an ensemble without members yet"
        return {"instead": f"the pipeline ends in {what}: a warm start was made"}
    for records in pages_below(log, *place, gatherer.position, until, BATCH):
        gatherer.feed(records)
    means, n = members.losses(model.estimator, gatherer.pairs)
    if not n:
        return {"instead": "no labelled event to measure the members on: a warm start was made"}
    renewed = members.worst(means, share)
    members.renew(model.estimator, renewed)
    model.changed()
    return {"renewed": renewed, "losses": [round(mean, 6) for mean in means], "events": n}
