"""Following faces from frame to frame against searching every frame: time, recall, ids and label changes.

    python -m benchmarks.tracking [--width PIXELS] VIDEO|PHOTO...

A photo becomes two seconds of 60 frames each in which its upper part, cut to 4:3, drifts to the side. Every
frame goes through what a stream's frame goes through: it is a JPEG file that is decoded, searched and
classified. Prints a Markdown table with a line for each time between full searches (0: every frame):

searched: share of the frames that had a full search; ms: median of the CPU time of a frame, on one thread, so
that what else runs on the machine does not count; frames/s: what that thread gets through; recall: of the
faces that full searches find, the share that tracking has in the same frame, overlapping by at least half
(intersection over union); extra: tracked faces that full searches do not find; ids: given in all; label
changes: of a face from one frame to the next, as classified and as shown.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from service.runtime.model_store import load_pipeline
from service.vision.boxes import overlap
from service.vision.pipeline import EmotionPipeline
from service.vision.track import Memory, Tracked, Tracker, TrackingParameters
from service.vision.types import Face

Pixels = NDArray[Any]

PHOTOS = (".jpg", ".jpeg", ".png")
PHOTO_RATE = 60
SEARCH_EVERY = (0.0, 0.1, 0.25, 0.5, 1.0)
COLUMNS = ("video", "every, s", "searched", "ms", "frames/s", "recall", "extra", "ids", "label changes")


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a video: what each frame had, and the milliseconds of CPU time it took."""

    frames: list[Tracked]
    milliseconds: list[float]


def frames_of(path: Path, width: int | None) -> tuple[list[bytes], float]:
    """All frames as JPEG files, and how many there are to a second."""
    if path.suffix.lower() in PHOTOS:
        photo = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert photo is not None
        return [_jpeg(pixels) for pixels in _drift(_scaled(photo, width))], PHOTO_RATE
    video = cv2.VideoCapture(str(path))
    return [_jpeg(_scaled(pixels, width)) for pixels in _read(video)], video.get(cv2.CAP_PROP_FPS)


def _read(video: cv2.VideoCapture) -> Iterator[Pixels]:
    while True:
        found, pixels = video.read()
        if not found:
            return
        yield pixels


def _drift(photo: Pixels) -> Iterator[Pixels]:
    upper = photo[: photo.shape[1] * 3 // 4]
    for index in range(2 * PHOTO_RATE):
        yield np.roll(upper, index, axis=1)


def _scaled(pixels: Pixels, width: int | None) -> Pixels:
    if width is None:
        return pixels
    height = round(pixels.shape[0] * width / pixels.shape[1])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _jpeg(pixels: Pixels) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def run(pipeline: EmotionPipeline, frames: Sequence[bytes], rate: float, search_every: float) -> Run:
    """Track a whole video."""
    tracker = Tracker(pipeline, parameters=TrackingParameters(search_every=search_every))
    memory, tracked, milliseconds = Memory(), [], []
    for index, frame in enumerate(frames):
        start = thread_time()
        tracked.append(tracker.track_encoded(frame, memory, index / rate))
        milliseconds.append((thread_time() - start) * 1000)
        memory = tracked[-1].memory
    return Run(tracked, milliseconds)


def found(faces: Sequence[Face], among: Sequence[Face]) -> int:
    """How many of the faces are also among the others."""
    others = np.array([other.region for other in among], np.float32).reshape(-1, 4)
    regions = (np.array(face.region, np.float32) for face in faces)
    return sum(bool(overlap(region, others).max(initial=0.0) >= 0.5) for region in regions)


def label_changes(frames: Sequence[Tracked]) -> tuple[int, int]:
    """How often a face's label differs from the frame before: as classified, and as shown."""
    raw = shown = 0
    for before, after in pairwise(frames):
        old = {face.id: face for face in before.faces}
        for face in after.faces:
            if face.id in old:
                raw += face.analyzed.dominant_emotion != old[face.id].analyzed.dominant_emotion
                shown += face.dominant_emotion != old[face.id].dominant_emotion
    return raw, shown


def faces_of(tracked: Run) -> list[list[Face]]:
    """The faces of each frame."""
    return [[face.analyzed.face for face in frame.faces] for frame in tracked.frames]


def row(name: str, search_every: float, tracked: Run, full: Run) -> str:
    """One line of the table."""
    pairs = list(zip(faces_of(tracked), faces_of(full), strict=True))
    expected = sum(len(searched) for _, searched in pairs)
    recall = sum(found(searched, followed) for followed, searched in pairs) / max(1, expected)
    extra = sum(len(followed) - found(followed, searched) for followed, searched in pairs)
    searches = sum(frame.full for frame in tracked.frames) / len(tracked.frames)
    raw, shown = label_changes(tracked.frames)
    rate = 1000 * len(tracked.frames) / sum(tracked.milliseconds)
    cells = [
        name,
        f"{search_every:g}",
        f"{searches:.0%}",
        f"{median(tracked.milliseconds):.1f}",
        f"{rate:.0f}",
    ]
    cells += [f"{recall:.3f} of {expected}", str(extra), str(tracked.frames[-1].memory.next_id - 1)]
    return line([*cells, f"{raw} / {shown}"])


def line(cells: Sequence[str]) -> str:
    """A line of Markdown."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, help="videos or photos")
    parser.add_argument("--width", type=int, help="shrink or enlarge frames to that width")
    options = parser.parse_args()
    pipeline = load_pipeline()
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    for path in options.videos:
        frames, rate = frames_of(path, options.width)
        full = run(pipeline, frames, rate, 0.0)
        size = f"{full.frames[0].analysis.width}x{full.frames[0].analysis.height}"
        for search_every in SEARCH_EVERY:
            tracked = run(pipeline, frames, rate, search_every) if search_every else full
            print(row(f"{path.stem} {size}", search_every, tracked, full), flush=True)


if __name__ == "__main__":
    main()
