"""The example configuration documents every setting, at its default, and nothing that does not exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import streamlearn.cli
from streamlearn.config import ConfigErrors, Settings, load, parse
from streamlearn.retrain.policies import POLICIES

EXAMPLE = Path(streamlearn.cli.__file__).with_name("streamlearn.example.toml")
NO_DEFAULT = "Default: none"
REQUIRED = "Required."
_SETTING = re.compile(r"#?([a-z]\w*) = ")
_HEADER = re.compile(r"\[([a-z_.]+)\]")


def everything(text: str) -> str:
    """The example with every setting that is commented out taken in."""
    return re.sub(r"(?m)^#(?=[a-z]\w* = )", "", text)


def documented(text: str) -> Iterator[tuple[str, str]]:
    """(dotted path, the comment above it) of each setting in the text."""
    table, comment = "", []
    for line in text.splitlines():
        header, setting = _HEADER.match(line), _SETTING.match(line)
        if header:
            table, comment = header[1] + ".", []
        elif setting:
            yield table + setting[1], " ".join(comment)
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment = []


def settings_of(model: type[BaseModel], path: str) -> Iterator[tuple[str, Any]]:
    """(dotted path, default) of each setting in the code; a stream is `streams.flights`, a model `models.delay`."""
    for name, field in model.model_fields.items():
        tables = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in tables if issubclass(kind, BaseModel)]
        if name in ("streams", "models"):
            yield from settings_of(inner[0], f"{name}.{'flights' if name == 'streams' else 'delay'}.")
        elif inner and isinstance(field.default, BaseModel):
            yield from settings_of(inner[0], f"{path}{name}.")
        else:
            yield path + name, field.default


CODE = dict(settings_of(Settings, ""))
DOCS = dict(documented(EXAMPLE.read_text(encoding="utf-8")))


def value_at(settings: BaseModel, path: str) -> Any:
    node: Any = settings
    for part in path.split("."):
        node = node[part] if isinstance(node, dict) else getattr(node, part)
    return node


def test_the_example_loads() -> None:
    settings = load(EXAMPLE, {})
    assert settings.models["delay"].stream == "flights"
    assert settings.data_dir == EXAMPLE.parent.resolve() / "streamlearn-data"


def test_the_example_loads_with_every_setting_taken_in() -> None:
    with pytest.raises(ConfigErrors, match="loss_scale: a binary model has none") as caught:
        parse(tomllib.loads(everything(EXAMPLE.read_text(encoding="utf-8"))), {})
    assert len(caught.value.errors) == 1  # loss_scale is for regression, as its comment says


def test_every_setting_of_the_code_is_documented_and_no_other() -> None:
    assert len(CODE) > 60
    assert sorted(DOCS) == sorted(CODE)


@pytest.mark.parametrize("path", sorted(CODE))
def test_the_documented_default_is_that_of_the_code(path: str) -> None:
    comment, default = DOCS.get(path, ""), CODE[path]
    assert len(comment) >= 20, f"{path} needs a comment that says what it is for"
    if default is None:
        assert NO_DEFAULT in comment
    elif default is PydanticUndefined:
        assert REQUIRED in comment
    else:
        assert NO_DEFAULT not in comment
        assert REQUIRED not in comment
        text = everything(EXAMPLE.read_text(encoding="utf-8")).replace("loss_scale = 10.0", "")
        assert value_at(parse(tomllib.loads(text), {}), path) == default


@pytest.mark.parametrize("kind", POLICIES.values(), ids=POLICIES)
def test_each_policy_is_documented_with_what_it_takes(kind: type[BaseModel]) -> None:
    words = set(re.findall(r"\w+", DOCS["models.delay.retrain.policies"]))
    name = next(name for name, policy in POLICIES.items() if policy is kind)
    assert {name, *kind.model_fields} <= words


def test_a_setting_with_a_unit_in_its_name_says_the_unit() -> None:
    units = {"_s": "econds", "_ms": "illiseconds", "_mb": "egabytes", "_bytes": "ytes", "_hours": "ours"}
    for path, comment in DOCS.items():
        for suffix, word in units.items():
            if path.endswith(suffix):
                assert word in comment, f"{path} should say {word}"


def test_the_tests_that_the_readme_names_behind_each_promise_are_there() -> None:
    tests = Path(__file__).parent
    table = (tests.parent / "README.md").read_text(encoding="utf-8").split("| promise | its limit | tests |")[1]
    rows = takewhile(lambda line: line.startswith("|"), table.splitlines()[2:])
    named = [re.findall(r"`([\w/]+\.py)`", row.split(" | ")[-1]) for row in rows]
    assert len(named) > 10
    assert all(named), "every promise has its test"
    assert [path for paths in named for path in paths if not (tests / path).is_file()] == []
