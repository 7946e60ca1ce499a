"""From the bytes of an image to its faces and their emotions."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Self

import numpy as np

from service.vision.crop import crop_faces
from service.vision.draw import PictureFormat, annotate, check_encodable, encode
from service.vision.emotion import EmotionClassifier
from service.vision.image import Decoder, decode
from service.vision.mtcnn import EVERY, DetectionParameters, Mtcnn, default_min_face_size
from service.vision.types import EMOTIONS, Analysis, AnalyzedFace, DecodedImage, Face, Helpers, Timings

DEFAULT_MAX_PIXELS = 64_000_000
# Makes a context from a stage's name, which is entered for as long as that stage lasts.
Watch = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """What a caller may choose.

    model: an emotion variant, else the default one; min_face_size: pixels of the upright image, else
    what `default_min_face_size` tells; min_confidence: faces below it are left out;
    max_faces: only the largest so many. Raises ValueError for values that cannot be meant.
    """

    model: str | None = None
    min_face_size: float | None = None
    min_confidence: float = 0.0
    max_faces: int | None = None

    def __post_init__(self) -> None:
        if self.min_face_size is not None and not self.min_face_size > 0:
            raise ValueError(f"min_face_size is a number of pixels, not {self.min_face_size}")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence is a probability, not {self.min_confidence}")
        if self.max_faces is not None and self.max_faces < 1:
            raise ValueError(f"max_faces is at least 1, not {self.max_faces}")


class UnknownModelError(ValueError):
    """No emotion variant of that name."""


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """An analysis, drawn on its image.

    data: the encoded picture, upright and full-size; draw_ms: what it took beyond the analysis.
    """

    analysis: Analysis
    data: bytes
    draw_ms: float


class EmotionPipeline:
    """Detect, crop, classify. Safe to use from several threads at once.

    max_pixels: images of more pixels raise `ImageTooLargeError` before they are decoded.
    decoder: where the decoder libraries run, if not in the calling thread.
    """

    def __init__(
        self,
        detector: Mtcnn,
        classifiers: Mapping[str, EmotionClassifier],
        default: str,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        decoder: Decoder | None = None,
    ) -> None:
        self.detector, self.classifiers, self.default = detector, classifiers, default
        self.max_pixels, self.decoder = max_pixels, decoder
        self._watch: Watch = nullcontext

    def watched_by(self, watch: Watch) -> Self:
        """The same; `watch` is told of decode, detect or follow, crop, classify and draw, where they run."""
        same = copy(self)
        same._watch = watch
        return same

    def helped_by(self, helpers: Helpers) -> Self:
        """The same; `helpers` make runs of graphs that do not depend on each other."""
        same = copy(self)
        same.detector = self.detector.helped_by(helpers)
        same.classifiers = {name: one.helped_by(helpers) for name, one in self.classifiers.items()}
        return same

    def warm_up(self) -> None:
        """Run every graph, so that the first real image takes no longer than the next.

        Raises what a graph of the detector raises that does not run; RuntimeError for a classifier that does
        not run on any number of crops; ValueError for one whose answer is no seven probabilities: one
        without a softmax, say.
        """
        # An empty picture has no candidates: with these thresholds the later networks see some all the same.
        self.detector.detect(
            DecodedImage(np.zeros((48, 48, 3), np.uint8), 48, 48, "png", 1),
            DetectionParameters(12, thresholds=(EVERY, EVERY, EVERY)),
        )
        for name, classifier in self.classifiers.items():
            _try_out(name, classifier)

    def analyze(self, data: bytes, options: AnalysisOptions | None = None) -> Analysis:
        """Analyze one encoded image (JPEG, PNG, WebP, BMP, TIFF, GIF, HEIF or AVIF).

        Raises `ImageError` for bytes that are no such image, `UnknownModelError` for an unknown model.
        """
        options = options or AnalysisOptions()
        image, decode_ms = self._decode_timed(data, options)
        return self.analyze_decoded(image, options, decode_ms)

    def draw(
        self,
        data: bytes,
        options: AnalysisOptions | None = None,
        format: PictureFormat = "jpeg",  # noqa: A002
    ) -> AnnotatedPicture:
        """Analyze one encoded image exactly as `analyze` does, and draw what was found on it.

        Raises what `analyze` does; `NotEncodableError` is for a picture that the format has no room for.
        """
        options = options or AnalysisOptions()
        image, decode_ms = self._decode_timed(data, options)
        check_encodable(image.width, image.height, format)
        analysis = self.analyze_decoded(image, options, decode_ms)
        start = perf_counter()
        with self._watch("draw"):
            if image.pixels.shape[:2] != (image.height, image.width):
                # Decoded at a reduced scale: the answer stays that of `analyze`, the picture gets all pixels.
                image = self._decode(data, smallest=lambda *_: 0)
            picture = encode(annotate(image.pixels, analysis.faces), format)
        return AnnotatedPicture(analysis, picture, (perf_counter() - start) * 1000)

    def _decode_timed(self, data: bytes, options: AnalysisOptions) -> tuple[DecodedImage, float]:
        self.classifier(options.model)
        start = perf_counter()
        image = self.decode(data, options)
        return image, (perf_counter() - start) * 1000

    def analyze_decoded(
        self, image: DecodedImage, options: AnalysisOptions, decode_ms: float = 0.0
    ) -> Analysis:
        """Analyze an image that is decoded already, as a film's frame is. decode_ms: what that took."""
        start = perf_counter()
        faces = self.detect(image, options)
        return self.describe(image, faces, options, decode_ms, (perf_counter() - start) * 1000)

    def decode(self, data: bytes, options: AnalysisOptions) -> DecodedImage:
        """The image, at the smallest scale at which the smallest face can be found. Raises `ImageError`."""
        with self._watch("decode"):
            return self._decode(data, lambda *size: options.min_face_size or default_min_face_size(*size))

    def detect(self, image: DecodedImage, options: AnalysisOptions) -> tuple[Face, ...]:
        """The faces that the options let pass, largest first."""
        with self._watch("detect"):
            return _chosen(self.detector.detect(image, _parameters(image, options)), options)

    def follow(
        self, image: DecodedImage, faces: Sequence[Face], options: AnalysisOptions
    ) -> tuple[Face, ...]:
        """These faces of the frame before, where they are now, as far as the options let them pass."""
        with self._watch("follow"):
            return _chosen(self.detector.follow(image, faces, _parameters(image, options)), options)

    def describe(
        self,
        image: DecodedImage,
        faces: tuple[Face, ...],
        options: AnalysisOptions,
        decode_ms: float = 0.0,
        detect_ms: float = 0.0,
    ) -> Analysis:
        """The emotions of faces that were found already, and the times that this took, as an analysis."""
        classifier = self.classifier(options.model)
        times = [perf_counter()]
        with self._watch("crop"):
            crops = crop_faces(image, faces)
        times.append(perf_counter())
        with self._watch("classify"):
            probabilities = classifier.classify(crops)
        times.append(perf_counter())
        crop, classify = ((after - before) * 1000 for before, after in pairwise(times))
        analyzed = tuple(
            AnalyzedFace(face, tuple(row.tolist()), bool(row.max() < classifier.uncertain_below), cut[0])
            for face, row, cut in zip(faces, probabilities, crops, strict=True)
        )
        return Analysis(
            image.width,
            image.height,
            image.format,
            image.exif_orientation,
            analyzed,
            options.model or self.default,
            Timings(decode_ms, detect_ms, crop, classify),
        )

    def classifier(self, model: str | None) -> EmotionClassifier:
        """The variant of that name, or the default one. Raises UnknownModelError."""
        name = model or self.default
        if name not in self.classifiers:
            raise UnknownModelError(f"no model {name!r}: there are {', '.join(self.classifiers)}")
        return self.classifiers[name]

    def _decode(self, data: bytes, smallest: Callable[[int, int], float]) -> DecodedImage:
        return decode(data, max_pixels=self.max_pixels, min_face_size=smallest, decoder=self.decoder)


def _try_out(name: str, classifier: EmotionClassifier) -> None:
    # Once, for each number of crops takes memory of its own (three 2 MB more than two); of a number that no
    # graph is fixed to.
    crops = np.zeros((3, 1, 48, 48), np.uint8)
    try:
        probabilities = classifier.classify(crops)
    except Exception as error:  # whatever a graph that loads does when it runs
        raise RuntimeError(f"{name!r} fails on uint8 crops {crops.shape}: {error}") from error
    seven = probabilities.shape == (len(crops), len(EMOTIONS))
    if not (seven and (probabilities >= 0).all() and np.allclose(probabilities.sum(1), 1, atol=1e-3)):
        answer = probabilities[0].tolist()
        raise ValueError(f"{name!r} answers {answer}, which is no probabilities of seven emotions")


def _parameters(image: DecodedImage, options: AnalysisOptions) -> DetectionParameters:
    return DetectionParameters(options.min_face_size or default_min_face_size(image.width, image.height))


def _chosen(faces: tuple[Face, ...], options: AnalysisOptions) -> tuple[Face, ...]:
    kept = tuple(face for face in faces if face.confidence >= options.min_confidence)
    return kept[: options.max_faces]
