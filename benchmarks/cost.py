"""What an image costs one core, by its size: the figures that `docs/scaling.md` computes with.

`python -m benchmarks.cost` prints, for JPEG files of one face made from the astronaut's photo, bytes and CPU
milliseconds: of the whole, and of decoding alone. CPU time does not count what else runs on the machine.
"""

import argparse
import io
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

from PIL import Image

from benchmarks.workloads import ASTRONAUT
from service.runtime.model_store import load_pipeline
from service.vision.image import decode
from service.vision.mtcnn import default_min_face_size
from service.vision.pipeline import DEFAULT_MAX_PIXELS, AnalysisOptions

SIZES = [(160, 120), (320, 240), (640, 480), (1280, 720), (1920, 1080), (4032, 3024)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--min-face-size", type=float, help="pixels; by default as the service has it")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    pipeline, options = load_pipeline(), AnalysisOptions(min_face_size=arguments.min_face_size)
    print(f"{'pixels':<12}{'bytes':>10}{'CPU ms':>10}{'decoding':>10}{'faces':>7}")
    for width, height in SIZES:
        data = jpeg(width, height)
        smallest = options.min_face_size or default_min_face_size(width, height)
        faces = len(pipeline.analyze(data, options).faces)
        whole = cpu_ms(partial(pipeline.analyze, data, options), rounds)
        decoding = cpu_ms(partial(decoded, data, smallest), rounds)
        print(f"{width}x{height}".ljust(12) + f"{len(data):>10}{whole:>10.1f}{decoding:>10.1f}{faces:>7}")


def decoded(data: bytes, smallest: float) -> object:
    """The picture, at the scale that faces from so many pixels on need."""
    return decode(data, max_pixels=DEFAULT_MAX_PIXELS, min_face_size=lambda _width, _height: smallest)


def jpeg(width: int, height: int) -> bytes:
    """The astronaut's photo in the middle of a frame of this size, over its own blurred enlargement."""
    with Image.open(ASTRONAUT) as photo:
        picture = photo.convert("RGB")
    frame = picture.resize((width, height), Image.Resampling.BICUBIC)
    side = min(width, height)
    frame.paste(picture.resize((side, side), Image.Resampling.LANCZOS), ((width - side) // 2, 0))
    stream = io.BytesIO()
    frame.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def cpu_ms(call: Callable[[], object], rounds: int) -> float:
    """Median CPU milliseconds of this process, all its threads."""
    spent = []
    for _ in range(rounds):
        before = process_time()
        call()
        spent.append((process_time() - before) * 1000)
    return median(spent)


if __name__ == "__main__":
    main()
