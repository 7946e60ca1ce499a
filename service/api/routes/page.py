"""GET /: the page that shows what the service sees, from files that come with it."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FILES = Path(__file__).parents[2] / "web" / "page"

# Only what the page's own files need. Photos are shown from blob: URLs, and styles are set through the
# CSSOM, so neither an inline script nor an inline style is ever allowed.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Revalidated by ETag, so that a page never runs with another version's modules.
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The page's files, with the headers that fence them in."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file of the page, or 304 where the browser has it already."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


router = APIRouter(include_in_schema=False)
assets = PageFiles(directory=FILES)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself; its styles and modules are under /page/."""
    return await assets.get_response("index.html", request.scope)
