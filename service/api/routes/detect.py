"""POST /detect-emotions and POST /detect-emotions/batch."""

import asyncio
from functools import partial

from fastapi import APIRouter, Depends, Request, Response

from service.api import openapi
from service.api.answers import server_timing, to_json
from service.api.auth import require_api_key
from service.api.direct import DirectRoute
from service.api.errors import kind_of, problem_of
from service.api.execution import Drawn, Task, task_of
from service.api.negotiation import accepted, negotiate
from service.api.schemas import Batch, BatchError, BatchOk, Detection
from service.api.uploads import Body, batch_images, one_of_batch, single_image
from service.vision.draw import PictureFormat

router = APIRouter(route_class=DirectRoute, dependencies=[Depends(require_api_key)], tags=["detection"])

JSON = "application/json"
# What `Accept` may ask for beside JSON, the default.
PICTURES: dict[str, PictureFormat] = {"image/jpeg": "jpeg", "image/png": "png"}


@router.post(
    "/detect-emotions",
    response_model=Detection,
    responses=openapi.DETECT_RESPONSES,
    openapi_extra=openapi.DETECT_BODY | openapi.PARAMETERS,
)
async def detect_emotions(request: Request) -> Response:
    """Find the faces in one image and tell how likely people would call each expression what.

    `Accept: image/jpeg` or `image/png` asks for the picture itself instead, upright and full-size, with
    boxes, landmarks and labels drawn on it.
    """
    task = task_of(request)
    media_type = negotiate(accepted(request.headers), [JSON, *PICTURES])
    if media_type in PICTURES:
        drawn = await task.with_body(
            request, lambda body: task.draw(partial(single_image, body), PICTURES[media_type])
        )
        return Response(drawn.data, media_type=media_type, headers=_picture_headers(drawn))
    answer = await task.with_body(request, lambda body: task.detect(partial(single_image, body)))
    headers = {"Server-Timing": server_timing(answer.timings_ms), "Vary": "Accept"}
    return Response(to_json(answer), media_type=JSON, headers=headers)


def _picture_headers(drawn: Drawn) -> dict[str, str]:
    return {"X-Faces": str(drawn.faces), "Server-Timing": drawn.server_timing, "Vary": "Accept"}


@router.post(
    "/detect-emotions/batch",
    response_model=Batch,
    responses=openapi.BATCH_RESPONSES,
    openapi_extra=openapi.BATCH_BODY | openapi.PARAMETERS,
)
async def detect_emotions_batch(request: Request) -> Response:
    """The same for several images, answered in their order; one that fails does not fail the others."""
    task = task_of(request)
    negotiate(accepted(request.headers), [JSON])
    answer = await task.with_body(request, partial(_detect_all, task, request.state.request_id))
    return Response(to_json(answer), media_type=JSON)


async def _detect_all(task: Task, request_id: str, body: Body) -> Batch:
    """Analyze all; the engine sees to it that other requests get their turn in between."""
    images = (await task.run(partial(batch_images, body, task.settings.max_batch_images))).value
    del body  # the images are copies
    task.metrics.batch(len(images))

    async def one(image: bytes | str) -> BatchOk | BatchError:
        try:
            with task.runtime.tracing.span("image"):
                return BatchOk(result=await task.detect(partial(one_of_batch, image)))
        except Exception as error:
            task.metrics.rejected(kind_of(error).code)
            return BatchError(error=problem_of(error, request_id))

    return Batch(results=list(await asyncio.gather(*map(one, images))))
