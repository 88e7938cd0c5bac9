"""A digest of everything an object holds, equal for two runs that hold the same: any river estimator, any Python object graph.

Pickled bytes differ between equal models (order of dicts, shared strings, sizes of tables) and prove nothing; here every value
has a name, the path to it, and canonical bytes. Nothing depends on memory addresses, on the order in which a dict or set was
filled, or on PYTHONHASHSEED. It reads through `__reduce_ex__`, as pickle does, so it sees just what a checkpoint keeps; it
must never change what it reads, and is too slow for the hot path.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import random
import struct
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from . import compact

compact.install()

Child = tuple[str, Any]
_NONE: Final = type(None)


def digest(obj: object) -> str:
    """SHA-256, in hex, over the named values of `obj`. Raises TypeError for what cannot be pickled either."""
    total = hashlib.sha256()
    for name, value in named_values(obj):
        for part in (name.encode("utf-8", "surrogatepass"), value):
            total.update(len(part).to_bytes(8, "little"))
            total.update(part)
    return total.hexdigest()


def named_values(obj: object) -> Iterator[tuple[str, bytes]]:
    """(path, canonical bytes) of every value in `obj`: parents before children, dicts and sets in a canonical order.

    Floats count by their exact bits. An object met again is named by the path of its first visit, so sharing and cycles
    count too; strings, numbers, tuples and frozen sets count by value only. Raises TypeError naming the path of an object
    that has no state to read (a lock, a file, a generator).
    """
    # Objects are kept alive while their ids are compared: `__reduce_ex__` makes fresh ones, whose ids would be used again.
    seen: dict[int, tuple[str, object]] = {}
    waiting: list[Child] = [("", obj)]
    while waiting:
        path, item = waiting.pop()
        kind = type(item)
        atom = _ATOMS.get(kind)
        if atom is not None:
            yield path, atom(item)
            continue
        if kind not in _BY_VALUE and not isinstance(item, np.generic):
            first = seen.get(id(item))
            if first is not None:
                yield path, b"@" + first[0].encode("utf-8", "surrogatepass")
                continue
            seen[id(item)] = (path, item)
        tag, children = _open(path, item)
        yield path, tag
        waiting.extend((path + step, child) for step, child in reversed(children))


def _open(path: str, item: Any) -> tuple[bytes, list[Child]]:
    """What `item` is, and its parts under their steps from it, in canonical order."""
    kind = type(item)
    opener = _OPENERS.get(kind)
    if opener is not None:
        return opener(item)
    if isinstance(item, type):
        return b"class " + _name(item), []
    if isinstance(item, np.generic):
        return b"scalar " + item.dtype.str.encode() + item.tobytes(), []
    if isinstance(item, np.ndarray):
        return _open_array(item)
    if hasattr(kind, "__fingerprint__"):  # what it holds is another library's, and it says itself what tells it apart
        return b"object " + _name(kind) + b" " + item.__fingerprint__().encode(), []
    if isinstance(item, np.random.RandomState):
        return b"randomstate", [(".state", item.get_state(legacy=False))]
    return _open_reduced(path, item)


def _open_reduced(path: str, item: Any) -> tuple[bytes, list[Child]]:
    """As pickle takes it apart: a callable, its arguments, a state, list items and dict items (pickle protocol 4)."""
    kind = type(item)
    reduce = copyreg.dispatch_table.get(kind)
    try:
        reduced = reduce(item) if reduce is not None else item.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(f"{path or 'the object'} is a {_name(kind).decode()}, whose state cannot be read: {error}") from error
    if isinstance(reduced, str):
        return b"global " + reduced.encode(), []
    made_by, arguments, state, items, entries = (*reduced, None, None, None)[:5]
    if made_by is copyreg.__newobj__ or made_by is copyreg.__newobj_ex__:  # type: ignore[attr-defined]  # not in typeshed
        arguments = arguments[1:]
    children: list[Child] = [] if not arguments else [("()", arguments)]
    if type(state) is dict:
        children += _attributes(state)
    elif state is not None:
        children.append((".__state__", state))
    if items is not None:
        children += _numbered(items)
    if entries is not None:
        children += _entries(entries)
    return b"object " + _name(kind) + b" by " + _name(made_by), children


def _attributes(state: dict[Any, Any]) -> list[Child]:
    return [(f".{name}", state[name]) for name in sorted(state, key=str)]


def _numbered(items: Iterable[Any]) -> list[Child]:
    return [(f"[{index}]", item) for index, item in enumerate(items)]


def _entries(entries: Iterable[tuple[Any, Any]]) -> list[Child]:
    return sorted(((f"[{_key(key)}]", value) for key, value in entries), key=lambda child: child[0])


def _key(key: Any) -> str:
    """A dict key or set member as text that tells it from every other: short where it can be, else its digest."""
    kind = type(key)
    if kind is str or kind is int or kind is bool or kind is _NONE:
        return repr(key)
    if kind is tuple:
        return f"({', '.join(map(_key, key))})"
    return f"{kind.__name__} {digest(key)}"


def _open_set(item: Any) -> tuple[bytes, list[Child]]:
    names = sorted(map(_key, item))
    return f"{type(item).__name__} {len(names)}".encode(), [(f"{{{name}}}", None) for name in names]


def _open_array(item: Any) -> tuple[bytes, list[Child]]:
    if item.dtype.hasobject:
        return f"array {item.dtype.str} {item.shape}".encode(), _numbered(item.ravel().tolist())
    return f"array {item.dtype.str} {item.shape} ".encode() + item.tobytes(), []


def _open_method(item: types.MethodType) -> tuple[bytes, list[Child]]:
    return b"method " + item.__func__.__qualname__.encode(), [(".__self__", item.__self__)]


def _open_builtin(item: types.BuiltinFunctionType) -> tuple[bytes, list[Child]]:
    owner = item.__self__
    if owner is None or isinstance(owner, (types.ModuleType, type)):
        return b"function " + _name(item), []
    return b"method " + item.__name__.encode(), [(".__self__", owner)]


def _open_partial(item: functools.partial[Any]) -> tuple[bytes, list[Child]]:
    return b"partial", [(".func", item.func), (".args", item.args), (".keywords", dict(item.keywords))]


def _open_random(item: random.Random) -> tuple[bytes, list[Child]]:
    version, words, gauss = item.getstate()
    return b"random %d " % version + struct.pack(f"<{len(words)}Q", *words), [(".gauss", gauss)]


def _open_generator(item: np.random.Generator) -> tuple[bytes, list[Child]]:
    return b"generator", [(".state", item.bit_generator.state)]


def _name(item: Any) -> bytes:
    """A class's or function's module and qualified name; never its address."""
    module = getattr(item, "__module__", None)
    if module is None:
        module = getattr(getattr(item, "__self__", None), "__name__", "")
    return f"{module}.{getattr(item, '__qualname__', getattr(item, '__name__', type(item).__qualname__))}".encode()


_ATOMS: Final[dict[type, Callable[[Any], bytes]]] = {
    _NONE: lambda item: b"none",
    bool: lambda item: b"true" if item else b"false",
    int: lambda item: b"int %d" % item,
    float: lambda item: b"float " + struct.pack("<d", item),
    complex: lambda item: b"complex " + struct.pack("<dd", item.real, item.imag),
    str: lambda item: b"str " + item.encode("utf-8", "surrogatepass"),
    bytes: lambda item: b"bytes " + item,
    types.FunctionType: lambda item: b"function " + _name(item),
}
_BY_VALUE: Final = frozenset({tuple, frozenset, types.BuiltinFunctionType, types.MethodType})
_OPENERS: Final[dict[type, Callable[[Any], tuple[bytes, list[Child]]]]] = {
    dict: lambda item: (b"dict %d" % len(item), _entries(item.items())),
    list: lambda item: (b"list %d" % len(item), _numbered(item)),
    tuple: lambda item: (b"tuple %d" % len(item), _numbered(item)),
    set: _open_set,
    frozenset: _open_set,
    bytearray: lambda item: (b"bytearray " + bytes(item), []),
    types.MethodType: _open_method,
    types.BuiltinFunctionType: _open_builtin,
    functools.partial: _open_partial,
    random.Random: _open_random,
    np.random.Generator: _open_generator,
}
