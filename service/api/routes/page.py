"""GET /: the page that shows what the service sees, from files that come with it."""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.api.headers import FencedFiles, page_headers

FILES = Path(__file__).parents[2] / "web" / "page"

# Only what the page's own files need. Photos are shown from blob: URLs, and styles are set through the
# CSSOM, so neither an inline script nor an inline style is ever allowed.
HEADERS = {
    **page_headers(
        img_src="'self' blob:",
        require_trusted_types_for="'script'",
        trusted_types="'none'",
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}

router = APIRouter(include_in_schema=False)
assets = FencedFiles(FILES, HEADERS)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself; its styles and modules are under /page/."""
    return await assets.get_response("index.html", request.scope)
