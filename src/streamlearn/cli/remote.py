"""How commands reach a running service: its address, the key, and what to say when nobody answers."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ..client import DEFAULT_URL, Client, Retry
from ..errors import Unreachable

IMPATIENT = Retry(attempts=2)
PATIENT = Retry(attempts=12)

Url = Annotated[str, typer.Option("--url", envvar="STREAMLEARN_URL", help="Where the service answers.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="STREAMLEARN_API_KEY", help="The secret of an API key, if one is needed.", show_default=False
    ),
]
URL = DEFAULT_URL


@contextmanager
def connected(url: str, api_key: str | None, retry: Retry = IMPATIENT) -> Iterator[Client]:
    """A client that signs as the person at the keyboard. Raises Unreachable with what to do about it."""
    with Client(url, api_key=api_key, user=_user(), retry=retry) as client:
        try:
            yield client
        except Unreachable as error:
            hint = "Is the service running (streamlearn serve CONFIG)? --url names another address"
            raise Unreachable(f"nothing answers at {url} ({error}). {hint}") from None


def _user() -> str | None:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None
    return name if name.isascii() else None
