"""A shop on a stage: users of two tastes, slates that a version has served, clicks that follow the taste."""

from __future__ import annotations

import random
from typing import Any

from learning_bench import Stage

from streamlearn.events import Kind, Prediction, ShownItem, encode, unit_of

ITEMS = 40
WINDOW = 60.0


def shop(labels: str = "wait", partitions: int = 1, trial: dict[str, Any] | None = None, **recommend: Any) -> Stage:
    """A stage of a model that recommends, "m"."""
    return Stage(
        task="recommend",
        pipeline="mlp",
        stream={"allowed_lateness_s": 5, "partitions": partitions},
        recommend={"window_s": WINDOW, "labels": labels, "factors": 8, "unit_impressions": 2, **recommend},
        trial={"min_block": 3, **(trial or {})},
    )


def taste(user: str) -> int:
    """0 or 1: the user wants items with such a number modulo 2."""
    return int(unit_of("taste", user) < 0.5)


def catalogue(stage: Stage, at: float = 0.0) -> None:
    """A record for every item."""
    for index in range(ITEMS):
        stage.event(None, at, item=f"i{index}", action="$set", x={"genre": "even" if index % 2 == 0 else "odd"})


def visits(stage: Stage, count: int, first: int = 0, users: int = 30, seed: int = 0, **versions: Any) -> None:
    """`count` visits, a second apart. Two in five are of slates that a version served, with a click by taste; the others find
    an item by themselves. Some actions repeat, name no slate, are unwanted, or are junk.

    With `salt` and `share`, users below the share see version `challenger` (2). `hits` says by version how often it shows what
    is liked; it shows anything else than that where this is 0.
    """
    draw = random.Random(f"{seed} {first}")
    for at in range(first, first + count):
        user = f"u{draw.randrange(users)}"
        others = [f"i{index}" for index in range(ITEMS) if index % 2 != taste(user)]
        liked = [f"i{index}" for index in range(ITEMS) if index % 2 == taste(user)]
        if draw.random() < 0.4:
            late = versions.get("share") and unit_of(versions["salt"], user) < versions["share"]
            version = versions.get("challenger", 2) if late else versions.get("champion", 1)
            hit = versions.get("hits", {}).get(version, 0.5)
            items = [draw.choice(liked if draw.random() < hit else others) for _ in range(3)]
            slate = [ShownItem(item, place, 0.5, 0.2) for place, item in enumerate(dict.fromkeys(items), 1)]
            served = Prediction("s", f"p{at}", "m", version, x={"page": "home"}, user=user, items=slate)
            stage.put(encode(served), Kind.PREDICTION, user.encode())
            wanted = [one.item for one in slate if one.item in liked]
            if wanted and draw.random() < 0.8:
                stage.event(f"p{at}", at + draw.random() * 4, user=user, item=wanted[0], action="click")
        else:
            stage.event(f"e{at}", at, user=user, item=draw.choice(liked), action=draw.choice(["view", "click", "buy"]))
        chance = draw.random()
        if chance < 0.05:
            stage.event(f"d{at}", at, user=user, item=f"i{draw.randrange(ITEMS)}", action="dislike")
        elif chance < 0.1:
            stage.event(f"e{at}", at, user=user, item="i1", action=draw.choice(["view", "hover"]))
        elif chance < 0.13:
            stage.put(draw.choice([b"{", encode({"stream": "s", "action": "click"}), b'{"stream":"s","id":"q","x":{"a":1}}']))
        elif chance < 0.15:
            stage.event(None, at, user=user, action="$set", x={"plan": draw.choice(["free", "paid"])})
