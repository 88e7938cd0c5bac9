"""Files of the package that browsers load: read once, answered by their exact name, so that no path leads anywhere else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

PAGE: Final = "index.html"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".uPlot": "text/plain; charset=utf-8",
}
# A browser may keep a file and asks each time whether it is still the same, so that an upgrade is seen at once.
CACHING: Final = "no-cache"


class Asset(NamedTuple):
    body: bytes
    media_type: str
    etag: str


@cache
def assets(folder: str) -> dict[str, Asset]:
    """The files of this folder beside the module by their path below it; read once."""
    return dict(_walk(resources.files(__package__) / folder, ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for item in folder.iterdir():
        suffix = "." + item.name.rpartition(".")[2]
        if item.is_dir():
            found += _walk(item, f"{prefix}{item.name}/")
        elif suffix in MEDIA_TYPES:
            body = item.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found.append((prefix + item.name, Asset(body, MEDIA_TYPES[suffix], etag)))
    return found


def answer(request: Request, asset: Asset) -> Response:
    """The file, or 304 to a browser that has it."""
    headers = {"ETag": asset.etag, "Cache-Control": CACHING, "X-Content-Type-Options": "nosniff"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if asset.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
