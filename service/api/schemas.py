"""Wire types: what JSON looks like, and nothing else."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from service.vision.headers import ACCEPTED_FORMATS
from service.vision.types import EMOTIONS, LabelSet

Emotion = Annotated[str, WithJsonSchema({"enum": list(EMOTIONS), "type": "string"})]
ImageFormat = Annotated[str, WithJsonSchema({"enum": list(ACCEPTED_FORMATS), "type": "string"})]
Probability = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(description="sha256 of the graph file.", pattern="^sha256:[0-9a-f]{64}$")]
FrameNumber = Annotated[
    int, Field(description="Which one: counts the messages that the client sent, from 1.")
]
Dropped = Annotated[
    int, Field(description="Frames since the last answer that newer ones replaced, unanswered.")
]


class Wire(BaseModel):
    """Base of the other wire types: validated, frozen, and strict about its own field names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Unvalidated:
    """Base of what an answer says of an analysis: plain dataclasses, neither validated nor frozen.

    The values are our own, and validated or frozen an answer would take a tenth of a millisecond more of the
    event loop.
    """

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")


class JsonImage(Wire):
    """The JSON form of a request body."""

    image: str = Field(description="The image file, as base64 or as a `data:` URI.")


class JsonImages(Wire):
    """The JSON form of a batch."""

    images: list[str] = Field(description="The image files, each as base64 or as a `data:` URI.")


@dataclass(slots=True, kw_only=True)
class ImageInfo(Unvalidated):
    """The image as it was received; width and height are those of the upright picture."""

    width: Annotated[int, Field(description="Pixels, after the EXIF orientation is applied.")]
    height: Annotated[int, Field(description="Pixels, after the EXIF orientation is applied.")]
    format: ImageFormat
    exif_orientation: Annotated[
        int, Field(ge=1, le=8, description="As the file said; 1 where it said nothing.")
    ]


@dataclass(slots=True, kw_only=True)
class BoxSchema(Unvalidated):
    """Whole pixels of the upright image, clipped to it."""

    x: int
    y: int
    width: int
    height: int


@dataclass(slots=True, kw_only=True)
class PointSchema(Unvalidated):
    """Pixels of the upright image."""

    x: float
    y: float


@dataclass(slots=True, kw_only=True)
class LandmarksSchema(Unvalidated):
    """Five points. Left and right are the viewer's (the image's), not the person's.

    Of a face that the image's edge cuts, they may lie outside.
    """

    left_eye: PointSchema
    right_eye: PointSchema
    nose: PointSchema
    mouth_left: PointSchema
    mouth_right: PointSchema


@dataclass(slots=True, kw_only=True)
class Probabilities(Unvalidated):
    """How likely people would call the expression each of the seven; sums to 1."""

    angry: Probability
    disgust: Probability
    fear: Probability
    happy: Probability
    sad: Probability
    surprise: Probability
    neutral: Probability


@dataclass(slots=True, kw_only=True)
class FaceSchema(Unvalidated):
    """One face."""

    box: BoxSchema
    detection_confidence: Annotated[
        Probability, Field(description="How sure the detector is that this is a face.")
    ]
    landmarks: LandmarksSchema
    dominant_emotion: Annotated[Emotion, Field(description="The most likely of the seven.")]
    probabilities: Probabilities
    uncertain: Annotated[
        bool,
        Field(
            description="True where the answer is wrong more often than right: its probability is too low."
        ),
    ]
    crop: Annotated[
        str | None,
        Field(
            description="The 48x48 grayscale crop that was classified, as base64 PNG; "
            "with `include=crops` only."
        ),
    ] = None


@dataclass(slots=True, kw_only=True)
class ModelRef(Unvalidated):
    """Which emotion model answered."""

    name: str
    version: str
    digest: Digest


@dataclass(slots=True, kw_only=True)
class TimingsSchema(Unvalidated):
    """Milliseconds. queue: waiting for a worker; total: from the last byte of the body to the answer."""

    queue: float
    decode: float
    detect: float
    crop: float
    classify: float
    total: float


@dataclass(slots=True, kw_only=True)
class Detection(Unvalidated):
    """The answer for one image; faces come largest first."""

    image: ImageInfo
    faces: list[FaceSchema]
    model: ModelRef
    timings_ms: TimingsSchema


class Problem(Wire):
    """RFC 9457 problem details."""

    type: str = Field(description="A URN for this kind of problem.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; what a program should look at.")
    request_id: str


class BatchOk(Wire):
    """An image of a batch that was analyzed."""

    status: Literal["ok"] = "ok"
    result: Detection


class BatchError(Wire):
    """An image of a batch that could not be analyzed."""

    status: Literal["error"] = "error"
    error: Problem


class Batch(Wire):
    """One entry for each image, in the order of the request."""

    results: list[Annotated[BatchOk | BatchError, Field(discriminator="status")]]


@dataclass(slots=True, kw_only=True)
class StreamFace(FaceSchema):
    """A face of a stream. Label, probabilities and `uncertain` are smoothed over the last frames."""

    id: Annotated[
        int, Field(description="The same from frame to frame; survives short losses, and is never reused.")
    ]
    raw_probabilities: Annotated[Probabilities, Field(description="Those of this frame alone.")]


@dataclass(slots=True, kw_only=True)
class StreamFrame(Unvalidated):
    """A frame of a stream that was analyzed; faces come largest first."""

    status: Literal["ok"] = "ok"
    frame: FrameNumber
    dropped: Dropped
    full_search: Annotated[
        bool, Field(description="False where faces were looked for only where they were in the frame before.")
    ]
    image: ImageInfo
    faces: list[StreamFace]
    model: ModelRef
    timings_ms: TimingsSchema


class StreamError(Wire):
    """A frame of a stream that could not be analyzed; the stream goes on."""

    status: Literal["error"] = "error"
    frame: FrameNumber
    dropped: Dropped
    error: Problem


class ModelInfo(Wire):
    """One emotion model that requests may choose."""

    name: str
    version: str
    digest: Digest
    default: bool
    bytes: int = Field(description="Size of the graph file.")
    labels: list[str] = Field(examples=[list(EMOTIONS)])
    label_set: LabelSet = Field(
        "fer2013",
        description="Whose word the answers follow: FER2013's labels, or that of FER+'s ten voters.",
    )
    uncertain_below: Probability
    licence: str
    measured: dict[str, float] = Field(description="Figures of the model card, measured on the graph file.")


class Models(Wire):
    """What `model=` accepts."""

    models: list[ModelInfo]


class Health(Wire):
    """The state of a probe."""

    status: Literal["ok"] = "ok"


class AnalyzeRequest(BaseModel):
    """deepface's request. What it knows beyond these fields is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    img: str | None = Field(None, description="The image as a base64 `data:` URI; no path, no URL.")
    img_path: str | None = Field(None, description="The same under its older name.")
    actions: list[str] | str = Field(["emotion"], description="Only `emotion` is offered.")
    enforce_detection: bool = Field(
        True, description="An error where there is no face; if false, an empty list."
    )
    detector_backend: str = Field(
        "mtcnn", description="Ignored: the detector is always this service's MTCNN. `skip` is refused."
    )
    anti_spoofing: bool = Field(False, description="Not offered: `true` is refused.")

    @field_validator("enforce_detection", "anti_spoofing", mode="before")
    @classmethod
    def _null_is_false(cls, value: object) -> object:
        """As with deepface; some languages send null for what was not set."""
        return False if value is None else value


class RegionSchema(Wire):
    """Whole pixels of the upright image. Left and right are the person's, not the viewer's."""

    x: int
    y: int
    w: int
    h: int
    left_eye: tuple[int, int] | None
    right_eye: tuple[int, int] | None


Percentage = Annotated[float, Field(ge=0, le=100)]


class Percentages(Wire):
    """The seven probabilities times 100."""

    angry: Percentage
    disgust: Percentage
    fear: Percentage
    happy: Percentage
    sad: Percentage
    surprise: Percentage
    neutral: Percentage


class AnalyzedFaceSchema(Wire):
    """One face, as deepface tells it for `actions: ["emotion"]`."""

    emotion: Percentages
    dominant_emotion: Emotion
    region: RegionSchema
    face_confidence: Probability = Field(description="Two decimals.")


class Analyzed(Wire):
    """The answer of `POST /analyze`; faces come largest first."""

    results: list[AnalyzedFaceSchema]
