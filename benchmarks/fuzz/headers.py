"""Coverage-guided fuzzing of what reads bytes in Python: headers of images, forms, JSON and base64.

    python -m benchmarks.fuzz.headers SEEDS -max_total_time=60        # options are libFuzzer's

An input fails that raises what no reader announces, or takes longer than a second.
"""

import sys
from contextlib import suppress
from time import process_time

import atheris

with atheris.instrument_imports(include=["service.vision", "service.api.uploads"]):
    from service.api.errors import ServiceError
    from service.api.uploads import Body, batch_images, described, one_of_batch, single_image
    from service.vision.errors import ImageError
    from service.vision.headers import read_header

MAX_PIXELS = 64_000_000
MOST_SECONDS = 1.0
TYPES = ("multipart/form-data; boundary=b", "application/json")


def read(data: bytes) -> None:
    """Read data as an image and, by its first byte, as a body."""
    started = process_time()
    with suppress(ImageError):
        read_header(data, MAX_PIXELS)
    body = described(data[1:], TYPES[data[0] % 2] if data else "")
    for reader in (single_image, read_batch):
        with suppress(ServiceError):
            reader(body)
    if process_time() - started > MOST_SECONDS:
        raise TimeoutError("too slow for its size")


def read_batch(body: Body) -> None:
    """Take the files of a batch out of its body."""
    for image in batch_images(body, 3):
        with suppress(ServiceError):
            one_of_batch(image)


def main() -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing failed."""
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
