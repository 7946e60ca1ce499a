"""Following faces from frame to frame against searching every frame: time, recall, ids and label changes.

    python -m benchmarks.tracking VIDEO...

Prints a Markdown table. recall: of the faces that a full search of every frame finds, the share that tracking
has in the same frame with an overlap (intersection over union) of at least 0.5; extra: tracked faces that the
full search does not have; ms: CPU time of detection, crops and classification on one thread, so that what else
runs on the machine does not count; ratio: of the sums over the video. Decoding the video is not timed.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import thread_time

import cv2
import numpy as np

from service.runtime.model_store import load_pipeline
from service.vision.boxes import overlap
from service.vision.pipeline import EmotionPipeline
from service.vision.track import Memory, Tracked, Tracker, TrackingParameters
from service.vision.types import DecodedImage, Face

SEARCH_EVERY = (0.0, 0.1, 0.25, 0.5, 1.0)
HEADER = "| video | search every, s | frames searched | median ms | ratio | recall | extra | ids | label changes: raw | shown |"


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a video: what each frame had, and the milliseconds of CPU time it took."""

    frames: list[Tracked]
    milliseconds: list[float]


def frames_of(path: Path) -> tuple[list[DecodedImage], float]:
    """All frames, and how many there are to a second."""
    video = cv2.VideoCapture(str(path))
    return list(_read(video)), video.get(cv2.CAP_PROP_FPS)


def _read(video: cv2.VideoCapture) -> Iterator[DecodedImage]:
    while True:
        found, pixels = video.read()
        if not found:
            return
        rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
        yield DecodedImage(rgb, rgb.shape[1], rgb.shape[0], "png", 1)


def run(pipeline: EmotionPipeline, images: Sequence[DecodedImage], rate: float, search_every: float) -> Run:
    """Track a whole video."""
    tracker = Tracker(pipeline, parameters=TrackingParameters(search_every=search_every))
    memory, frames, milliseconds = Memory(), [], []
    for index, image in enumerate(images):
        start = thread_time()
        frames.append(tracker.track(image, memory, index / rate))
        milliseconds.append((thread_time() - start) * 1000)
        memory = frames[-1].memory
    return Run(frames, milliseconds)


def found(faces: Sequence[Face], among: Sequence[Face]) -> int:
    """How many of the faces are also among the others."""
    others = np.array([other.region for other in among], np.float32).reshape(-1, 4)
    regions = (np.array(face.region, np.float32) for face in faces)
    return sum(bool(overlap(region, others).max(initial=0.0) >= 0.5) for region in regions)


def label_changes(frames: Sequence[Tracked]) -> tuple[int, int]:
    """How often a face's label differs from the frame before: raw, and as shown."""
    raw = shown = 0
    for before, after in pairwise(frames):
        old = {face.id: face for face in before.faces}
        for face in after.faces:
            if face.id in old:
                raw += face.analyzed.dominant_emotion != old[face.id].analyzed.dominant_emotion
                shown += face.dominant_emotion != old[face.id].dominant_emotion
    return raw, shown


def row(name: str, search_every: float, tracked: Run, full: Run) -> str:
    """One line of the table."""
    pairs = [
        ([f.analyzed.face for f in a.faces], [f.analyzed.face for f in b.faces])
        for a, b in zip(tracked.frames, full.frames, strict=True)
    ]
    expected = sum(len(searched) for _, searched in pairs)
    recall = sum(found(searched, followed) for followed, searched in pairs) / max(1, expected)
    extra = sum(len(followed) - found(followed, searched) for followed, searched in pairs)
    took, base = median(tracked.milliseconds), median(full.milliseconds)
    mean_ratio = sum(tracked.milliseconds) / sum(full.milliseconds)
    searches = sum(frame.full for frame in tracked.frames) / len(tracked.frames)
    raw, shown = label_changes(tracked.frames)
    ids = tracked.frames[-1].memory.next_id - 1
    return (
        f"| {name} | {search_every:g} | {searches:.0%} | {took:.1f} (of {base:.1f}) | {mean_ratio:.2f} "
        f"| {recall:.3f} of {expected} | {extra} | {ids} | {raw} | {shown} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    cv2.setNumThreads(1)
    pipeline = load_pipeline()
    pipeline.warm_up()
    print(HEADER, "|---" * 10 + "|", sep="\n")
    for path in parser.parse_args().videos:
        images, rate = frames_of(path)
        full = run(pipeline, images, rate, 0.0)
        for search_every in SEARCH_EVERY:
            tracked = full if search_every == 0 else run(pipeline, images, rate, search_every)
            print(
                row(f"{path.stem}, {images[0].width}x{images[0].height}", search_every, tracked, full),
                flush=True,
            )


if __name__ == "__main__":
    main()
