"""Where the work is done: by the pipeline in this process, or (see `remote.py`) by a running service.

Both answer with the precision of the wire, so that the same photo gives the same record either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from service.runtime.decoder_pool import DecoderPool
from service.runtime.model_store import EmotionEntry, ModelStore
from service.vision.pipeline import DEFAULT_MAX_PIXELS, AnalysisOptions, EmotionPipeline
from service.vision.types import (
    Analysis,
    AnalyzedFace,
    Box,
    DecodedImage,
    Face,
    Landmarks,
    Point,
    UInt8Array,
)

# Media outputs never show the crop; dropping it keeps results small.
_NO_CROP: UInt8Array = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class Model:
    """Which graph answers. digest: its checksum; all as `GET /models` has them."""

    name: str
    version: str
    digest: str
    uncertain_below: float

    @classmethod
    def of(cls, name: str, entry: EmotionEntry) -> "Model":
        """The one that the manifest describes so."""
        return cls(name, entry.version, f"sha256:{entry.sha256}", entry.uncertain_below)


class Analyzer(Protocol):
    """Finds the faces of one image; safe to call from several threads at once."""

    @property
    def model(self) -> Model:
        """The emotion model that answers."""
        ...

    def photo(self, data: bytes) -> Analysis:
        """Analyze an encoded image. Raises ImageError or RefusedError for one that cannot be."""
        ...

    def frame(self, pixels: UInt8Array) -> Analysis:
        """Analyze an upright (h, w, 3) RGB frame."""
        ...


class LocalAnalyzer:
    """The pipeline in this process."""

    def __init__(self, pipeline: EmotionPipeline, options: AnalysisOptions, model: Model) -> None:
        self._pipeline, self._options = pipeline, options
        self.model = model

    @classmethod
    def load(
        cls, store: ModelStore, options: AnalysisOptions, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "LocalAnalyzer":
        """Load every graph. Raises ModelStoreError, also for a model that the store lacks.

        max_pixels: larger photos are refused.
        """
        # A file that kills its decoder must not end a run over thousands.
        pipeline = store.pipeline(options.model, max_pixels=max_pixels, decoder=DecoderPool().decode)
        model = Model.of(pipeline.default, store.manifest.emotion[pipeline.default])
        return cls(pipeline, options, model)

    def photo(self, data: bytes) -> Analysis:
        """See Analyzer."""
        return _as_on_the_wire(self._pipeline.analyze(data, self._options))

    def frame(self, pixels: UInt8Array) -> Analysis:
        """See Analyzer."""
        height, width = pixels.shape[:2]
        image = DecodedImage(pixels, width, height, "png", 1)
        return _as_on_the_wire(self._pipeline.analyze_decoded(image, self._options))


def wire_face(
    box: Box, confidence: float, landmarks: Landmarks, probabilities: Sequence[float], uncertain: bool
) -> AnalyzedFace:
    """A face as the wire tells it: six significant digits, hundredths of a pixel, no crop."""
    region = (float(box.x), float(box.y), float(box.x + box.width), float(box.y + box.height))
    face = Face(box, region, significant(confidence), _rounded(landmarks))
    return AnalyzedFace(face, tuple(map(significant, probabilities)), uncertain, _NO_CROP)


def significant(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def _as_on_the_wire(analysis: Analysis) -> Analysis:
    faces = tuple(
        wire_face(
            one.face.box, one.face.confidence, one.face.landmarks, one.probabilities, one.uncertain
        )
        for one in analysis.faces
    )  # fmt: skip
    return replace(analysis, faces=faces)


def _rounded(marks: Landmarks) -> Landmarks:
    return Landmarks(*(Point(round(point.x, 2), round(point.y, 2)) for point in marks.points))
