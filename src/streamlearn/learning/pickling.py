"""Pickles that leave what they read as fast as it was.

CPython keeps the attributes of a plain object in the object itself, until somebody asks for its `__dict__`, as pickle does:
from then on it has a dictionary for good, and river's models learn a tenth slower (3.11 and 3.12). Unpickling has the same
effect. So here the attributes of plain objects are read one by one, and written back one by one. The names are taken from the
code of the class's methods; an object that holds more than these say (counted by `gc.get_referents`) is read the ordinary way.
What is kept is the same, and `pickle.loads` reads it anywhere.
"""

from __future__ import annotations

import copyreg
import gc
import io
import pickle
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final

_ABSENT: Final = object()


def dumps(obj: object) -> bytes:
    """`obj` as a pickle of protocol 5. Raises what `pickle.dumps` raises."""
    out = io.BytesIO()
    _Pickler(out, protocol=5).dump(obj)
    return out.getvalue()


def dumps_apart(obj: object, tables: Mapping[str, object]) -> bytes:
    """As `dumps`, but `tables` are left out: where one of them is referred to, its name stands for it."""
    out = io.BytesIO()
    pickler = _Apart(out, protocol=5)
    pickler.names = {id(table): name for name, table in tables.items()}
    pickler.dump(obj)
    return out.getvalue()


def loads_apart(data: bytes, tables: Mapping[str, object]) -> Any:
    """The object whose `dumps_apart`, or `dumps`, were given, with these tables. They must come from a verified blob.

    Raises UnpicklingError when it needs a table that is not among them, and whatever else unpickling raises.
    """
    unpickler = _Together(io.BytesIO(data))
    unpickler.tables = tables
    return unpickler.load()


class _Shape:
    """What is known of a class whose objects pickle the ordinary way: its objects' attribute names, in the order found last."""

    __slots__ = ("candidates", "names", "settable")

    def __init__(self, kind: Any) -> None:
        found = {name: None for cls in kind.__mro__ for item in vars(cls).values() for name in _names(item)}
        # An attribute of the class would answer for one that the object lacks.
        self.candidates = [name for name in found if not hasattr(kind, name)]
        self.names = self.candidates
        self.settable = not hasattr(kind, "__setstate__") and kind.__setattr__ is object.__setattr__

    def read(self, obj: Any) -> dict[str, Any] | None:
        """The object's attributes; None when there are others than these names."""
        held = len(gc.get_referents(obj)) - 1  # its class is the other one
        for names in (self.names, self.candidates):
            state = {name: value for name in names if (value := getattr(obj, name, _ABSENT)) is not _ABSENT}
            if len(state) == held:
                self.names = list(state)
                return state
        return None


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        shape = _shapes.get(kind, _ABSENT)
        if shape is _ABSENT:
            shape = _shapes[kind] = _Shape(kind) if _is_plain(kind) else None
        if shape is None:
            return NotImplemented
        state = shape.read(obj)
        if state is None:
            return NotImplemented
        return copyreg.__newobj__, (kind,), (None, state) if shape.settable else state  # type: ignore[attr-defined]  # not in typeshed


class _Apart(_Pickler):
    names: Mapping[int, str]

    def persistent_id(self, obj: Any) -> str | None:
        return self.names.get(id(obj))


class _Together(pickle.Unpickler):
    tables: Mapping[str, object]

    def persistent_load(self, pid: Any) -> Any:
        if pid not in self.tables:
            raise pickle.UnpicklingError(f"it needs the table {pid!r}, which was not given")
        return self.tables[pid]


_shapes: dict[type, Any] = {}


def _is_plain(kind: Any) -> bool:
    """Whether pickle would take its objects as a class and a `__dict__`, nothing else."""
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and kind.__getattribute__ is object.__getattribute__
        and not any(hasattr(kind, name) for name in ("__getattr__", "__getnewargs__", "__getnewargs_ex__"))
        and kind not in copyreg.dispatch_table
        and not issubclass(kind, (type, list, dict, set, tuple, BaseException))
        and kind.__new__ is object.__new__
    )


def _names(item: object) -> tuple[str, ...]:
    """The names that the code of a function, a property or a method of a class speaks of."""
    if isinstance(item, property):
        return tuple(name for part in (item.fget, item.fset) for name in _names(part))
    if isinstance(item, (classmethod, staticmethod)):
        item = item.__func__
    return item.__code__.co_names if isinstance(item, FunctionType) else ()
