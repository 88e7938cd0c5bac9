"""What a policy would have earned, from the log of another one that wrote down how probable each of its choices was.

A log row is an action a_i, chosen with probability p_i > 0 (its *propensity*) in a context x_i, and its reward r_i; the target
policy would have chosen that action there with probability t_i, so the row's weight is w_i = t_i / p_i. Of n rows:

- IPS, inverse propensity scoring (Horvitz & Thompson 1952): Σ w_i r_i / n. Unbiased where the log gives some probability to all
  that the target would do.
- SNIPS, self-normalised (Swaminathan & Joachims, NIPS 2015): Σ w_i r_i / Σ w_i. Its bias goes with 1/n; a constant added to
  all rewards adds just that constant, and it stays among the rewards that were seen.
- DR, doubly robust (Dudík, Langford & Li, ICML 2011): Σ [q̄_i + w_i (r_i − q_i)] / n, q_i what a reward model predicts for the
  logged action, q̄_i its mean over the target's choices in x_i. Unbiased however wrong the model is, if row i had no part in it.

Intervals. `normal`: the mean of independent terms ± z standard errors; for SNIPS, a ratio, the delta method: its variance is
Σ w_i² (r_i − V)² / (Σ w_i)² (Owen, Monte Carlo theory, methods and examples, 2013, ch. 9.2). `hall`, the default: the same,
with the skewness of the terms removed by a cubic transformation (Hall, JRSS B 54, 1992): weights and rare rewards make terms so
skew that normal intervals end too low; of those for 95 % hold 92.5 % at some 46 clicks in 10,000 rows, and 82 % at some 9 in
2,000, Hall's 96.5 % and 93 %. `bootstrap`: percentiles of 2,000 resamplings of the rows (Efron & Tibshirani 1993, ch. 13).
`bernstein`: empirical Bernstein (Maurer & Pontil, COLT 2009, Thm 4), which holds at any n if no weight and no reward can be
more extreme than those that were seen; many times wider. Rows are taken to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Method: TypeAlias = Literal["hall", "normal", "bootstrap", "bernstein"]

METHODS: Final[tuple[Method, ...]] = ("hall", "normal", "bootstrap", "bernstein")
RESAMPLED: Final = 2000
STRAIGHT: Final = 1e-6  # skewness below which there is nothing to remove
CHUNK: Final = 1 << 22  # numbers in memory at once
SHRINK: Final = 100.0  # rows that the mean of a context counts for in the reward model


class Interval(NamedTuple):
    """Which interval to give: its method and level; `clip` bounds the weights, None leaves them; `seed` is the bootstrap's.

    `more` is a variance to add to that of the estimate: `share_variance`, where the target's propensities are estimates, too.
    """

    method: Method = "hall"
    level: float = 0.95
    clip: float | None = None
    more: float = 0.0
    seed: int = 0


class Estimate(NamedTuple):
    """A mean reward, its interval, the standard error, and how the interval was made ("delta": SNIPS's normal one)."""

    name: str
    value: float
    low: float
    high: float
    error: float
    interval: str


class Health(NamedTuple):
    """What the weights are like. `mean` lies near 1 (± `mean_error`) where the propensities are true and the log covers the
    target; `ess` = (Σ w)² / Σ w² is how many rows of the target's own would tell as much (Kish 1965)."""

    rows: int
    ess: float
    mean: float
    mean_error: float
    largest: float
    clipped: int


PLAIN: Final = Interval()


def weights(propensity: ArrayLike, target: ArrayLike, clip: float | None = None) -> Floats:
    """t_i / p_i, (n,), at most `clip` where that is given (Ionides 2008: less variance, and a bias towards 0).

    Raises ValueError with the place of a propensity outside (0, 1], a target's outside [0, 1], or one that is not finite.
    """
    p, t = _vector("propensity", propensity), _vector("target", target)
    _same_length(propensity=p, target=t)
    _all("propensity", p, (p > 0) & (p <= 1), "lies outside (0, 1]")
    _all("target", t, (t >= 0) & (t <= 1), "lies outside [0, 1]")
    if clip is None:
        return t / p
    if not (math.isfinite(clip) and clip > 0):
        raise ValueError(f"clip: {clip} is not above 0")
    return np.minimum(t / p, clip)


def health(propensity: ArrayLike, target: ArrayLike, clip: float | None = None) -> Health:
    """What the weights are like; `mean`, its error and `largest` are of the weights as they are used. Raises ValueError."""
    raw, used = weights(propensity, target), weights(propensity, target, clip)
    squares = float(used @ used)
    ess = float(used.sum()) ** 2 / squares if squares else 0.0
    return Health(len(used), ess, float(used.mean()), _error(used), float(used.max()), int((raw > used).sum()))


def ips(reward: ArrayLike, propensity: ArrayLike, target: ArrayLike, how: Interval = PLAIN) -> Estimate:
    """Inverse propensity scoring; see the module. All are (n,). Raises ValueError."""
    r, w = _checked(reward, propensity, target, how)
    width = float(w.max()) * (max(0.0, float(r.max())) - min(0.0, float(r.min())))
    return _of_terms("IPS", w * r, width, how)


def snips(reward: ArrayLike, propensity: ArrayLike, target: ArrayLike, how: Interval = PLAIN) -> Estimate:
    """Self-normalised; see the module. All are (n,). `bernstein` gives the delta method's interval, for want of one that fits a
    ratio. Raises ValueError, also where the target would have done nothing of what was logged."""
    r, w = _checked(reward, propensity, target, how)
    total = float(w.sum())
    if total <= 0:
        raise ValueError("target: is 0 in every row: nothing that was logged tells of it")
    value = float(w @ r) / total
    error = math.hypot(math.sqrt(float(np.sum((w * (r - value)) ** 2))) / total, math.sqrt(how.more))
    if how.method == "bootstrap":
        low, high = _resampled(np.column_stack([w, w * r]), lambda sums: _ratio(sums[:, 1], sums[:, 0], value), how)
        return Estimate("SNIPS", value, low, high, error, "bootstrap")
    if how.method == "hall":
        deviations = w * (r - value) * (len(w) / total)
        return Estimate("SNIPS", value, *_unskewed(value, deviations, error, how.level), error, how.method)
    half = _z(how.level) * error
    return Estimate("SNIPS", value, value - half, value + half, error, "delta")


def doubly_robust(
    reward: ArrayLike,
    propensity: ArrayLike,
    target: ArrayLike,
    predicted: ArrayLike,
    expected: ArrayLike,
    how: Interval = PLAIN,
) -> Estimate:
    """Doubly robust; see the module. `predicted` is q_i, `expected` q̄_i, made without row i (`cross_fitted` is one way); all
    are (n,). Raises ValueError."""
    r, w = _checked(reward, propensity, target, how)
    q, mean = _vector("predicted", predicted), _vector("expected", expected)
    _same_length(reward=r, predicted=q, expected=mean)
    most, least = float(r.max() - q.min()), float(r.min() - q.max())
    width = float(mean.max() - mean.min()) + float(w.max()) * (max(0.0, most) - min(0.0, least))
    return _of_terms("DR", mean + w * (r - q), width, how)


def own(reward: ArrayLike, name: str, level: float = 0.95) -> Estimate:
    """The mean reward of a policy's own rows: Wilson's interval (1927) for rewards of 0 and 1, else the normal one."""
    r = _vector("reward", reward)
    n, mean, z, error = len(r), float(r.mean()), _z(level), _error(r)
    if not np.isin(r, (0.0, 1.0)).all():
        return Estimate(name, mean, mean - z * error, mean + z * error, error, "normal")
    shrunk = 1 + z * z / n
    middle = (mean + z * z / (2 * n)) / shrunk
    half = z * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2) / shrunk
    return Estimate(name, mean, middle - half, middle + half, error, "wilson")


def shares(context: Codes, action: Codes, contexts: int, actions: int) -> Floats:
    """How often a policy chose each action in each context, (contexts, actions): its propensities, if they hang on no more.

    Rows sum to 1; that of a context without any choice is 0. Raises ValueError for codes outside their ranges.

    So are the probabilities of Open Bandit's Bernoulli Thompson policy had (context: campaign and position): it looks at no
    feature of the user, and its posteriors, which moved from day to day, are not in the data. The propensities that its log
    holds are of the chosen items alone, at their time; the share of choices is their mean over the time without bias.
    """
    cells = _cells(context, action, contexts, actions)
    counts = np.bincount(cells, minlength=contexts * actions).reshape(contexts, actions).astype(np.float64)
    found: Floats = counts / np.maximum(1.0, counts.sum(axis=1, keepdims=True))
    return found


def share_variance(
    reward: ArrayLike, propensity: ArrayLike, context: Codes, action: Codes, target: Floats, chosen: Codes
) -> float:
    """The variance that an estimate has because `target`, (contexts, actions), are `shares` of chosen[x] choices in context x.

    By the delta method Σ_x (n_x / n)² Var_{a∼target(x)} g(a, x) / chosen[x], where g(a, x) = Σ r_i / p_i / n_x over the logged
    rows with this action and context is the action's mean reward; the noise of g makes it too large rather than too small.
    """
    r, p = _vector("reward", reward), _vector("propensity", propensity)
    contexts, actions = target.shape
    rows = np.bincount(context, minlength=contexts).astype(np.float64)
    sums = np.bincount(_cells(context, action, contexts, actions), r / p, contexts * actions).reshape(contexts, actions)
    worth = sums / np.maximum(1.0, rows)[:, None]
    spread = (target * worth**2).sum(axis=1) - (target * worth).sum(axis=1) ** 2
    return float(np.sum((rows / rows.sum()) ** 2 * np.maximum(0.0, spread) / np.maximum(1, chosen)))


def bernoulli_thompson(alpha: ArrayLike, beta: ArrayLike, positions: int = 1, draws: int = 100_000, seed: int = 0) -> Floats:
    """The chance of each item at each position, (positions, items), when the items are sorted by draws from Beta(alpha, beta).

    Thompson sampling of Bernoulli rewards (Chapelle & Li, NIPS 2011, Algorithm 2) has no such chance in closed form, so it is
    counted over `draws`; its standard error is at most 1 / (2 √draws). Where the posteriors are not known, but a log of its
    choices is, see `shares`. Raises ValueError.
    """
    a, b = _vector("alpha", alpha), _vector("beta", beta)
    _same_length(alpha=a, beta=b)
    for name, values in (("alpha", a), ("beta", b)):
        _all(name, values, values > 0, "is not above 0")
    if not 1 <= positions <= len(a) or draws < 1:
        raise ValueError(f"positions: {positions} of {len(a)} items with {draws} draws cannot be filled")
    rng = np.random.default_rng(seed)
    counts = np.zeros((positions, len(a)))
    left = draws
    while left:
        size = min(left, max(1, CHUNK // len(a)))
        best = np.argsort(-rng.beta(a, b, size=(size, len(a))), axis=1)[:, :positions]
        for position in range(positions):
            counts[position] += np.bincount(best[:, position], minlength=len(a))
        left -= size
    return counts / draws


def cross_fitted(
    reward: ArrayLike, context: Codes, action: Codes, target: Floats, folds: int = 5, seed: int = 0
) -> tuple[Floats, Floats]:
    """A reward model for `doubly_robust` that row i has no part in: (predicted, expected), each (n,).

    By action and context the mean reward of the other folds' rows, shrunk towards the mean of the context as if that were 100
    rows more; `target` is (contexts, actions). Cross-fitting: Chernozhukov et al., Econometrics Journal 2018. Raises
    ValueError.
    """
    r = _vector("reward", reward)
    contexts, actions = target.shape
    cells = _cells(context, action, contexts, actions)
    _same_length(reward=r, context=context)
    if not 2 <= folds <= len(r):
        raise ValueError(f"folds: {folds} of {len(r)} rows cannot be made; 2 at least")
    fold = np.random.default_rng(seed).permutation(len(r)) % folds
    predicted, expected = np.zeros(len(r)), np.zeros(len(r))
    for one in range(folds):
        seen, here = fold != one, fold == one
        size = contexts * actions
        counts = np.bincount(cells[seen], minlength=size).reshape(contexts, actions).astype(np.float64)
        sums = np.bincount(cells[seen], r[seen], size).reshape(contexts, actions)
        overall = float(r[seen].mean())
        middle = (sums.sum(axis=1) + SHRINK * overall) / (counts.sum(axis=1) + SHRINK)
        model = (sums + SHRINK * middle[:, None]) / (counts + SHRINK)
        predicted[here] = model.reshape(-1)[cells[here]]
        expected[here] = (target * model).sum(axis=1)[context[here]]
    return predicted, expected


def _of_terms(name: str, terms: Floats, width: float, how: Interval) -> Estimate:
    """The mean of independent terms that span at most `width`, with its interval."""
    value, n, error = float(terms.mean()), len(terms), math.hypot(_error(terms), math.sqrt(how.more))
    if how.method == "bootstrap":
        low, high = _resampled(terms[:, None], lambda sums: sums[:, 0] / n, how)
        return Estimate(name, value, low, high, error, how.method)
    if how.method == "hall":
        return Estimate(name, value, *_unskewed(value, terms - value, error, how.level), error, how.method)
    half = _z(how.level) * error
    if how.method == "bernstein":
        log = math.log(4 / (1 - how.level))
        half = math.sqrt(2 * log) * error + 7 * width * log / (3 * max(1, n - 1))
    return Estimate(name, value, value - half, value + half, error, how.method)


def _unskewed(value: float, deviations: Floats, error: float, level: float) -> tuple[float, float]:
    """Hall's interval for `value`, whose terms deviate from it so. With T = (value − V) / s, s = error √n, and γ the skewness
    T + γT²/3 + γ²T³/27 + γ/6n is nearly normal with variance 1/n; the ends are where that is ∓ z / √n."""
    n, z = len(deviations), _z(level)
    spread = error * math.sqrt(n)
    if spread == 0:
        return value, value
    skew = float(np.mean((deviations / spread) ** 3))

    def inverse(x: float) -> float:
        return x if abs(skew) < STRAIGHT else 3 / skew * (math.cbrt(1 + skew * (x - skew / (6 * n))) - 1)

    return value - spread * inverse(z / math.sqrt(n)), value - spread * inverse(-z / math.sqrt(n))


def _resampled(rows: Floats, of: Callable[[Floats], Floats], how: Interval) -> tuple[float, float]:
    """The percentile interval of `of`, which makes (resamplings,) of the sums of resampled rows, (resamplings, columns).

    Equal rows are drawn together: how often each is in a resampling is multinomial.
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    rng = np.random.default_rng(how.seed)
    chance = counts / len(rows)
    found: list[Floats] = []
    left = RESAMPLED
    while left:
        size = min(left, max(1, CHUNK // len(kinds)))
        found.append(of(rng.multinomial(len(rows), chance, size=size) @ kinds))
        left -= size
    values = np.concatenate(found) + rng.normal(0.0, math.sqrt(how.more), RESAMPLED)
    low, high = np.quantile(values, [(1 - how.level) / 2, (1 + how.level) / 2])
    return float(low), float(high)


def _ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    """above / below; `otherwise` where a resampling holds no weight at all."""
    found: Floats = np.divide(above, below, out=np.full(len(above), otherwise), where=below > 0)
    return found


def _checked(reward: ArrayLike, propensity: ArrayLike, target: ArrayLike, how: Interval) -> tuple[Floats, Floats]:
    """Rewards and weights. Raises ValueError."""
    if how.method not in METHODS:
        raise ValueError(f"interval: {how.method!r} is none of {', '.join(METHODS)}")
    if how.more < 0 or not math.isfinite(how.more):
        raise ValueError(f"more: {how.more} is no variance")
    r, w = _vector("reward", reward), weights(propensity, target, how.clip)
    _same_length(reward=r, propensity=w)
    return r, w


def _cells(context: Codes, action: Codes, contexts: int, actions: int) -> Codes:
    """One number for a context and an action. Raises ValueError."""
    for name, codes, most in (("context", context, contexts), ("action", action, actions)):
        if codes.ndim != 1 or (codes.size and not (codes.min() >= 0 and codes.max() < most)):
            raise ValueError(f"{name}: a code lies outside 0 to {most - 1}, or they are not one row of codes")
    _same_length(context=context, action=action)
    return context.astype(np.int64) * actions + action


def _vector(name: str, values: ArrayLike) -> Floats:
    """The values as (n,). Raises ValueError for none of them, another shape, and with its place for one that is not finite."""
    try:
        made = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: holds what is no number") from None
    if made.ndim != 1 or not made.size:
        raise ValueError(f"{name}: has the shape {made.shape}, which is not (n,) with n of 1 or more")
    _all(name, made, np.isfinite(made), "is missing or not finite")
    return made


def _all(name: str, values: Floats, fine: NDArray[np.bool_], problem: str) -> None:
    if not fine.all():
        place = int(np.argmin(fine))
        raise ValueError(f"{name}[{place}]: {values[place]:g} {problem}")


def _same_length(**arrays: NDArray[np.float64] | Codes) -> None:
    if len({len(values) for values in arrays.values()}) > 1:
        told = ", ".join(f"{name} {len(values)}" for name, values in arrays.items())
        raise ValueError(f"the arrays differ in length: {told}")


def _error(terms: Floats) -> float:
    """The standard error of a mean of independent terms; 0 for one alone."""
    return float(terms.std(ddof=1)) / math.sqrt(len(terms)) if len(terms) > 1 else 0.0


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level: {level} lies outside (0, 1)")
    return NormalDist().inv_cdf((1 + level) / 2)
