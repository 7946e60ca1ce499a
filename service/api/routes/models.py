"""GET /models."""

from fastapi import APIRouter, Depends, Request, Response

from service.api.answers import digest
from service.api.auth import require_api_key
from service.api.deps import runtime_of
from service.api.openapi import problem_responses
from service.api.schemas import ModelInfo, Models
from service.runtime.model_store import EmotionEntry

router = APIRouter(dependencies=[Depends(require_api_key)], tags=["models"])


@router.get("/models", response_model=Models, responses=problem_responses("unauthorized", "not_ready"))
async def models(request: Request) -> Response:
    """The emotion models that requests may choose, the default one marked."""
    runtime = runtime_of(request)
    default = runtime.pipeline.default
    entries = runtime.store.manifest.emotion.items()
    found = [_info(name, entry, name == default) for name, entry in entries]
    return Response(Models(models=found).model_dump_json(), media_type="application/json")


def _info(name: str, entry: EmotionEntry, default: bool) -> ModelInfo:
    return ModelInfo(
        name=name,
        version=entry.version,
        digest=digest(entry),
        default=default,
        bytes=entry.bytes,
        labels=list(entry.labels),
        label_set=entry.label_set,
        uncertain_below=entry.uncertain_below,
        licence=entry.licence,
        measured=dict(entry.measured),
    )
