"""What a recommender that learns with every event is worth: NDCG@10 over all items, in time order, against single ones.

Prequential: before each good rating every contender ranks all items seen so far that the user has not liked yet, then learns
it. What is not among the ranked, an item that nobody has met included, is a miss for everybody. *Service* is the default of a
model of the task "recommend": all sources and the ranking. The others are `recommend_baselines`, of each kind the variant that
turned out best. With `STREAMLEARN_DATA` also on MovieLens 100k.

The same by partition: users are spread over two and four shards, and each learns from its own users alone, or is told of the
others' items too. Then tastes that turn (`recommend_drift`; `--plot FILE` draws those of MovieTweetings), and on MovieTweetings
the speed of a service (`recommend_service`).
"""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from streamlearn.config_recommend import RecommendSettings
from streamlearn.events import partition_of
from streamlearn.recommend import hearing
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import Interaction

from . import recommend_drift, recommend_service
from .harness import Rows, main
from .recommend_baselines import Baseline, baselines, rank
from .recommend_data import Data, Rated, data_sets

K: Final = 10
QUICK: Final = 1500  # ratings
SEED: Final = 42
SHARDS: Final = (2, 4)
GOAL: Final = 1.15
SETTINGS: Final = RecommendSettings(actions={"like": 1.0})


class Score:
    """NDCG@10, hit rate and reciprocal rank of ranks; 0 stands for a miss."""

    def __init__(self) -> None:
        self.n = 0
        self.ndcg = self.hits = self.mrr = 0.0

    def add(self, rank: float) -> None:
        """One event."""
        self.n += 1
        if rank > 0:
            self.mrr += 1 / rank
            if rank <= K:
                self.hits += 1
                self.ndcg += 1 / math.log2(1 + rank)

    def means(self) -> tuple[float, float, float]:
        """(NDCG@10, HR@10, MRR)."""
        return self.ndcg / max(1, self.n), self.hits / max(1, self.n), self.mrr / max(1, self.n)


def singles(data: Data) -> dict[str, tuple[str, Score]]:
    """By kind, its best variant and how it did."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    for row in data.ratings:
        users.setdefault(row.user, len(users))
    for row in data.ratings:
        if row.good:
            items.setdefault(row.item, len(items))
    for row in data.ratings:
        items.setdefault(row.item, len(items))
    kinds = baselines(len(users), len(items))
    flat: list[tuple[str, str, Baseline]] = [(kind, name, one) for kind, all in kinds.items() for name, one in all.items()]
    scores = [Score() for _ in flat]
    liked: dict[int, list[int]] = defaultdict(list)
    seen = 0
    for row in data.ratings:
        user, item = users[row.user], items[row.item]
        history = np.array(liked[user], dtype=np.int64)
        if row.good:
            may = np.ones(seen, dtype=bool)
            may[history] = False
            for (_, _, one), score in zip(flat, scores, strict=True):
                score.add(rank(one.scores(user, history, seen, row.ts), may, item) if seen else 0.0)
            seen = max(seen, item + 1)
        for _, _, one in flat:
            one.learn(user, history, item, row.rating, row.good, row.ts)
        if row.good and item not in liked[user]:
            liked[user].append(item)
    best: dict[str, tuple[str, Score]] = {}
    for (kind, name, _), score in zip(flat, scores, strict=True):
        if kind not in best or score.ndcg > best[kind][1].ndcg:
            best[kind] = name, score
    return best


def service(data: Data, shards: int = 1, told: bool = False) -> tuple[Score, float]:
    """How the default of the service did, users spread over `shards`, which are `told` of the others' items or not; and its
    events a second."""
    models = [Recommender(SETTINGS, SEED) for _ in range(shards)]
    score, good = Score(), [row for row in data.ratings if row.good]
    began = time.perf_counter()
    for model in models:
        for item, genres in data.genres.items():
            model.set_item(item, {"genres": genres, "title": data.titles[item]}, good[0].ts)
    for row in good:
        model, event = models[partition_of(row.user.encode(), shards)], _interaction(row)
        score.add(float(model.rank(event)))
        heard = hearing.told(model.state, event) if told else None
        model.learn(event)
        for other in models:
            if heard is not None and other is not model:
                hearing.hear(other.state, heard)
    return score, len(good) / (time.perf_counter() - began)


def _interaction(row: Rated) -> Interaction:
    return Interaction(row.user, row.item, "like", 1.0, row.ts, {})


def measure(rows: Rows, quick: bool) -> None:
    """All of it, data set by data set."""
    for place, data in enumerate(data_sets()):
        few = data._replace(ratings=data.ratings[:QUICK]) if quick else data
        one = _quality(rows, few)
        _shards(rows, few, SHARDS[:1] if quick else SHARDS, one)
        if place == 0:
            recommend_service.measure(rows, data, quick)
        recommend_drift.measure(rows, data, quick, None if place else rows.plot)


def _quality(rows: Rows, data: Data) -> float:
    """The service beside the others; the sum of its NDCG@10 over all events."""
    good = sum(row.good for row in data.ratings)
    print(f"{data.name}: {len(data.ratings):,} ratings, {good:,} of them good", file=sys.stderr)
    best = singles(data)
    for kind, (variant, score) in best.items():
        for name, value in zip(("NDCG@10", "HR@10", "MRR"), score.means(), strict=True):
            rows.add(f"{data.name}: {name}, {kind}", value, "", reference=variant)
    ours, rate = service(data)
    for name, value in zip(("NDCG@10", "HR@10", "MRR"), ours.means(), strict=True):
        rows.add(f"{data.name}: {name}, service", value, "")
    kind, (_, score) = max(best.items(), key=lambda one: one[1][1].ndcg)
    ratio = ours.ndcg / score.ndcg
    rows.add(f"{data.name}: NDCG@10, service over the best single one", ratio, "×", f">= {GOAL}", kind)
    rows.add(f"{data.name}: ranked and learned", rate, "events/s")
    return ours.ndcg


def _shards(rows: Rows, data: Data, counts: Sequence[int], one: float) -> None:
    """`one`: what one shard has, as `_quality` gives it."""
    for count in counts:
        for told, how in ((False, "each for itself"), (True, "told of the others' items")):
            goal = ">= 0.95" if told else None
            ratio = service(data, count, told)[0].ndcg / one
            rows.add(f"{data.name}: NDCG@10, {count} shards, {how}", ratio, "×", goal, "one shard")


if __name__ == "__main__":
    main("A recommender that learns with every event", measure, plots=True)
