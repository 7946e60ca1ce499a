"""WS /stream."""

from fastapi import APIRouter, Depends, WebSocket

from service.api.deps import (
    DetectQueryDep,
    MetricsDep,
    RuntimeDep,
    SettingsDep,
    require_own_origin,
    require_stream_key,
)
from service.api.streaming import Session

router = APIRouter()


@router.websocket("/stream", dependencies=[Depends(require_own_origin), Depends(require_stream_key)])
async def stream(
    socket: WebSocket, settings: SettingsDep, runtime: RuntimeDep, metrics: MetricsDep, query: DetectQueryDep
) -> None:
    """Binary frames in, one JSON answer for each processed one out; the newest frame wins."""
    runtime.pipeline.classifier(query.options.model)  # an unknown model is told before the first frame
    await Session(socket, settings, runtime, metrics, query).run()
