"""What every answer tells browsers not to do, and what the page and the documentation may do."""

from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

# Each is added to an answer that has no such header of its own.
DEFAULTS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # An answer tells of a photo: it is nobody's to keep on the way.
    "Cache-Control": "no-store",
}


def page_headers(**directives: str) -> dict[str, str]:
    """The headers of a page that runs only files of this service, and needs besides what `directives` say.

    `DEFAULTS` adds the rest.
    """
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        **{name.replace("_", "-"): value for name, value in directives.items()},
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Revalidated by ETag, so that a page never runs with another version's modules.
        "Cache-Control": "no-cache",
    }


class FencedFiles(StaticFiles):
    """Files of the service, with the headers that fence them in."""

    def __init__(self, directory: Path, headers: Mapping[str, str]) -> None:
        super().__init__(directory=directory)
        self._headers = headers

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 304 where the browser has it already."""
        response = await super().get_response(path, scope)
        response.headers.update(self._headers)
        return response
