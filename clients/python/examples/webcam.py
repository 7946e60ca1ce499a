"""The webcam's faces, frame by frame. Needs OpenCV (`pip install opencv-python-headless`); Ctrl+C ends it.

python webcam.py [URL] [DEVICE OR VIDEO FILE]
"""

import sys
from collections.abc import Iterator
from contextlib import suppress

import cv2

from fer_client import FerClient, FerError


def frames(source: int | str) -> Iterator[bytes]:
    """JPEG files, as fast as the camera gives them and they are taken."""
    camera = cv2.VideoCapture(source)
    if not camera.isOpened():
        sys.exit(f"{source}: neither a camera nor a video file that can be opened")
    try:
        while True:
            found, pixels = camera.read()
            if not found:
                return
            yield cv2.imencode(".jpg", pixels)[1].tobytes()
    finally:
        camera.release()


def main(url: str = "http://localhost:8000", source: str = "0") -> None:
    """Print who is seen and how they look."""
    device = int(source) if source.isdecimal() else source
    with FerClient(url) as client, client.stream() as stream:
        for jpeg in frames(device):
            try:
                answer = stream.ask(jpeg)
            except FerError as error:
                if error.close_code:
                    sys.exit(f"the stream has ended: {error}")
                print(f"one frame failed: {error}", file=sys.stderr)
                continue
            faces = ", ".join(f"{face.id}: {face.dominant_emotion}" for face in answer.faces)
            print(f"{answer.frame:6} {answer.timings_ms.total:6.1f} ms  {faces}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
