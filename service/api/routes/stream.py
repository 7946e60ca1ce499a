"""WS /stream."""

from fastapi import APIRouter, Depends, WebSocket

from service.api.auth import require_own_origin, require_stream_key
from service.api.deps import metrics_of, query_of, runtime_of, settings_of
from service.api.streaming import StreamSession

router = APIRouter()


@router.websocket("/stream", dependencies=[Depends(require_own_origin), Depends(require_stream_key)])
async def stream(socket: WebSocket) -> None:
    """Binary frames in, one JSON answer for each processed one out; the newest frame wins."""
    query, runtime = query_of(socket), runtime_of(socket)
    runtime.pipeline.classifier(query.options.model)  # an unknown model is told before the first frame
    await StreamSession(socket, settings_of(socket), runtime, metrics_of(socket), query).run()
