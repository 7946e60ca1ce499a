"""GET /docs: Swagger UI, from files that come with the service."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = Path(__file__).parents[2] / "web" / "swagger-ui"

router = APIRouter(include_in_schema=False)
assets = StaticFiles(directory=ASSETS)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The API, to read and to try."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="fer-service",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon-32x32.png",
    )
