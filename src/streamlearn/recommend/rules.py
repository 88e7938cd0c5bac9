"""What may stand in a slate, and what may not stand beside what: filters, caps, diversity. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def parts(value: Any, separator: str) -> tuple[Any, ...]:
    """The values of a field: the parts of a string at the separator, the entries of a list, or the value alone."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(separator) if part.strip()) if separator else (value,)
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return () if value is None else (value,)


def matches(fields: Mapping[str, Any], where: Mapping[str, Any], separator: str) -> bool:
    """Whether each field of `where` has the value, or one of the list of values, among its own. A missing field has none."""
    for field, wanted in where.items():
        own = parts(fields.get(field), separator)
        if not any(_same(value, one) for value in own for one in any_of(wanted)):
            return False
    return True


def any_of(wanted: Any) -> Collection[Any]:
    """The values of which a filter wants one: those of a list, or the value alone."""
    return wanted if isinstance(wanted, (list, tuple, set, frozenset)) else (wanted,)


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def capped(categories: Sequence[Iterable[Any]], cap: int) -> tuple[list[int], list[int]]:
    """Positions, in order, of which at most `cap` share a category, and those left over.

    An item of several categories counts in each; one of none is never left over. Whatever is taken from the first list, in
    whatever number, keeps the cap.
    """
    counts: dict[Any, int] = {}
    kept, over = [], []
    for position, own in enumerate(categories):
        own = tuple(own)
        if any(counts.get(one, 0) >= cap for one in own):
            over.append(position)
            continue
        kept.append(position)
        for one in own:
            counts[one] = counts.get(one, 0) + 1
    return kept, over


def diverse(scores: Floats, alike: Floats, weight: float, k: int) -> list[int]:
    """The k first positions by maximal marginal relevance, each only once.

    Each next one has the largest (1 - weight) * score - weight * max alike to those chosen (Carbonell & Goldstein 1998, MMR),
    the scores [n] brought to [0, 1] by their range; `alike` [n, n] is in [0, 1]. Equal ones go by position.
    """
    span = float(np.ptp(scores)) if len(scores) else 0.0
    relevance = (scores - scores.min()) / span if span > 0 else np.zeros(len(scores))
    nearest = np.zeros(len(scores))
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        value = (1.0 - weight) * relevance - weight * nearest
        value[chosen] = -np.inf
        best = int(value.argmax())
        chosen.append(best)
        np.maximum(nearest, alike[best], out=nearest)
    return chosen


def likeness(tokens: Sequence[frozenset[Any]], vectors: NDArray[np.float32] | None = None) -> Floats:
    """How alike items are, float64[n, n] in [0, 1]: by the cosine of their sets of content tokens.

    Where either of two has no tokens, by the cosine of their factors (`vectors` [n, d]), negative ones counting as 0.
    """
    n = len(tokens)
    vocabulary = {token: at for at, token in enumerate(dict.fromkeys(token for own in tokens for token in own))}
    hot = np.zeros((n, max(1, len(vocabulary))))
    for row, own in enumerate(tokens):
        hot[row, [vocabulary[token] for token in own]] = 1.0
    alike = _cosine(hot)
    if vectors is not None:
        known = np.array([bool(own) for own in tokens], dtype=bool)
        alike = np.where(known[:, None] & known[None, :], alike, np.maximum(_cosine(vectors.astype(np.float64)), 0.0))
    return alike


def _cosine(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    product: Floats = unit @ unit.T
    return np.minimum(product, 1.0)
