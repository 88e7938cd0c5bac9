"""How river's Gaussians are pickled, copied and compared: by what they have learned, without the generator they never use.

river gives each Gaussian its own unseeded `random.Random`, for `sample` alone. A tree holds thousands: that is 2.5 kB apiece
in every checkpoint, and no two replays agree. Nothing else of river may be changed here.
"""

from __future__ import annotations

import copyreg
import gc
import random
from typing import Any, Final

from river import proba

_FIELDS: Final = frozenset({"seed", "_rng", "_var"})
_SAMPLER: Final = random.Random(0)


def install() -> None:
    """Make it so in this process, once and for all; a pickle made so is read anywhere that streamlearn is installed."""
    copyreg.pickle(proba.Gaussian, _reduce)


def restore(moments: Any) -> proba.Gaussian:
    """The Gaussian with these learned `moments`, a `river.stats.Var`."""
    gaussian = proba.Gaussian.__new__(proba.Gaussian)
    gaussian.seed, gaussian._rng, gaussian._var = None, _SAMPLER, moments  # never by __dict__: see `pickling`
    return gaussian


def _reduce(gaussian: Any) -> Any:
    # How many it refers to, its class being one, tells as much as its `__dict__`, which must not be called up for nothing.
    few = len(gc.get_referents(gaussian)) == len(_FIELDS) + 1 or gaussian.__dict__.keys() == _FIELDS
    if gaussian.seed is None and few:
        return restore, (gaussian._var,)
    return gaussian.__reduce_ex__(4)  # a seeded one is as it is
