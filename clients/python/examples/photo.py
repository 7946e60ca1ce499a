"""The faces of one photo, and the annotated picture beside it.

python photo.py PHOTO [URL]
"""

import sys
from pathlib import Path

from fer_client import FerClient, FerError


def main(photo: Path, url: str = "http://localhost:8000") -> None:
    """Print each face; write PHOTO-annotated.jpg."""
    with FerClient(url) as client:
        try:
            detection = client.detect(photo)
            picture = client.annotate(photo)
        except FerError as error:
            sys.exit(f"{photo}: {error} (request {error.request_id})")
    for face in detection.faces:
        doubt = " (uncertain)" if face.uncertain else ""
        print(
            f"{face.box.width}x{face.box.height} at {face.box.x},{face.box.y}: {face.dominant_emotion}{doubt}"
        )
    photo.with_name(f"{photo.stem}-annotated.jpg").write_bytes(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
