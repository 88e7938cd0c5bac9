"""What another configuration would change on a running service, model by model, and what it must not change. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..config import ModelSettings, Settings
from ..lineage import RECIPE

ANOTHER: Final = ("stream", "task", "labels")  # what makes it another model altogether
AT_ITS_START: Final = ("start", "score_window", "score_fading")
FIXED: Final = ("data_dir", "log", "store")
NEW_VERSION: Final = "a version with it is fitted, tried beside the present one, and promoted when it is not worse"
RENAME: Final = "give the changed model a name of its own"


class Change(NamedTuple):
    """One setting: its dotted key, both values, and what comes of it. `refused`: not while the service runs."""

    key: str
    was: Any
    wanted: Any
    effect: str
    refused: bool = False


class Differences(NamedTuple):
    """Names of models added and removed, and every other changed setting."""

    added: list[str]
    removed: list[str]
    changes: list[Change]

    @property
    def refused(self) -> list[Change]:
        return [change for change in self.changes if change.refused]

    @property
    def none(self) -> bool:
        return not (self.added or self.removed or self.changes)

    def lines(self) -> list[str]:
        """In words, one line each."""
        told = [f"added: {name}, which reads from its start" for name in self.added]
        told += [
            f"removed: {name}, which stops learning and answering; its checkpoints, versions and audit stay, and it goes on "
            "from them when it is added again" for name in self.removed
        ]  # fmt: skip
        return told + [f"changed: {one.key} from {one.was!r} to {one.wanted!r}: {one.effect}" for one in self.changes]


def differences(old: Settings, new: Settings) -> Differences:
    """What changes from `old` to `new`."""
    changes = list(_service(old, new))
    for name, model in new.models.items():
        if name in old.models:
            changes += _model(name, old.models[name], model)
    added = [name for name in new.models if name not in old.models]
    return Differences(added, [name for name in old.models if name not in new.models], changes)


def _service(old: Settings, new: Settings) -> Iterator[Change]:
    for key in FIXED:
        for change in _flat(key, getattr(old, key), getattr(new, key)):
            yield Change(*change, "it needs a restart of the service", True)
    for change in _flat("serve", old.serve, new.serve):
        fixed = change[0] in ("serve.host", "serve.port", "serve.workers")
        yield Change(*change, "it needs a restart of the service" if fixed else "at once", fixed)
    for key in ("limits", "learn", "control", "history", "executor", "notify"):
        for change in _flat(key, getattr(old, key), getattr(new, key)):
            yield Change(*change, "at once")
    for name, stream in new.streams.items():
        if name in old.streams:
            for change in _flat(f"streams.{name}", old.streams[name], stream):
                fixed = change[0].endswith(".partitions")
                yield Change(*change, "a stream keeps its partitions for good" if fixed else "at once", fixed)


def _model(name: str, old: ModelSettings, new: ModelSettings) -> Iterator[Change]:
    for field in type(new).model_fields:
        was, wanted = getattr(old, field), getattr(new, field)
        if field in ANOTHER or (field == "default_label" and (was is None) != (wanted is None)):
            effect, refused = RENAME, True
        elif field in RECIPE:
            effect, refused = NEW_VERSION, False
        elif field in AT_ITS_START:
            effect, refused = "it counts when the model is started over (streamlearn learn CONFIG --reset)", False
        else:
            effect, refused = "at once", False
        for change in _flat(f"models.{name}.{field}", was, wanted):
            yield Change(*change, effect, refused)


def _flat(key: str, was: Any, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of each setting that differs below `key`."""
    if was == wanted:
        return
    if isinstance(was, dict) and isinstance(wanted, dict) and key == "notify.targets":  # tables by name
        for name in sorted(was.keys() | wanted.keys()):
            both = [table.get(name) for table in (was, wanted)]
            words = [one if None not in both else "no target" if one is None else "a target" for one in both]
            yield from _flat(f"{key}.{name}", *words)
        return
    fields = getattr(type(wanted), "model_fields", None)
    if fields is None or type(was) is not type(wanted):
        yield key, was, wanted
        return
    for name in fields:
        yield from _flat(f"{key}.{name}", getattr(was, name), getattr(wanted, name))
