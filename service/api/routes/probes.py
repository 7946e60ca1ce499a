"""GET /livez and /readyz."""

from fastapi import APIRouter, Request

from service.api.errors import NotReadyError
from service.api.openapi import problem_responses
from service.api.schemas import Health

router = APIRouter(tags=["operations"])


# The first route of a path says what methods there are; the second one is the document's, which has no HEAD.
@router.get("/livez")
@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
async def livez() -> Health:
    """The process answers. Touches no model."""
    return Health()


@router.get("/readyz", responses=problem_responses("not_ready"))
@router.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
async def readyz(request: Request) -> Health:
    """The graphs are loaded and warm, and the service is not draining."""
    runtime = request.app.state.runtime
    if runtime is None or not runtime.engine.accepting:
        raise NotReadyError("the service is loading or draining")
    return Health()
