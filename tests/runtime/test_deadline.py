"""A deadline that passes while the graphs are at work."""

from time import monotonic

import numpy as np
import pytest

from service.runtime.deadline import Deadline, ExpiredError, bounded_by
from service.runtime.model_store import ModelStore
from service.vision.pipeline import EmotionPipeline


def test_an_analysis_ends_at_its_next_graph(pipeline: EmotionPipeline, photo: bytes) -> None:
    deadline = Deadline(monotonic() + 60)
    with bounded_by(deadline):
        assert len(pipeline.analyze(photo).faces) == 1
        deadline.abandon()
        with pytest.raises(ExpiredError):
            pipeline.analyze(photo)
    assert len(pipeline.analyze(photo).faces) == 1


def test_each_graph_asks_before_it_runs(loaded: tuple[ModelStore, EmotionPipeline]) -> None:
    store, _ = loaded
    pnet = store.session(store.manifest.detector["pnet"])
    with bounded_by(Deadline(monotonic() - 1)), pytest.raises(ExpiredError):
        pnet.run({"image": np.zeros((1, 48, 48, 3), np.uint8)})
