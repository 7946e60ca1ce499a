"""bytes -> Analysis, without any web framework."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.model_store import DETECTOR_GRAPHS, ModelStore
from service.vision.boxes import overlap
from service.vision.emotion import EmotionClassifier
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import AnalysisOptions, EmotionPipeline, UnknownModelError

T = TypeVar("T")


@pytest.mark.parametrize(
    "options",
    [
        *[{"min_face_size": value} for value in (0, -1, math.nan)],
        *[{"min_confidence": value} for value in (-0.1, 1.1, math.nan)],
        *[{"max_faces": value} for value in (0, -1)],
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AnalysisOptions(**options)


def test_a_portrait_has_one_happy_face(pipeline: EmotionPipeline, photo: bytes) -> None:
    analysis = pipeline.analyze(photo)
    (face,) = analysis.faces
    assert face.dominant_emotion == "happy"
    assert sum(face.probabilities) == pytest.approx(1, abs=1e-5)
    assert face.crop.shape == (48, 48)
    assert (analysis.width, analysis.height, analysis.model) == (512, 512, "balanced")


@pytest.mark.parametrize("degrees", [-45, -40, 40, 45])
def test_a_portrait_that_leans_is_named_like_the_upright_one(
    pipeline: EmotionPipeline, photo: bytes, degrees: float
) -> None:
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    turn = cv2.getRotationMatrix2D((256, 256), degrees, 1)
    turned = cv2.warpAffine(pixels, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (upright,) = pipeline.analyze(photo).faces
    (leaning,) = pipeline.analyze(cv2.imencode(".png", turned)[1].tobytes()).faces
    assert leaning.dominant_emotion == upright.dominant_emotion
    assert np.abs(np.subtract(leaning.probabilities, upright.probabilities)).max() < 0.01


def test_options_filter_faces(pipeline: EmotionPipeline, photo: bytes) -> None:
    assert not pipeline.analyze(photo, AnalysisOptions(min_confidence=1.0)).faces
    assert not pipeline.analyze(photo, AnalysisOptions(min_face_size=300)).faces
    (face,) = pipeline.analyze(photo).faces
    assert len(pipeline.analyze(photo, AnalysisOptions(min_confidence=face.face.confidence)).faces) == 1


def test_of_several_faces_the_largest_are_kept(pipeline: EmotionPipeline, photo: bytes) -> None:
    large = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert large is not None
    scene = np.zeros((512, 768, 3), np.uint8)
    scene[:256, :256], scene[:, 256:] = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA), large
    data = cv2.imencode(".png", scene)[1].tobytes()

    one, both = (pipeline.analyze(data, AnalysisOptions(max_faces=most)).faces for most in (1, 2))
    assert [face.face.box.x > 256 for face in both] == [True, False]
    assert [face.face for face in one] == [both[0].face]


def test_an_unknown_model_is_named(pipeline: EmotionPipeline, photo: bytes) -> None:
    with pytest.raises(UnknownModelError, match="no model 'nobody': there are balanced"):
        pipeline.analyze(photo, AnalysisOptions(model="nobody"))
    with pytest.raises(UnknownModelError):  # before anything is decoded
        pipeline.analyze(b"no picture", AnalysisOptions(model="nobody"))


class Answering:
    """A graph that gives the same answer for every crop."""

    def __init__(self, answer: list[float]) -> None:
        self._answer = answer

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        return [np.array([self._answer] * len(next(iter(inputs.values()))), np.float32)]


@pytest.mark.parametrize("answer", [[2.0] * 7, [0.4, 0.8, -0.2, 0, 0, 0, 0], [0.125] * 8])
def test_a_graph_that_answers_no_probabilities_is_not_served(
    pipeline: EmotionPipeline, answer: list[float]
) -> None:
    classifiers = {"own": EmotionClassifier(Answering(answer), uncertain_below=0.5)}
    with pytest.raises(ValueError, match="'own' answers"):
        EmotionPipeline(pipeline.detector, classifiers, "own").warm_up()


def test_the_model_that_is_asked_for_answers_and_tells_what_is_uncertain(
    pipeline: EmotionPipeline, photo: bytes
) -> None:
    graph = Answering([0.5, 0.25, 0.25, 0, 0, 0, 0])
    classifiers = {name: EmotionClassifier(graph, least) for name, least in (("wary", 0.6), ("bold", 0.5))}
    own = EmotionPipeline(pipeline.detector, classifiers, "wary")
    analyses = [own.analyze(photo, AnalysisOptions(model=model)) for model in (None, "bold")]
    answers = [(each.model, [face.uncertain for face in each.faces]) for each in analyses]
    assert answers == [("wary", [True]), ("bold", [False])]


class Refusing:
    """A graph that loads and does not run, or only for so many crops."""

    def __init__(self, only: int = 0) -> None:
        self._only = only

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        if len(next(iter(inputs.values()))) != self._only:
            raise RuntimeError("no kernel")
        return [np.full((self._only, 7), 1 / 7, np.float32)]


@pytest.mark.parametrize("name", DETECTOR_GRAPHS)
def test_each_graph_of_the_detector_is_run_before_it_serves(name: str) -> None:
    store = ModelStore.open()
    graphs = {one: store.session(entry) for one, entry in store.manifest.detector.items()}
    sessions = [Refusing() if one == name else graphs[one] for one in DETECTOR_GRAPHS]
    with pytest.raises(RuntimeError, match="no kernel"):
        EmotionPipeline(Mtcnn(*sessions), {}, "own").warm_up()


@pytest.mark.parametrize("only", [1, 2, 4])
def test_a_graph_for_a_fixed_number_of_faces_is_not_served(pipeline: EmotionPipeline, only: int) -> None:
    classifiers = {"own": EmotionClassifier(Refusing(only), uncertain_below=0.5)}
    with pytest.raises(RuntimeError, match=r"'own' fails on uint8 crops .* no kernel"):
        EmotionPipeline(pipeline.detector, classifiers, "own").warm_up()


def test_what_is_no_number_is_no_answer() -> None:
    classifier = EmotionClassifier(Answering([*[0.1] * 6, math.nan]), uncertain_below=0.5)
    with pytest.raises(ValueError, match="no number"):
        classifier.classify(np.zeros((1, 1, 48, 48), np.uint8))


def test_without_a_face_no_classifier_is_run() -> None:
    classifier = EmotionClassifier(Refusing(only=1), uncertain_below=0.5)
    assert classifier.classify(np.empty((0, 1, 48, 48), np.uint8)).shape == (0, 7)


def test_classifying_together_equals_one_at_a_time(pipeline: EmotionPipeline) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 1, 48, 48), np.uint8)
    classifier = pipeline.classifier(None)
    alone = np.concatenate([classifier.classify(crop[None]) for crop in crops])
    np.testing.assert_allclose(classifier.classify(crops), alone, atol=1e-5)


def test_runs_in_several_threads_answer_as_those_in_one(pipeline: EmotionPipeline, photo: bytes) -> None:
    options = AnalysisOptions(min_face_size=12)  # many tiles and batches
    shares: list[int] = []

    with ThreadPoolExecutor(4) as pool:

        class Threads:
            idle = 4

            def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
                shares.append(len(calls))
                return list(pool.map(lambda call: call(), calls))

        helped = pipeline.helped_by(Threads())
        image = helped.decode(photo, options)
        faces = helped.detect(image, options)
        of_detector = len(shares)
        shared = helped.describe(image, faces, options)
    alone = pipeline.analyze(photo, options)
    told = [[(each.face, each.probabilities) for each in analysis.faces] for analysis in (shared, alone)]
    assert len(alone.faces) >= 1
    assert told[0] == told[1]
    assert 0 < of_detector < len(shares)


def test_the_pipeline_needs_no_web_framework() -> None:
    code = "import sys, service.runtime.model_store as m; m.load_pipeline(); print('fastapi' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("factor", [2, 4])
def test_a_reduced_scale_gives_the_face_and_emotion_of_the_full_one(
    pipeline: EmotionPipeline, photo: bytes, factor: int
) -> None:
    small = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    large = cv2.resize(small, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", large)[1].tobytes()
    options = AnalysisOptions(min_face_size=48 * factor)
    full = pipeline.decode(data, AnalysisOptions(min_face_size=12))
    assert full.pixels.shape[0] == factor * pipeline.decode(data, options).pixels.shape[0]
    (reduced,), (expected,) = (
        each.faces for each in (pipeline.analyze(data, options), pipeline.analyze_decoded(full, options))
    )
    found, wanted = (np.array([face.face.region], np.float32) for face in (reduced, expected))
    assert overlap(found, wanted).item() >= 0.9
    assert expected.uncertain or reduced.dominant_emotion == expected.dominant_emotion
