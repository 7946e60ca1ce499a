"""bytes -> Analysis, without any web framework."""

import subprocess
import sys

import numpy as np
import pytest

from service.vision.pipeline import AnalysisOptions, EmotionPipeline, UnknownModelError


def test_a_portrait_has_one_happy_face(pipeline: EmotionPipeline, photo: bytes) -> None:
    analysis = pipeline.analyze(photo)
    (face,) = analysis.faces
    assert face.dominant_emotion == "happy"
    assert sum(face.probabilities) == pytest.approx(1, abs=1e-5)
    assert face.crop.shape == (48, 48)
    assert (analysis.width, analysis.height, analysis.model) == (512, 512, "balanced")


def test_options_filter_faces(pipeline: EmotionPipeline, photo: bytes) -> None:
    assert not pipeline.analyze(photo, AnalysisOptions(min_confidence=1.0)).faces
    assert not pipeline.analyze(photo, AnalysisOptions(min_face_size=300)).faces


def test_an_unknown_model_is_named(pipeline: EmotionPipeline, photo: bytes) -> None:
    with pytest.raises(UnknownModelError, match="no model 'nobody': there are balanced"):
        pipeline.analyze(photo, AnalysisOptions(model="nobody"))


def test_classifying_together_equals_one_at_a_time(pipeline: EmotionPipeline) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 1, 48, 48), np.uint8)
    classifier = pipeline.classifier(None)
    alone = np.concatenate([classifier.classify(crop[None]) for crop in crops])
    np.testing.assert_allclose(classifier.classify(crops), alone, atol=1e-5)
    assert classifier.classify(crops[:0]).shape == (0, 7)


def test_the_pipeline_needs_no_web_framework() -> None:
    code = "import sys, service.runtime.model_store as m; m.load_pipeline(); print('fastapi' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
