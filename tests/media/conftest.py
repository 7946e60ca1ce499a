"""A film whose faces are counted, the command line in this process, and analyzers that can be watched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.media.analyzers import LocalAnalyzer, Model
from service.runtime.model_store import ModelStore
from service.vision.pipeline import AnalysisOptions, EmotionPipeline
from service.vision.types import Analysis, UInt8Array
from tests.media import clip

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [clip.frame(pose) for pose, _ in clip.act()]
    return clip.write(tmp_path_factory.mktemp("film") / "act.mp4", pictures)


@pytest.fixture
def analyzer(loaded: tuple[ModelStore, EmotionPipeline]) -> LocalAnalyzer:
    store, pipeline = loaded
    model = Model.of(pipeline.default, store.manifest.emotion[pipeline.default])
    return LocalAnalyzer(pipeline, AnalysisOptions(), model)


class Interrupted:
    """An analyzer that counts its photos and frames and is stopped at one of them, by Ctrl-C or otherwise."""

    def __init__(
        self, inner: LocalAnalyzer, at: int | None = None, by: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self._inner, self._at, self._by, self.calls = inner, at, by, 0
        self.model = inner.model

    def photo(self, data: bytes) -> Analysis:
        self._count()
        return self._inner.photo(data)

    def frame(self, pixels: UInt8Array) -> Analysis:
        self._count()
        return self._inner.frame(pixels)

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            raise self._by("stopped here")


@pytest.fixture
def run() -> Run:
    """`run("analyze", folder)`: exit code, standard output and standard error."""
    runner = CliRunner()

    def start(*arguments: object, **environment: str) -> Result:
        names = {"NO_PROXY": "*", "COLUMNS": "200", **environment}
        return runner.invoke(app, [str(argument) for argument in arguments], env=names)

    return start
