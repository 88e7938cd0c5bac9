"""Services on real servers. Puts `support/` on the path, as its module is shared by the tests here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))

from service_bench import Site  # noqa: E402  # it is there from the line above on


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    """Makes sites; the arguments are Site's. Whatever runs there is ended with the test."""
    with ExitStack() as stack:

        def make(*words: object, **options: object) -> Site:
            site = Site(*words, **options)  # type: ignore[arg-type]  # as Site has them
            stack.callback(site.close)
            return site

        yield make
