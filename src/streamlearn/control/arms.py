"""The trial of a recommender: users are drawn into two arms, each is answered by one version, and rewards are compared.

A challenger cannot be judged by its losses on the champion's slates, since nobody clicks on what was not shown. So it answers
for a share of the users from the first event of its trial, and what is bet on are blocks of users, as many of either arm
(`learning.arms`). After a promotion the old champion goes on answering for a small share, by which it may prove to have been
the better one.
"""

from __future__ import annotations

from typing import Any

from ..config import ModelSettings
from .state import State


def by_users(settings: ModelSettings) -> bool:
    """Whether versions of this model are compared on users apart, not on the same events."""
    return settings.task == "recommend"


def split(name: str, version: int | None, settings: ModelSettings) -> dict[str, Any]:
    """What a "try" command says besides: the share of the users for whom `version` answers, and the salt by which they are
    drawn, another one for each version."""
    return {"share": settings.recommend.arm_share, "salt": f"{name}@{version}"}


def guarded(state: State, settings: ModelSettings) -> dict[str, Any]:
    """What a "promote" command says besides: the share of the users for whom the former champion goes on to answer. {} where
    versions are compared on the same events, and where there is nothing to watch."""
    if not by_users(settings) or not settings.trial.watch_events:
        return {}
    return {"share": settings.recommend.guard_share, "salt": f"{state.name}@{state.version}>{state.shadow}"}
