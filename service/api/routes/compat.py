"""POST /analyze: deepface's request and answer for `actions: ["emotion"]`."""

from functools import partial

from fastapi import APIRouter, Depends, Request, Response

from service.api import openapi
from service.api.auth import require_key_or_bearer
from service.api.compat import CompatRequest, analyzed, read_request
from service.api.errors import NoFaceError
from service.api.execution import Task, task_of
from service.api.negotiation import accepted, negotiate
from service.api.schemas import Analyzed, Detection
from service.api.uploads import Body

router = APIRouter(dependencies=[Depends(require_key_or_bearer)], tags=["compatibility"])

JSON = "application/json"


@router.post(
    "/analyze",
    response_model=Analyzed,
    responses=openapi.ANALYZE_RESPONSES,
    openapi_extra=openapi.ANALYZE_BODY | openapi.ANALYZE_PARAMETERS,
)
async def analyze(request: Request) -> Response:
    """For clients of deepface's API: the same request, the same answer, for the emotions only.

    The query parameters of `POST /detect-emotions` work here too, but for `include`.
    """
    task = task_of(request)
    negotiate(accepted(request.headers), [JSON])
    asked, found = await task.with_body(request, partial(_detect, task))
    if asked.enforce_detection and not found.faces:
        raise NoFaceError("no face was found; send enforce_detection=false for an empty list instead")
    return Response(analyzed(found).model_dump_json(), media_type=JSON)


async def _detect(task: Task, body: Body) -> tuple[CompatRequest, Detection]:
    asked = (await task.run(partial(read_request, body))).value
    del body  # the image is a copy
    return asked, await task.detect(lambda: asked.image)
