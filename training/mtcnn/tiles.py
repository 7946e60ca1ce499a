"""What a smaller P-Net learns from: tiles, and what the published networks say of each of their windows.

A tile is a piece of a picture at some size, with faces of FER2013 pasted into half of them, and varied as
photos vary; or, one in SCENES, a piece of a made-up picture with nothing but such a face. Most pieces lie
about places where P-Net sees a face: elsewhere there is little to learn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import trange

from service.vision.pyramid import CELL
from service.vision.types import Float32Array, UInt8Array
from training.mtcnn.teacher import Examples, Teacher, empty
from training.scenes import Condition, Square, scenes

SIDE = 76  # pixels of a tile; it is drawn at twice that, so that R-Net sees in it what it would in a photo
TWICE = 2 * SIDE
SCENES = 5
ABOUT_A_SPOT = 0.6
WITH_FACES = 0.5
FACE_SIDES = (18, 70)  # of pasted faces in a tile of twice the side: P-Net's window is 24 there
SCENE_SIDES = (20, 110)
WINDOWS = (9, 24)  # what the face of a scene measures in the tile
LEANS = (0, 0, 0, -20, -10, 10, 20)  # of faces in scenes, degrees
# How the picture about a face that fills it goes on, and how far: in sides of the face.
BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT)
BORDER = 0.7


@dataclass
class Painter:
    """Draws tiles of twice the side: from pictures (H, W, 3), spots in each (N, 3), and FER2013's faces."""

    pictures: Sequence[UInt8Array]
    spots: Sequence[Float32Array]
    faces: UInt8Array
    random: Generator

    def __post_init__(self) -> None:
        self._scenes = scenes_with_faces(self.faces, self.random)
        self._of_spots = np.repeat(np.arange(len(self.spots)), [len(some) for some in self.spots])
        self._every_spot = np.concatenate(self.spots)

    def draw(self) -> tuple[UInt8Array, list[Square]]:
        """One tile (2 * SIDE, 2 * SIDE, 3), and the frames of the faces that were put into it."""
        frames: list[Square] = []
        if self.random.integers(SCENES) == 0:
            tile, frames = self._piece_of_scene()
        else:
            tile = self._piece()
            if self.random.random() < WITH_FACES:
                tile, frames = self._with_faces(tile)
            tile = varied(tile, self.random)
        if self.random.random() < 0.5:
            tile, frames = tile[:, ::-1], [(TWICE - x2, y1, TWICE - x1, y2) for x1, y1, x2, y2 in frames]
        return np.ascontiguousarray(tile), frames

    def photo_with_faces(self) -> tuple[UInt8Array, list[Square]]:
        """A piece of a picture with a few faces (2 * SIDE, 2 * SIDE, 3), and their frames."""
        tile, frames = self._with_faces(self._piece())
        return np.ascontiguousarray(varied(tile, self.random)), frames

    def _piece(self) -> UInt8Array:
        """A piece of a picture: about a spot, whose face then fills some window of P-Net; or any."""
        if len(self._every_spot) and self.random.random() < ABOUT_A_SPOT:
            number = int(self.random.integers(len(self._every_spot)))
            x, y, width = self._every_spot[number].tolist()
            span = SIDE / CELL * width * np.exp(self.random.uniform(-0.35, 0.35))
            x, y = (value + self.random.uniform(-0.4, 0.4) * span for value in (x, y))
            return piece(self.pictures[int(self._of_spots[number])], x, y, span)
        picture = self.pictures[int(self.random.integers(len(self.pictures)))]
        height, width = picture.shape[:2]
        span = between((60, max(61, min(height, width))), self.random)
        return piece(picture, self.random.uniform(0, width), self.random.uniform(0, height), span)

    def _piece_of_scene(self) -> tuple[UInt8Array, list[Square]]:
        """A piece of a made-up scene about its face, and the face's frame in it."""
        picture, square = next(self._scenes)
        span = round(SIDE * (square[2] - square[0]) / between(WINDOWS, self.random))
        corners = [
            round((low + high - span) / 2 + self.random.uniform(-0.3, 0.3) * span)
            for low, high in zip(square[:2], square[2:], strict=True)
        ]
        x1, y1, x2, y2 = (
            (edge - corner) * TWICE / span for edge, corner in zip(square, 2 * corners, strict=True)
        )
        x, y = (corner + span / 2 for corner in corners)
        return piece(picture, x, y, span), [(x1, y1, x2, y2)]

    def _with_faces(self, tile: UInt8Array) -> tuple[UInt8Array, list[Square]]:
        """A few faces of FER2013 in it, tinted, turned, most with soft outlines; and their frames."""
        blended, frames = tile.astype(np.float32), []
        for _ in range(self.random.integers(1, 5)):
            side = int(between(FACE_SIDES, self.random))
            shrinks = cv2.INTER_AREA if side < self.faces.shape[1] else cv2.INTER_CUBIC
            face = cv2.resize(self._face(), (side, side), interpolation=shrinks)
            tinted = face[:, :, None] * self._tint()
            turn = cv2.getRotationMatrix2D((side / 2, side / 2), self.random.choice([0, *range(-20, 21)]), 1)
            x, y = self.random.uniform(0, TWICE - side, 2).tolist()
            turn[:, 2] = turn[:, 2] + (x, y)
            mask = outline(side, soft=self.random.random() < 0.7)
            opacity = cv2.warpAffine(mask, turn, (TWICE, TWICE))[:, :, None]
            pasted = cv2.warpAffine(tinted.astype(np.float32), turn, (TWICE, TWICE))
            blended = blended * (1 - opacity) + pasted * opacity
            frames.append((x, y, x + side, y + side))
        return blended.clip(0, 255).astype(np.uint8), frames

    def _face(self) -> UInt8Array:
        return np.asarray(self.faces[self.random.integers(len(self.faces))])

    def _tint(self) -> NDArray[np.float64]:
        """(3,) what a gray face is multiplied with: some of skin, some of any light."""
        light = self.random.uniform(0.6, 1.15, 3) if self.random.random() < 0.7 else np.ones(3)
        return light * (np.array([1.0, 0.85, 0.75]) if self.random.random() < 0.6 else 1.0)


def scenes_with_faces(
    faces: UInt8Array, random: Generator, leans: Sequence[int] = LEANS
) -> Iterator[tuple[UInt8Array, Square]]:
    """Endless made-up pictures (H, W, 3) with a face each, and its frame in them: scenes, and faces alone.

    leans: by how many degrees faces of scenes are turned, each as often.
    """
    while True:
        side = int(between(SCENE_SIDES, random))
        blur, turn = random.choice([0, 0, 0, 0.7, 1.5]), random.choice(leans)
        chosen = faces[random.integers(len(faces), size=20)]
        condition = Condition(side, float(blur), float(turn))
        for image, square in scenes(chosen, condition, int(random.integers(1 << 31))):
            yield image.pixels, square
        yield from (alone(face, random) for face in chosen)


def alone(face: UInt8Array, random: Generator) -> tuple[UInt8Array, Square]:
    """A picture (H, W, 3) of a face (48, 48) and little else, and the face's frame in it."""
    side = int(between(SCENE_SIDES, random))
    interpolation = cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC
    resized = cv2.resize(face, (side, side), interpolation=interpolation)
    above, below, before, after = (
        (random.random(4) * BORDER * side * (random.random(4) < 0.7)).astype(int).tolist()
    )
    border, gray = int(random.choice(BORDERS)), int(random.integers(256))
    gone_on = cv2.copyMakeBorder(resized, above, below, before, after, border, value=gray)
    return np.repeat(gone_on[:, :, None], 3, axis=2), (before, above, before + side, above + side)


def between(bounds: tuple[float, float], random: Generator) -> float:
    """A number drawn evenly by its logarithm."""
    return float(np.exp(random.uniform(*np.log(bounds))))


def piece(picture: UInt8Array, x: float, y: float, span: float) -> UInt8Array:
    """The `span` pixels about (x, y) as a tile; beyond the picture its edges go on."""
    size = max(1, round(span))
    left, top = round(x - span / 2), round(y - span / 2)
    height, width = picture.shape[:2]
    above, below, before, after = (
        max(0, edge) for edge in (-top, top + size - height, -left, left + size - width)
    )
    inner = picture[max(0, top) : top + size, max(0, left) : left + size]
    if not inner.size:
        return piece(picture, width / 2, height / 2, span)
    filled = cv2.copyMakeBorder(inner, above, below, before, after, cv2.BORDER_REPLICATE)
    interpolation = cv2.INTER_AREA if size > TWICE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(filled, (TWICE, TWICE), interpolation=interpolation), np.uint8)


def outline(side: int, *, soft: bool) -> Float32Array:
    """(side, side) how opaque a pasted face is: an ellipse with soft edges, or all of it."""
    if not soft:
        return np.ones((side, side), np.float32)
    mask = np.zeros((side, side), np.float32)
    axes = (int(0.52 * side), int(0.6 * side))
    cv2.ellipse(mask, (side // 2, side // 2), axes, 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.04 * side)), np.float32)


def varied(tile: UInt8Array, random: Generator) -> UInt8Array:
    """The tile in another light, without colour, blurred, compressed: each sometimes."""
    changes: list[tuple[float, Callable[[UInt8Array, Generator], UInt8Array]]] = [
        (0.6, lit),
        (0.1, colourless),
        (0.15, blurred),
        (0.15, compressed),
    ]
    for share, change in changes:
        if random.random() < share:
            tile = change(np.ascontiguousarray(tile), random)
    return tile


def lit(tile: UInt8Array, random: Generator) -> UInt8Array:
    """Other contrast, brightness and colour of light."""
    contrast = random.uniform(0.6, 1.4) * random.uniform(0.85, 1.15, 3)
    changed = (tile.astype(np.float32) - 128) * contrast + 128 + random.uniform(-40, 40)
    return changed.clip(0, 255).astype(np.uint8)


def colourless(tile: UInt8Array, _: Generator) -> UInt8Array:
    """Gray."""
    return np.repeat(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.uint8)


def blurred(tile: UInt8Array, random: Generator) -> UInt8Array:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(tile, (0, 0), random.uniform(0.5, 1.8)), np.uint8)


def compressed(tile: UInt8Array, random: Generator) -> UInt8Array:
    """After JPEG."""
    _, coded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def tiles(
    teacher: Teacher, pictures: Sequence[UInt8Array], faces: UInt8Array, number: int, seed: int = 1
) -> Examples:
    """So many tiles, drawn from a seed. Takes 30 kB of memory each."""
    spots = [teacher.spots(picture) for picture in pictures]
    painter = Painter(pictures, spots, faces, np.random.default_rng(seed))
    every = empty(number, teacher.tile(painter.draw()[0], 1.0))
    arrays: list[NDArray[Any]] = [*every]
    for index in trange(number, desc="tiles", unit="tile"):
        tile, frames = painter.draw()
        answers = teacher.tile(tile, between((1, 2), painter.random), frames)
        for array, values in zip(arrays, answers, strict=True):
            array[index : index + 1] = values
    return every
