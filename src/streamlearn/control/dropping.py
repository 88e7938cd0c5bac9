"""Which versions' bytes go, so that a store does not grow with every retrain. One decision a version; then the bytes go.

The newest `retrain.keep_versions` of a model's fitted versions stay and, of the others, what is `needed` and what a shard might
have to try again: it restarts from a checkpoint, and reads on from there. What the registry knows of a version stays for ever.
Whoever dies between a decision and the bytes leaves them to the next look, and so is what a restored backup brings back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from ..config import ModelSettings
from ..records import Decision
from ..store import Store
from .facts import by_shard
from .state import State
from .steps import decision
from .world import World

logger = logging.getLogger("streamlearn.control")


def needed(state: State) -> set[int]:
    """The versions that serve, stand beside what serves, can be rolled back to, are asked for, are under way in the open case
    or its base, are named by a command that a shard has not answered, or were imported and not tried yet."""
    case = state.case
    found = {state.version, state.previous, state.shadow, *state.untried}
    found |= {request.version for request in state.asked.values()}
    found |= {order.arguments.get("version") for order in state.orders.values() if order.waiting}
    if case is not None:
        found |= {case.version, case.base, *(base["id"] for base in case.bases.values() if base["kind"] == "version")}
    return {version for version in found if version}


def surplus(state: State, keep: int) -> list[int]:
    """The fitted versions that are neither among the newest `keep` nor needed, the oldest first."""
    stay = needed(state)
    return [version for version in sorted(state.fitted)[:-keep] if version not in stay]


def judge_versions(
    state: State, world: World, settings: ModelSettings, lowest: Callable[[State, int], int | None]
) -> Decision | None:
    """The next version whose bytes go, None when all stay.

    `lowest` gives the lowest offset that a restart of a shard might read from, None when that is not known: then all stay.
    """
    keep = settings.retrain.keep_versions
    old = surplus(state, keep)
    if not old:
        return None
    begins: dict[int, int] = {}
    for shard in state.shards:
        offset = lowest(state, shard)
        if offset is None:
            return None
        begins[shard] = offset
    for version in old:
        tried = state.tried.get(version, {})
        if all(begin >= tried.get(shard, 0) for shard, begin in begins.items()):
            why = f"it is not among the {keep} newest versions, and nothing needs it: its bytes go, what is known of it stays"
            numbers = {"keep_versions": keep, "restarts": by_shard(begins)}
            return decision(state, world, "version_dropped", case="", version=version, why=why, numbers=numbers)
    return None


def fits(state: State, decision: Decision) -> bool:
    """Whether the bytes may go; not when another decision came in between, which needs them."""
    return decision.version in state.fitted and decision.version not in needed(state)


def dropped(state: State, offset: int, decision: Decision) -> None:
    """The bytes of a version go, and never come back under its number."""
    version = decision.version or 0
    del state.fitted[version]
    state.tried.pop(version, None)
    state.dropped[version] = decision.at


def let_go(states: Iterable[State], store: Store) -> None:
    """Drop the bytes that are there of versions of which that was decided. Raises StoreError."""
    gone = {state.name: state.dropped for state in states if state.dropped}
    if not gone:
        return
    for model, version in sorted({(model, version) for model, version, _ in store.versions()}):
        if version in gone.get(model, ()):
            store.drop_version(model, version)
            logger.info("a version's bytes were dropped", extra={"model": model, "version": version})


def told(state: State, version: int) -> str:
    """Why the bytes of a dropped version are not there, and what can be done."""
    keep = "" if state.settings is None else f" = {state.settings.retrain.keep_versions}"
    return (
        f"its bytes were dropped at {datetime.fromtimestamp(state.dropped[version], UTC):%Y-%m-%d %H:%M:%SZ}, since only the "
        f"newest are kept (models.{state.name}.retrain.keep_versions{keep}; a higher number keeps more from now on). Import it "
        "from a file that it was exported to, rewind, or retrain"
    )
