"""GET /docs: Swagger UI, from files that come with the service."""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.api.headers import FencedFiles, page_headers

FILES = Path(__file__).parents[2] / "web" / "swagger-ui"

# Swagger UI's style sheet holds icons as data: URLs; pictures that were answered are shown from blob: URLs.
HEADERS = {
    **page_headers(img_src="'self' data: blob:"),
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

router = APIRouter(include_in_schema=False)
assets = FencedFiles(FILES, HEADERS)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The API, to read and to try."""
    return await assets.get_response("index.html", request.scope)
