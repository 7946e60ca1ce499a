"""A client of fer-service, for programs that wait (`FerClient`) and for asyncio (`AsyncFerClient`)."""

from fer_client.aio import AsyncFerClient, AsyncStream
from fer_client.errors import FerError
from fer_client.sync import FerClient, Stream
from fer_client.types import (
    BatchError,
    BatchOk,
    Box,
    Detection,
    Emotion,
    Face,
    ImageFormat,
    ImageInfo,
    Landmarks,
    ModelInfo,
    ModelRef,
    Point,
    Probabilities,
    Problem,
    StreamError,
    StreamFace,
    StreamFrame,
    Timings,
)
from fer_client.wire import Image, Options, PictureFormat, Retry

__all__ = [
    "AsyncFerClient",
    "AsyncStream",
    "BatchError",
    "BatchOk",
    "Box",
    "Detection",
    "Emotion",
    "Face",
    "FerClient",
    "FerError",
    "Image",
    "ImageFormat",
    "ImageInfo",
    "Landmarks",
    "ModelInfo",
    "ModelRef",
    "Options",
    "PictureFormat",
    "Point",
    "Probabilities",
    "Problem",
    "Retry",
    "Stream",
    "StreamError",
    "StreamFace",
    "StreamFrame",
    "Timings",
]
