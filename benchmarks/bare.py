"""The bare bound: what decoding a JPEG and running the graphs take, without anything around them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Workload
from service.runtime.model_store import ModelStore
from service.vision.pipeline import EmotionPipeline
from service.vision.types import Session

Arrays = Mapping[str, NDArray[Any]]


class Recorder:
    """A session that keeps what it was asked to compute."""

    def __init__(self, session: Session, calls: list[Callable[[], object]]) -> None:
        self._session, self._calls = session, calls

    def run(self, inputs: Arrays) -> Sequence[NDArray[Any]]:
        """Run, and keep a call that does the same again."""
        copies = {name: np.array(array) for name, array in inputs.items()}
        self._calls.append(lambda: self._session.run(copies))
        return self._session.run(inputs)


class Recorded(ModelStore):
    """A store whose sessions record."""

    calls: list[Callable[[], object]]

    def session(self, entry: Any, threads: int = 1) -> Any:
        """The store's session, recorded."""
        return Recorder(super().session(entry, threads), self.calls)


def recording(store: ModelStore) -> tuple[EmotionPipeline, list[Callable[[], object]]]:
    """A pipeline, and the list that its calls of graphs go to."""
    recorded = Recorded(store.folder, store.manifest)
    recorded.calls = []
    pipeline = recorded.pipeline()
    recorded.calls.clear()  # of the warm-up
    return pipeline, recorded.calls


def bound(store: ModelStore, workload: Workload) -> Callable[[], None]:
    """Decode the workload's image and run the same graphs on the same arrays as its analysis does."""
    pipeline, calls = recording(store)
    pipeline.analyze(workload.data, workload.options)
    replayed = tuple(calls)

    def run() -> None:
        pipeline.decode(workload.data, workload.options)
        for call in replayed:
            call()

    return run
