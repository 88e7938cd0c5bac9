"""How commands reach a running service: its address, the key, and what to say when nobody answers."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Unreachable
from ..wire import DEFAULT_URL

if TYPE_CHECKING:
    from ..client import Client

IMPATIENT = 2  # attempts
PATIENT = 12

Url = Annotated[str, typer.Option("--url", envvar="STREAMLEARN_URL", help="Where the service answers.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="STREAMLEARN_API_KEY", help="The secret of an API key, if one is needed.", show_default=False
    ),
]
URL = DEFAULT_URL


@contextmanager
def connected(url: str, api_key: str | None, attempts: int = IMPATIENT) -> Iterator[Client]:
    """A client that signs as the person at the keyboard. Raises Unreachable with what to do about it."""
    from ..client import Client, Retry  # here, so that a role, which needs neither, starts at once

    with Client(url, api_key=api_key, user=user(), retry=Retry(attempts=attempts)) as client:
        try:
            yield client
        except Unreachable as error:
            hint = "Is the service running (streamlearn serve CONFIG)? --url names another address"
            raise Unreachable(f"nothing answers at {url} ({error}). {hint}") from None


def user() -> str | None:
    """Who sits at the keyboard, None when that cannot be told."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None
    return name if name.isascii() else None
