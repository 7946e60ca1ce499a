"""The service with one stage that fails at its next run after each SIGUSR1: `python broken.py STAGE`."""

import dataclasses
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from service.lifespan import load
from service.runtime.model_store import DETECTOR_GRAPHS, ModelStore
from service.server import end_on_signals, listen, serve_until_stopped
from service.settings import Settings, read_settings
from service.telemetry.logging import configure_logging
from service.vision.emotion import EmotionClassifier
from service.vision.mtcnn import DetectionParameters, Mtcnn
from service.vision.pipeline import AnalysisOptions, AnnotatedPicture, EmotionPipeline
from service.vision.types import DecodedImage, Face, Session

STAGES = ("decode", *DETECTOR_GRAPHS, "crop", "classify", "draw")


class Fault:
    """Armed by the signal, and spent by the first stage that asks."""

    def __init__(self) -> None:
        self.armed = False

    def arm(self, *_: object) -> None:
        self.armed = True
        # A signal may come while the service writes its log, and neither the log's lock nor its buffer can be
        # entered twice: past both of them.
        os.write(sys.stderr.fileno(), b'{"event": "armed"}\n')

    def spent(self) -> bool:
        armed, self.armed = self.armed, False
        return armed

    def strike(self) -> None:
        if self.spent():
            raise RuntimeError("a secret of the server")


class Graph:
    """A graph that fails where the fault strikes."""

    def __init__(self, session: Session, fault: Fault) -> None:
        self._session, self._fault = session, fault

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        self._fault.strike()
        return self._session.run(inputs)


class Detector(Mtcnn):
    """Finds faces that cannot be cut out."""

    def __init__(self, *graphs: Session, fault: Fault) -> None:
        super().__init__(*graphs)
        self._fault = fault

    def detect(self, image: DecodedImage, parameters: DetectionParameters) -> tuple[Face, ...]:
        faces = super().detect(image, parameters)
        region = (math.nan, math.nan, math.nan, math.nan)
        return (
            tuple(dataclasses.replace(face, region=region) for face in faces)
            if self._fault.spent()
            else faces
        )


class Pipeline(EmotionPipeline):
    """Fails before it decodes, or when it is to draw."""

    decode_fault = draw_fault = Fault()

    def decode(self, data: bytes, options: AnalysisOptions) -> DecodedImage:
        self.decode_fault.strike()
        return super().decode(data, options)

    def draw(
        self,
        data: bytes,
        options: AnalysisOptions | None = None,
        format: Literal["jpeg", "png"] = "jpeg",  # noqa: A002
    ) -> AnnotatedPicture:
        self.draw_fault.strike()
        return super().draw(data, options, format)


def broken(stage: str, fault: Fault, settings: Settings) -> tuple[ModelStore, EmotionPipeline]:
    """The store and its pipeline, with the fault in one stage."""
    store, whole = load(settings)
    manifest = store.manifest
    graphs = [
        Graph(store.session(manifest.detector[name]), fault if name == stage else Fault())
        for name in DETECTOR_GRAPHS
    ]
    entry = manifest.emotion[whole.default]
    classify = Graph(store.session(entry), fault if stage == "classify" else Fault())
    pipeline = Pipeline(
        Detector(*graphs, fault=fault if stage == "crop" else Fault()),
        {whole.default: EmotionClassifier(classify, entry.uncertain_below)},
        whole.default,
    )
    pipeline.decode_fault = fault if stage == "decode" else Fault()
    pipeline.draw_fault = fault if stage == "draw" else Fault()
    return store, pipeline


def main(stage: str) -> None:
    settings = read_settings()
    configure_logging(settings.log_level, settings.log_format)
    end_on_signals()
    fault = Fault()
    loaded = broken(stage, fault, settings)
    signal.signal(signal.SIGUSR1, fault.arm)
    serve_until_stopped(settings, loaded, listen(settings))


if __name__ == "__main__":
    main(sys.argv[1])
