"""Builds every model's pipeline and lets it predict and learn from a few hundred events: does it work, and twice the same?

`rehearse_twice` runs this module in two processes of their own, under two hash seeds, so that nothing left over in memory makes
two runs look alike, and a pipeline that hangs or crashes takes nothing along. Events come from the log when it has some, else
they are made up. Nothing is written but the result.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ..config import ModelSettings, Settings
from ..errors import EventError, LogError, ModelError, StreamlearnError
from ..events import Features, Kind, Scalar, decode_event
from ..log import read_below
from ..log.seek import offset_at

EVENTS: Final = 300
LIMIT_S: Final = 120.0
SETTLED_S: Final = 1.0  # what is appended from now on is dated later than this long ago
HASH_SEEDS: Final = ("1", "2")


class Rehearsal(msgspec.Struct):
    """How a model's rehearsal went. `problem`: "" or what is wrong; `built`: whether the pipeline could be built for use.

    `digest` covers every prediction and the final state; `source` is "log" or "made-up" events.
    """

    built: bool
    problem: str
    digest: str
    source: str


def rehearse_twice(config: Path, environ: Mapping[str, str], limit_s: float = LIMIT_S) -> list[dict[str, Rehearsal]]:
    """Each model's rehearsal in each of two fresh processes. Raises ModelError when a process did not end well."""
    before = time.time() - SETTLED_S  # both must take the same events of a log that grows meanwhile
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / seed for seed in HASH_SEEDS]
        processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(config), str(out), str(before)],
                env={**environ, "PYTHONHASHSEED": seed},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            for seed, out in zip(HASH_SEEDS, outs, strict=True)
        ]  # fmt: skip
        try:
            for process in processes:
                try:
                    _, said = process.communicate(timeout=limit_s)
                except subprocess.TimeoutExpired:
                    raise ModelError(f"a pipeline did not get through {EVENTS} events within {limit_s:g} s") from None
                if process.returncode != 0:
                    last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                    raise ModelError(f"trying the pipelines ended with exit code {process.returncode}: {last[0]}")
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        return [msgspec.json.decode(out.read_bytes(), type=dict[str, Rehearsal]) for out in outs]


def rehearse(settings: Settings, name: str, logged: list[tuple[Features, Scalar]]) -> Rehearsal:
    """Build a model and take it through `logged` events, or made-up ones when there are none."""
    from ..learning.digest import digest
    from ..learning.model import Model
    from ..learning.replay import limits_of

    model = settings.models[name]
    if model.task == "recommend":
        return _rehearse_recommender(settings, model)
    try:
        built = Model(model, limits_of(settings))
    except ModelError as error:
        return Rehearsal(False, str(error), "", "")
    if not built.proba and any(row.metric == "log_loss" for row in model.trial.guardrails):
        return Rehearsal(False, "it gives no probabilities, which the guardrail on log_loss needs. Guard the accuracy", "", "")
    source = "log" if logged else "made-up"
    total, chance = hashlib.sha256(), random.Random(11)
    for x, y in logged or made_up():
        try:
            (clean, types), label = built.check(x), built.label(y if y is not None else _some_label(model, chance))
            built.accept(types)
        except EventError:  # the learner would set it aside
            continue
        try:
            total.update(repr(built.predict(clean)).encode())
            built.learn(clean, label)
        except Exception as error:
            return Rehearsal(True, f"raised {type(error).__name__}: {error}", "", source)
    total.update(digest(built.estimator).encode())
    return Rehearsal(True, "", total.hexdigest(), source)


def _rehearse_recommender(settings: Settings, model: ModelSettings) -> Rehearsal:
    """Take a recommender through made-up users who take made-up items, each ranked before it is learned."""
    from ..learning.recommending import RecommendModel
    from ..learning.replay import limits_of

    try:
        built = RecommendModel(model, limits_of(settings))
    except ModelError as error:
        return Rehearsal(False, str(error), "", "")
    rng, total = random.Random(7), hashlib.sha256()
    action, weight = max(model.recommend.actions.items(), key=lambda one: one[1])
    for number in range(EVENTS):
        user, item = f"user {rng.randrange(20)}", f"item {int(rng.paretovariate(1)) % 40}"
        x = {
            "user": user, "item": item, "action": action, "weight": weight, "ts": 60.0 * number, "context": {"n": number % 24},
            "organic": True,
        }  # fmt: skip
        try:
            built.teach("item", {"name": item, "action": "$set", "x": {"kind": rng.choice("abc")}, "ts": 60.0 * number})
            total.update(repr(built.predict(x)).encode())
            built.learn(x, 1)
        except Exception as error:
            return Rehearsal(True, f"raised {type(error).__name__}: {error}", "", "made-up")
    total.update(built.estimator.__fingerprint__().encode())
    return Rehearsal(True, "", total.hexdigest(), "made-up")


def made_up() -> Iterator[tuple[Features, Scalar]]:
    """Events with numbers, a boolean, texts and nulls, an odd value now and then, and no label."""
    rng = random.Random(7)
    for number in range(EVENTS):
        x: Features = {
            "number": rng.gauss(10, 3),
            "count": rng.randrange(100),
            "flag": rng.random() < 0.5,
            "text": rng.choice("abcde"),
            "sparse": rng.random() if rng.random() < 0.5 else None,
        }
        if number % 50 == 49:
            x["number"] = 1e12
        yield x, None


def _some_label(model: ModelSettings, chance: random.Random) -> Scalar:
    """A label that fits the model, for an event that has none."""
    if model.task == "regression":
        return chance.gauss(0, 1)
    return chance.choice(model.labels or ((False, True) if model.task == "binary" else ("a", "b", "c")))


def _logged(settings: Settings, stream: str, before: float) -> list[tuple[Features, Scalar]]:
    """Events of the newest part of the log `before` that time that have features; none when there is no log."""
    from . import wiring

    try:
        log = wiring.existing_log(settings)
    except StreamlearnError:
        return []
    found: list[tuple[Features, Scalar]] = []
    try:
        first, end = log.bounds(stream, 0)[0], offset_at(log, stream, 0, before)
        for record in read_below(log, stream, 0, max(first, end - 5 * EVENTS), end, 5 * EVENTS):
            if record.kind != Kind.EVENT:
                continue
            try:
                event = decode_event(record.value)
            except EventError:
                continue
            if event.x is not None:
                found.append((event.x, event.y))
    except LogError:
        return []
    finally:
        log.close()
    return found[:EVENTS]


def main(arguments: list[str]) -> None:
    """CONFIG OUT BEFORE: rehearse every model of CONFIG on what was logged before that time, and write the results to OUT."""
    from . import wiring

    settings = wiring.read_settings(Path(arguments[0]), os.environ)
    results: dict[str, Any] = {}
    for name, model in settings.models.items():
        results[name] = rehearse(settings, name, _logged(settings, model.stream, float(arguments[2])))
    Path(arguments[1]).write_bytes(msgspec.json.encode(results))


if __name__ == "__main__":
    main(sys.argv[1:])
