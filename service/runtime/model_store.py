"""The folder of graphs and its manifest: checked at start, then turned into a pipeline.

`manifest.json` names every graph's file, sha256, size, inputs, outputs, labels, version, licence,
provenance and measured figures. Anything missing, truncated or altered stops the start.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

import cv2
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from service.runtime.sessions import GraphError, OrtSession
from service.vision.emotion import EmotionClassifier
from service.vision.image import Decoder
from service.vision.mtcnn import Mtcnn
from service.vision.pipeline import DEFAULT_MAX_PIXELS, EmotionPipeline
from service.vision.types import EMOTIONS, LabelSet

PACKAGED_STORE = Path(__file__).parents[1] / "model_store"
CHECKOUT_STORE = Path(__file__).parents[2] / "model_store"
# Which are taken by their order.
_DETECTOR_OUTPUTS = {
    "pnet": ("probability", "box", "response"),
    "filter": ("probability",),
    "rnet": ("probability", "box"),
    "onet": ("probability", "box", "landmarks", "face"),
}
DETECTOR_GRAPHS = tuple(_DETECTOR_OUTPUTS)
# Forty times ours; what is larger is no manifest.
MAX_MANIFEST_BYTES = 1_000_000
# Names become labels of metrics and words of messages.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class ModelStoreError(RuntimeError):
    """The store cannot be used; the message is one sentence that names the file."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(file: str) -> str:
    path = PurePosixPath(file)
    if not path.parts or path.is_absolute() or ".." in path.parts or not file.isprintable():
        raise ValueError("it must be a path inside the store")
    return file


class Tensor(_Frozen):
    """An input or output of a graph; a dimension is a number or a name for a free one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class GraphEntry(_Frozen):
    """What the manifest says of one graph."""

    file: Annotated[str, AfterValidator(_inside)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int
    version: Name
    licence: str
    provenance: Mapping[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    measured: Mapping[str, FiniteFloat] = {}


class EmotionEntry(GraphEntry):
    """An emotion variant.

    label_set: whose word the answers follow, FER2013's labels or FER+'s ten voters;
    uncertain_below: where the calibrated maximum is under it, the answer is right less than half the time.
    """

    labels: tuple[str, ...]
    label_set: LabelSet = "fer2013"
    uncertain_below: float = Field(ge=0, le=1)


class Manifest(_Frozen):
    """manifest.json as a whole."""

    detector: Mapping[str, GraphEntry]
    default: str
    emotion: Mapping[Name, EmotionEntry]


class ModelStore:
    """A checked manifest and where its graphs lie. What cannot be used raises ModelStoreError."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path | None = None) -> "ModelStore":
        """Read and check the manifest of `folder`, or of the store that comes with the service."""
        folder = folder or (PACKAGED_STORE if PACKAGED_STORE.exists() else CHECKOUT_STORE)
        path = folder / "manifest.json"
        try:
            manifest = Manifest.model_validate_json(_read(path, MAX_MANIFEST_BYTES))
        except ValidationError as error:
            raise ModelStoreError(f"{path} is not a manifest: {_first(error)}") from error
        _check_names(path, manifest)
        return cls(folder, manifest)

    def read(self, entry: GraphEntry) -> bytes:
        """The bytes of a graph, after its size and checksum were compared with the manifest's."""
        path = self.folder / entry.file
        data = _read(path)
        digest = hashlib.sha256(data).hexdigest()
        if (digest, len(data)) != (entry.sha256, entry.bytes):
            raise ModelStoreError(
                f"{path} is not the file of the manifest: its sha256 is {digest} ({len(data)} bytes), "
                f"the manifest says {entry.sha256} ({entry.bytes} bytes)"
            )
        return data

    def session(self, entry: GraphEntry, threads: int = 1) -> OrtSession:
        """The graph, loaded, with the inputs and outputs that the manifest promises."""
        try:
            session = OrtSession(self.read(entry), threads)
        except GraphError as error:
            raise ModelStoreError(f"{self.folder / entry.file}: {error}") from error
        expected = tuple(t.name for t in entry.inputs), tuple(t.name for t in entry.outputs)
        if (session.inputs, session.outputs) != expected:
            found = session.inputs, session.outputs
            raise ModelStoreError(
                f"{self.folder / entry.file} has inputs and outputs {found}, not {expected}"
            )
        return session

    def pipeline(
        self,
        default: str | None = None,
        *,
        threads: int = 1,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        decoder: Decoder | None = None,
    ) -> EmotionPipeline:
        """Load every graph and run each once, so that the first photo takes no longer than the next.

        default: the emotion model for callers who name none; threads: how many one run of a graph uses, and
        one call of OpenCV, in the whole process; max_pixels: larger images are refused; decoder: see
        `EmotionPipeline`.
        """
        # By itself it has one for each CPU, and shares every larger resize among cores that requests need.
        cv2.setNumThreads(threads)
        manifest = self.manifest
        default = default or manifest.default
        if default not in manifest.emotion:
            raise ModelStoreError(
                f"no model {default!r} in {self.folder}: it holds {', '.join(manifest.emotion)}"
            )
        detector = Mtcnn(*(self.session(manifest.detector[name], threads) for name in DETECTOR_GRAPHS))
        classifiers = {
            name: EmotionClassifier(self.session(entry, threads), entry.uncertain_below)
            for name, entry in manifest.emotion.items()
        }
        pipeline = EmotionPipeline(detector, classifiers, default, max_pixels, decoder)
        try:
            pipeline.warm_up()
        except Exception as error:  # whatever a graph that loads does when it runs
            reason = " ".join(str(error).split())
            raise ModelStoreError(f"the graphs of {self.folder} load, but do not run: {reason}") from error
        return pipeline


def load_pipeline(store: Path | None = None, model: str | None = None, threads: int = 1) -> EmotionPipeline:
    """The pipeline of a model store (by default the one that comes with the service), ready to use.

    model: the emotion model for callers who name none; threads: see `ModelStore.pipeline`. Raises
    ModelStoreError.
    """
    return ModelStore.open(store).pipeline(model, threads=threads)


def _read(path: Path, most: int | None = None) -> bytes:
    """A file's bytes. What is no file is not opened: it could have no end, or wait for a writer."""
    try:
        if path.exists() and not path.is_file():
            raise ModelStoreError(f"{path} cannot be read: it is no regular file")
        if most is not None and path.stat().st_size > most:
            raise ModelStoreError(f"{path} cannot be read: it is larger than {most} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelStoreError(f"{path} cannot be read: {error.strerror}") from error


def _check_names(path: Path, manifest: Manifest) -> None:
    for name, outputs in _DETECTOR_OUTPUTS.items():
        if name not in manifest.detector:
            raise ModelStoreError(f"{path} has no detector graph {name!r}")
        if tuple(tensor.name for tensor in manifest.detector[name].outputs) != outputs:
            raise ModelStoreError(f"{path}: the outputs of {name!r} are not {', '.join(outputs)}")
    if manifest.default not in manifest.emotion:
        raise ModelStoreError(f"{path} has no emotion graph for its default {manifest.default!r}")
    for name, entry in manifest.emotion.items():
        if entry.labels != EMOTIONS:
            raise ModelStoreError(f"{path}: the labels of {name!r} are not {', '.join(EMOTIONS)}")


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]
