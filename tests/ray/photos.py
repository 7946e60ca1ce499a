"""Small photos made from the astronaut's, each another cut and size, so that no two are alike."""

from pathlib import Path

from PIL import Image

from tests.conftest import PHOTO


def make(folder: Path, count: int) -> list[Path]:
    """Write so many JPEG files, a thousand to a folder. Each holds the face."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(PHOTO) as photo:
        picture = photo.convert("RGB")
    return [_write(picture, folder, number) for number in range(count)]


def _write(picture: Image.Image, folder: Path, number: int) -> Path:
    left, top, side = number % 40, number // 40 % 20, 110 + number // 800 % 40
    cut = picture.crop((120 + left - 40, top, 360 + left, 260 + top)).resize((side + 60, side + 30))
    path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
    path.parent.mkdir(exist_ok=True)
    cut.save(path, quality=85)
    return path
