"""The published cascade, and what it says of windows: the examples that smaller networks learn from."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from service.vision.boxes import regress, square
from service.vision.mtcnn import ONET, RNET, cut, run_on_crops
from service.vision.proposals import STRIDE, ProposalStage
from service.vision.pyramid import CELL, averaged, halve, sampled
from service.vision.tables import rows_at
from service.vision.types import Float32Array, UInt8Array
from training.mtcnn.build import BUILDERS, load_weights
from training.scenes import Graph

# The published networks have learned from pictures that were resized by averaging.
RNET_LOOK, ONET_LOOK = (look._replace(batch=64, resize=averaged) for look in (RNET, ONET))
SMALLEST_FACE = 20
PYRAMID_FACTOR = 0.709  # of the paper's programs; finer than the service's, for more candidates
# What scores less is no candidate; the thresholds of the service lie above.
LEAST_SCORE = 0.5
LEAST_ASKED = 0.3  # of R-Net, for O-Net to be asked
MOST_CROPS = 1200  # of one picture
MOVED, MOVE = 0.35, 0.07  # share of crops that are moved, and how far, in sides

UNKNOWN = np.nan


class Examples(NamedTuple):
    """Tiles (N, S, S, 3) for P-Net or crops (N, 24, 24, 3) for R-Net, uint8, and answers to each window.

    logits: (N, h, w) or (N,) of the published network's probability; boxes: (N, h, w, 4) or (N, 4) its
    offsets; verdicts: (N, h, w) or (N,) the next network's probability. Where that was not asked it is
    UNKNOWN, or 0 for crops.
    """

    pixels: UInt8Array
    logits: NDArray[np.float16]
    boxes: NDArray[np.float16]
    verdicts: NDArray[np.float16]

    def divided(self, last: int) -> tuple["Examples", "Examples"]:
        """All but the last so many, and those."""
        indices = np.arange(len(self.pixels))
        return rows_at(self, indices[:-last]), rows_at(self, indices[-last:])


class Teacher:
    """P-Net, R-Net and O-Net with the published weights."""

    def __init__(self) -> None:
        self._pnet, self._rnet, self._onet = (
            Graph(BUILDERS[name](load_weights(name))) for name in ("pnet", "rnet", "onet")
        )
        self._stage = ProposalStage(self._pnet, self._pnet)

    def spots(self, picture: UInt8Array) -> Float32Array:
        """(N, 3) x, y and width of what P-Net takes for a face, of any size."""
        found = self._stage.propose(halve(picture), CELL, PYRAMID_FACTOR, LEAST_SCORE)
        sides = found.squares[:, 2:] - found.squares[:, :2]
        return np.hstack([found.squares[:, :2] + sides / 2, sides[:, :1]])

    def tile(self, twice: UInt8Array, larger: float) -> Examples:
        """One tile for P-Net, from pixels (2S, 2S, 3) in which R-Net sees its windows at its own size.

        larger: how much larger than the tile, 1 to 2, what a student's pixels are sampled from is.
        """
        halvings = halve(twice)
        probability, boxes, _ = self._pnet.run({"image": halvings[1][None]})
        verdicts = np.full(probability.shape, UNKNOWN, np.float32)
        _, rows, columns = np.nonzero(probability > LEAST_SCORE)
        if len(rows):
            corners = STRIDE * np.stack([columns, rows, columns, rows], 1) + np.array([0, 0, CELL, CELL])
            squares = square(regress(corners.astype(np.float32), boxes[0, rows, columns]))
            verdicts[0, rows, columns] = run_on_crops(self._rnet, halvings, 2 * squares, RNET_LOOK)[0]
        side = halvings[1].shape[0]
        source = averaged(twice, (round(larger * side),) * 2)
        return examples(sampled(source, (side, side))[None], probability, boxes, verdicts)

    def crops(self, picture: UInt8Array, random: Generator) -> Examples:
        """Crops for R-Net: P-Net's candidates in a picture, some of them moved a little."""
        halvings = halve(picture)
        squares = self._stage.propose(halvings, SMALLEST_FACE, PYRAMID_FACTOR, LEAST_SCORE).squares
        chosen = moved(random.permutation(squares)[:MOST_CROPS], random)
        pixels = cut(halvings, chosen, RNET_LOOK)
        if not len(pixels):
            return examples(pixels, *(np.empty((0, *rest), np.float32) for rest in ((), (4,), ())))
        probability, boxes = self._rnet.run({"crops": pixels})
        verdicts = np.zeros(len(pixels), np.float32)
        asked = np.flatnonzero(probability > LEAST_ASKED)
        if len(asked):
            refined = square(regress(chosen[asked], boxes[asked]))
            verdicts[asked] = run_on_crops(self._onet, halvings, refined, ONET_LOOK)[0]
        return examples(pixels, probability, boxes, verdicts)


def moved(squares: Float32Array, random: Generator) -> Float32Array:
    """The squares (N, 4), some of them moved and resized a little."""
    sides = squares[:, 2:3] - squares[:, :1]
    shifts = random.normal(0, MOVE, squares.shape) * sides * (random.random((len(squares), 1)) < MOVED)
    return square((squares + shifts).astype(np.float32))


def examples(
    pixels: UInt8Array, probability: Float32Array, boxes: Float32Array, verdicts: Float32Array
) -> Examples:
    """Examples with these answers."""
    certain = np.clip(probability, 1e-6, 1 - 1e-6)
    logits = np.log(certain / (1 - certain))
    return Examples(pixels, *(array.astype(np.float16) for array in (logits, boxes, verdicts)))


def empty(number: int, like: Examples) -> Examples:
    """Room for so many examples of the same shapes."""
    return Examples(
        np.empty((number, *like.pixels.shape[1:]), np.uint8),
        *(np.empty((number, *array.shape[1:]), np.float16) for array in like[1:]),
    )
