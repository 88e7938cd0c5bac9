"""What is known of a model's features: the newest look at each, and how far each has moved over time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .story import histogram

if TYPE_CHECKING:
    from ..history import Series

POINTS: Final = 60  # columns of the heat map
PREFIX: Final = "feature:"
NEVER: Final[Mapping[str, Any]] = {
    "reference": None, "at": None, "looks": 0, "settled": None, "in_all": 0, "findings": [], "appeared": [],
}  # fmt: skip

Doc = dict[str, Any]


def features_view(model: str, enabled: bool | None, doc: Mapping[str, Any], series: Series) -> Doc:
    """The answer of GET /v1/models/{model}/features.

    `enabled`: None for a model that recommends, which has no features of its own. `doc`: control's document of them, {} before
    the first look; `series`: the `feature:*` series of the model's history.
    """
    features = [{**one, "histogram": histogram(one.get("histogram"))} for one in doc.get("features", ())]
    return {
        "model": model, "enabled": enabled, **{name: doc.get(name, empty) for name, empty in NEVER.items()},
        "features": features, "heat": heat([one["name"] for one in features], series),
    }  # fmt: skip


def heat(order: list[str], series: Series) -> Doc:
    """{at, step_s, names, psi}: for each time a PSI of each name, null where none is known.

    Names stand in `order`, others after them; columns before the first and after the last value are left out.
    """
    values = {name.removeprefix(PREFIX): told["mean"] for name, told in series.series.items() if name.startswith(PREFIX)}
    known = {name: place for place, name in enumerate(order)}
    names = sorted(values, key=lambda name: (known.get(name, len(known)), name))
    rows = [[values[name][column] for name in names] for column in range(len(series.at))]
    some = [column for column, row in enumerate(rows) if any(value is not None for value in row)]
    shown = slice(some[0], some[-1] + 1) if some else slice(0, 0)
    return {"at": series.at[shown], "step_s": series.step_s, "names": names, "psi": rows[shown]}
