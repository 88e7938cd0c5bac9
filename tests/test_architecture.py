"""The house plan, held: imports go downwards, no cycles, one file for each client library, small modules with a docstring."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import streamlearn

ROOT = Path(streamlearn.__file__).parent
MAX_LINES = 400

# From the top down: a room imports rooms below it and, inside itself, its own modules. Rooms of one line are siblings.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("testing",),
    ("testing_group", "testing_store"),
    ("log.sqlite", "log.kafka", "store.sqlite", "store.redis"),
    ("serving", "control", "learning.worker"),
    ("retrain", "drift", "recommend"),
    ("learning",),
    ("recommend",),
    ("client", "telemetry", "store", "log", "history", "apikeys"),
    ("records", "wire", "lineage", "gauges"),
    ("wire_recommend",),
    ("config", "events", "keys"),
    (
        "config_errors", "config_drift", "config_trial", "config_retrain", "config_recommend", "config_serve", "config_history",
        "config_notify", "importpath", "items", "sqlitefile",
    ),
    ("errors", "config_fields", "logs", "buckets", "wire_fleet"),
)
DEPTH = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}
ADAPTERS = frozenset({"log.sqlite", "log.kafka", "store.sqlite", "store.redis"})
MAY_CHOOSE_ADAPTERS = frozenset({"cli", "testing"})
ADAPTERS_MAY_IMPORT = frozenset({"log", "store", "sqlitefile", "records", "config", "events", "keys", "errors"})

# What may import which library: a room or a module, given as a prefix of its dotted name.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "kafka": ("log.kafka",),
    "redis": ("store.redis",),
    "fsspec": ("store.backup",),
    "faiss": ("recommend.lists",),
    "sqlite3": ("log.sqlite", "store.sqlite", "sqlitefile"),
    "fastapi": ("serving",),
    "starlette": ("serving",),
    "uvicorn": ("cli",),
    "httpx": ("client", "control.sending"),
    "typer": ("cli",),
    "rich": ("cli",),
    "pyarrow": ("cli",),
    "dask": ("retrain.cluster",),
    "distributed": ("retrain.cluster",),
    "prometheus_client": ("telemetry",),
    "opentelemetry": ("serving.tracing",),
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def room_of(module: str) -> str:
    """The most exact entry of LAYERS that holds `module` (dotted, below streamlearn)."""
    for adapter in ADAPTERS:
        if module.startswith(f"{adapter}_"):  # an adapter of several modules
            return adapter
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in DEPTH:
            return name
    raise LookupError(module)


def imports(source: str, module: str, is_package: bool, known: frozenset[str]) -> Iterator[str]:
    """Every name that the source imports, wherever it stands; our own ones dotted below streamlearn, with a leading dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _ours(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = module.split(".") if module else []
                keep = len(parts) - node.level + (1 if is_package else 0)
                base = ".".join([*parts[:keep], *filter(None, [node.module])])
            else:
                base = _ours(node.module or "")
                if not base.startswith("."):
                    yield base
                    continue
                base = base[1:]
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield f".{inner if inner in known else base}"


def _ours(name: str) -> str:
    head, _, rest = name.partition(".")
    return f".{rest}" if head == "streamlearn" else name


@functools.cache
def imports_of(module: str) -> tuple[str, ...]:
    path = MODULES[module]
    found = imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py", frozenset(MODULES))
    return tuple(sorted(set(found) - {f".{module}"}))


def wrong_edge(module: str, target: str) -> str | None:
    """Why `module` may not import `target` (both ours, dotted); None when it may."""
    if not target:  # the package itself: its version
        return None
    if not module:
        return "the package itself imports nothing of its rooms"
    here, there = room_of(module), room_of(target)
    if here == there:
        return None
    if there in ADAPTERS:
        return None if here in MAY_CHOOSE_ADAPTERS else "only cli and testing choose adapters"
    if here in ADAPTERS:
        return None if there in ADAPTERS_MAY_IMPORT else "an adapter imports its protocol and below"
    if there == "sqlitefile":
        return "only the two adapters know that SQLite is behind them"
    if DEPTH[here] == DEPTH[there] and "learning.worker" not in (here, there) and DEPTH[here] > DEPTH["learning"]:
        return None  # below the learner, siblings may know each other; cycles are held by their own test
    return None if DEPTH[here] < DEPTH[there] else f"{here} does not lie above {there}"


def test_imports_go_downwards() -> None:
    ours = [(module, target[1:]) for module in MODULES for target in imports_of(module) if target.startswith(".")]
    assert not {edge: why for edge in ours if (why := wrong_edge(*edge))}


def test_each_library_stays_in_its_place() -> None:
    for module in MODULES:
        for name in imports_of(module):
            places = LIBRARIES.get(name.partition(".")[0])
            assert places is None or module.startswith(places), f"{module}: {name} may be imported by {places} only"


def test_there_is_no_cycle() -> None:
    graph = {module: [name[1:] for name in imports_of(module) if name.startswith(".")] for module in MODULES}
    assert sum(map(len, graph.values())) > 10
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_modules_are_small_and_say_what_they_are_for() -> None:
    texts = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}
    assert not {module for module, text in texts.items() if len(text.splitlines()) > MAX_LINES}
    assert not {module for module, text in texts.items() if len(ast.get_docstring(ast.parse(text)) or "") <= 20}


def test_every_module_has_a_room() -> None:
    assert len(MODULES) > 10
    for module in filter(None, MODULES):
        assert room_of(module) in DEPTH


def test_the_plan_itself_refuses_what_it_should() -> None:
    assert wrong_edge("log.sqlite", "log") is None
    assert wrong_edge("cli.wiring", "log.sqlite") is None
    assert wrong_edge("learning.learner", "store.codec") is None
    assert wrong_edge("retrain.job", "learning.trainer") is None
    assert wrong_edge("learning.worker", "learning.learner") is None
    for upward in (
        ("learning.learner", "learning.worker"),
        ("learning.learner", "drift.watch"),
        ("drift.watch", "retrain.trial"),
        ("retrain.trial", "drift.watch"),
        ("serving.app", "control.loop"),
        ("serving.app", "learning.worker"),
        ("learning.worker", "control.loop"),
        ("control.loop", "store.sqlite"),
        ("store.sqlite", "learning.learner"),
        ("events", "records"),
        ("errors", "config"),
        ("client", "serving.app"),
        ("learning.checkpoint", "sqlitefile"),
        ("cli.send", "sqlitefile"),
        ("log.sqlite", "cli.wiring"),
        ("learning.worker", "log.kafka_group"),
        ("control.loop", "log.kafka_link"),
        ("log.kafka_reader", "learning.learner"),
    ):
        assert wrong_edge(*upward), upward


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import os.path
from . import sqlite
from .. import events
def late():
    from ..errors import ConfigError
    import streamlearn.cli.main
    from streamlearn.store import codec
"""
    known = frozenset({"log", "log.sqlite", "errors", "events", "store", "store.codec"})
    found = {"os.path", ".log.sqlite", ".events", ".errors", ".cli.main", ".store.codec"}
    assert set(imports(source, "log", True, known)) == found
    assert set(imports(source, "log.other", False, known)) == found
