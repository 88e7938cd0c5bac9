"""What is wrong with a configuration, in words that name each key and its fix. What is allowed, `config` alone decides."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from .errors import ConfigError

_WANTED: Final = {
    "int": ("a whole number", "Write one, without quotes"),
    "float": ("a number", "Write one, without quotes"),
    "finite": ("a finite number", "Write one"),
    "bool": ("true or false", "Write one of them, without quotes"),
    "string": ("a text", "Write it in quotes"),
    "path": ("a path", "Write it in quotes"),
    "tuple": ("a list", "Write it in brackets"),
    "dict": ("a table", "Write it as a [table]"),
    "model": ("a table", "Write it as a [table]"),
}


class ConfigErrors(ConfigError):
    """All that is wrong with a configuration, in `errors`, at least one."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.key, first.problem, first.fix)
        self.errors = errors
        self.args = ("\n".join(map(str, errors)),)


def explain(error: ValidationError, tree: Mapping[str, Any], root: type[BaseModel]) -> Iterator[ConfigError]:
    """What is wrong with `tree`, as a person reads it, from what pydantic found; one error a key."""
    told: set[str] = set()
    for item in error.errors():
        kind, context = item["type"], item.get("ctx", {})
        path, is_union = _path(item["loc"], tree, kind)
        key = ".".join(map(str, path)) or "(file)"
        value = item["input"]
        if key in told:
            continue  # a union reports each of its members
        told.add(key)
        if kind == "value_error":
            inner, _, rest = str(context["error"]).partition(": ")
            problem, _, fix = rest.partition("; ")
            at = key if path and path[-1] == inner else f"{key}.{inner}"
            yield ConfigError(at, problem, fix[:1].upper() + fix[1:])
        elif kind == "extra_forbidden":
            yield _unknown(key, path, root)
        elif kind == "missing":
            yield ConfigError(key, "is missing", _how_to_add(path, root))
        elif is_union:
            yield ConfigError(key, f"{value!r} is not usable here", "Write a text, a whole number or a boolean")
        elif kind == "literal_error":
            yield ConfigError(key, f"{value!r} is not known", f"Write one of {context['expected'].replace(' or ', ', ')}")
        elif kind == "string_too_short":
            yield ConfigError(key, "is empty", "Write a text that is not")
        else:
            yield _wrong_value(key, value, kind, context)


def _path(loc: Sequence[str | int], tree: Any, kind: str) -> tuple[list[str | int], bool]:
    """The part of a pydantic location that a reader finds in the file; True when the rest names a member of a union."""
    path: list[str | int] = []
    for part in loc:
        inside = part in tree if isinstance(tree, Mapping) else isinstance(part, int) and isinstance(tree, list | tuple)
        if not inside:
            return (path, True) if kind != "missing" else ([*path, part], False)
        path.append(part)
        tree = tree[part]
    return path, False


def _unknown(key: str, path: Sequence[str | int], root: type[BaseModel]) -> ConfigError:
    table = table_at(root, path[:-1])
    near = difflib.get_close_matches(str(path[-1]), table.model_fields if table else (), n=1)
    return ConfigError(key, "there is no such setting", f"Did you mean {near[0]!r}?" if near else "Remove it")


def _how_to_add(path: Sequence[str | int], root: type[BaseModel]) -> str:
    table = table_at(root, path[:-1])
    field = table.model_fields[str(path[-1])] if table else None
    choices = [repr(choice) for choice in get_args(field.annotation)] if field else []
    return f"Add it: one of {', '.join(choices)}" if choices else "Add it"


def _wrong_value(key: str, value: object, kind: str, context: Mapping[str, Any]) -> ConfigError:
    for bound, word in (("gt", "above"), ("ge", "of at least"), ("lt", "below"), ("le", "of at most")):
        if bound in context:
            return ConfigError(key, f"{value!r} is out of range", f"Write a number {word} {context[bound]}")
    wanted, fix = _WANTED.get(kind.partition("_")[0], ("usable", "Write another value"))
    return ConfigError(key, f"{value!r} is not {wanted}", fix)


def table_at(root: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """The table of settings below `root` at a dotted path, given as its parts; None when there is none."""
    table: type[BaseModel] | None = root
    parts = list(path)
    while parts and table is not None:
        field = table.model_fields.get(str(parts.pop(0)))
        annotation = field.annotation if field else None
        inner = [arg for arg in get_args(annotation) if isinstance(arg, type) and issubclass(arg, BaseModel)]
        if inner and parts:
            parts.pop(0)  # the name of a stream or model, or the place of a detector
            table = inner[0]
        else:
            table = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return table
