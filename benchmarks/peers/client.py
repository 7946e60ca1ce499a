"""The peers' processes, as this project's benchmark sees them."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


DEEPFACE = Path.home() / ".deepface" / "weights" / "facial_expression_model_weights.h5"
YUNET = Path(os.environ.get("YUNET", "face_detection_yunet_2023mar.onnx"))


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer's name in tables and in `serve.py`, its environment, whether it tells emotions.

    weights: a file that its package does not carry, and that must be there.
    """

    title: str
    name: str
    environment: str
    emotions: bool
    weights: Path | None = None


KINDS = (
    Kind("facenet-pytorch MTCNN", "facenet", "facenet", False),
    Kind("mtcnn", "mtcnn", "mtcnn", False),
    Kind("OpenCV Haar", "haar", "opencv", False),
    Kind("YuNet", "yunet", "opencv", False, YUNET),
    Kind("fer, Haar", "fer-haar", "fer", True),
    Kind("fer, MTCNN", "fer-mtcnn", "fer", True),
    Kind("deepface, opencv", "deepface-opencv", "deepface", True, DEEPFACE),
    Kind("deepface, mtcnn", "deepface-mtcnn", "deepface", True, DEEPFACE),
)


class UnavailableError(Exception):
    """The peer cannot run here; the message says why, in one line."""


class Peer:
    """A peer's process, ready to be asked; a context manager that ends it."""

    def __init__(self, kind: Kind, environments: Path, threads: int | None) -> None:
        if kind.weights and not kind.weights.exists():
            raise UnavailableError(
                f"its weights, {kind.weights.name}, are not here, and its package does not carry them"
            )
        # Not resolved: it is a link, and only where the link is does it know its environment.
        python = environments.absolute() / kind.environment / "bin" / "python"
        if not python.exists():
            raise UnavailableError(f"no environment {kind.environment}: run `make peers`")
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peers.serve", kind.name],
            cwd=ROOT,
            env=os.environ | _limits(threads) | {"YUNET": str(YUNET.absolute())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hello = self._read()
        if "error" in hello:
            self.close()
            raise UnavailableError(hello["error"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, image: Path, min_face_size: int, clock: str) -> tuple[float, int]:
        """Milliseconds that one detection took, and the number of faces. Raises UnavailableError."""
        assert self._process.stdin
        request = {"image": str(image), "min_face_size": min_face_size, "clock": clock}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise UnavailableError("it has ended") from error
        answer = self._read()
        if "error" in answer:
            raise UnavailableError(answer["error"])
        return answer["ms"], answer["faces"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError(f"it ended with status {self._process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message


def _limits(threads: int | None) -> dict[str, str]:
    """What holds PyTorch, TensorFlow and OpenCV to so many threads; nothing for None."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENCV_FOR_THREADS_NUM")
    return {} if threads is None else dict.fromkeys(names, str(threads))


@contextmanager
def available(
    environments: Path, threads: int | None = None
) -> Iterator[tuple[dict[Kind, Peer], dict[Kind, str]]]:
    """The peers that run here, each with so many threads (None: as it likes), and of the others why not."""
    peers: dict[Kind, Peer] = {}
    missing: dict[Kind, str] = {}
    try:
        for kind in KINDS:
            try:
                peers[kind] = Peer(kind, environments, threads)
            except UnavailableError as error:
                missing[kind] = str(error)
        yield peers, missing
    finally:
        for peer in peers.values():
            peer.close()
