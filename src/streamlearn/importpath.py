"""`package.module:name` in a configuration → what the operator has installed under it, called with its params.

An error names what is wrong and what to write instead: it is read by whoever writes the configuration.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ModelError


def find(path: str, kind: str) -> Any:
    """What stands under an import path, whatever it is; `kind` ("function", "class") is for messages.

    Raises ModelError saying what is wrong and, after a semicolon, what to do.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ModelError(f"{path!r} is not an import path; write package.module:{kind}")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        what = f"there is no module {error.name!r}" if error.name else str(error)
        raise ModelError(f"{path}: {what}; install it, or put its folder on PYTHONPATH") from None
    except Exception as error:
        raise ModelError(f"{path}: importing {module_name} raised {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; define it in {module_name}"
            raise ModelError(f"{path}: {module_name} has no {attribute!r}{hint}")
        found = getattr(found, part)
    return found


def call(path: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What `function` gives for the arguments. Raises ModelError when it does not take them, or raises."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None  # some built-ins have none: calling it tells
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ModelError(f"{path}: {error}; it is {path.partition(':')[2]}{signature}, called with the params") from None
    try:
        return function(**arguments)
    except Exception as error:
        raise ModelError(f"{path} raised {type(error).__name__}: {error}") from error
