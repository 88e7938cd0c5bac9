"""The dashboard's files, as they lie in the package: the page at `/`, and all that it asks for under `/dashboard/`."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .assets import PAGE, answer, assets
from .openapi import PlainRoute
from .problems import ProblemError

FOLDER: Final = "dashboard"
router: Final = APIRouter(route_class=PlainRoute)


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return answer(request, assets(FOLDER)[PAGE])


@router.get("/dashboard/{path:path}", include_in_schema=False)
async def file(request: Request) -> Response:
    path = request.path_params["path"]
    asset = assets(FOLDER).get(path)
    if asset is None:
        raise ProblemError("not-found", f"the dashboard has no file {path[:200]!r}; it begins at /")
    return answer(request, asset)
