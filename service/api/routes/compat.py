"""POST /analyze: deepface's request and answer for `actions: ["emotion"]`."""

from functools import partial

from fastapi import APIRouter, Request, Response

from service.api import openapi
from service.api.compat import analyzed, read_request
from service.api.errors import NoFaceError
from service.api.execution import TaskDep, while_connected
from service.api.negotiation import negotiate
from service.api.schemas import Analyzed

router = APIRouter(tags=["compatibility"])

JSON = "application/json"


@router.post(
    "/analyze",
    response_model=Analyzed,
    responses=openapi.ANALYZE_RESPONSES,
    openapi_extra=openapi.ANALYZE_BODY,
)
async def analyze(request: Request, task: TaskDep) -> Response:
    """For clients of deepface's API: the same request, the same answer, for the emotions only.

    The query parameters of `POST /detect-emotions` work here too.
    """
    negotiate(request.headers.get("accept"), [JSON])
    body = await task.read(request)
    with task.runtime.engine.admit():
        asked = (await task.run(partial(read_request, body))).value
        found = await while_connected(request, task.detect(lambda: asked.image))
    if asked.enforce_detection and not found.faces:
        raise NoFaceError("no face was found; send enforce_detection=false for an empty list instead")
    return Response(analyzed(found).model_dump_json(), media_type=JSON)
