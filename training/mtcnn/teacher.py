"""The published cascade, and what it says of windows: the examples that smaller networks learn from.

The published P-Net and R-Net refuse one in ten of FER2013's faces: they are cut close, and these networks
look for the outline of a head, too. O-Net knows nearly all of them, in one frame or another. Of a face that
is known to be there, the smaller networks therefore learn that it is one, wherever the published ones refuse
or doubt it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from service.vision.boxes import overlap, regress, square, suppress
from service.vision.looks import ONET, RNET, cut, run_on_crops
from service.vision.mtcnn import DetectionParameters
from service.vision.proposals import STRIDE, ProposalStage
from service.vision.pyramid import CELL, averaged, halve, sampled
from service.vision.tables import rows_at
from service.vision.types import Float32Array, UInt8Array
from training.mtcnn.build import BUILDERS, load_weights
from training.scenes import Graph, Square

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
# The verdict on a window that the published network refuses or doubts, of a face that O-Net knows.
KNOWN = 2.0
KNOWN_LOGIT = 1.5  # what the published network should have said
# A window shows a known face if it overlaps its box by so much; R-Net sees so many such squares of a face.
SHOWN = 0.55
SHOWN_CROPS, SHIFT, GROWTH = 8, 0.08, 0.12  # standard deviations in sides, and of the side's logarithm
ACCEPTED = 0.7  # O-Net's probability of a known face, as the service asks of it
FRAME_PER_BOX = 1.061  # side of FER2013's frame in terms of a box's mean side (`python -m training.framing`)
CERTAIN = 0.95  # O-Net's probability of a face that is known to be there when the photo is turned
FRAMES = (0.9, 1.05, 1.2)  # what O-Net is shown of a known face, in sides of FER2013's frame


class Examples(NamedTuple):
    """Tiles (N, S, S, 3) for P-Net or crops (N, 24, 24, 3) for R-Net, uint8, and answers to each window.

    logits: (N, h, w) or (N,) of the published network's probability; boxes: (N, h, w, 4) or (N, 4) its
    offsets; verdicts: (N, h, w) or (N,) the next network's probability. Where that was not asked it is
    UNKNOWN, or 0 for crops; KNOWN where it is known that the published network is wrong.
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

    def faces(self, picture: UInt8Array) -> list[Square]:
        """Squares about the faces of a photo that the cascade is CERTAIN of, as large as FER2013's frames."""
        halvings = halve(picture)
        propose, refine, _ = DetectionParameters(SMALLEST_FACE).thresholds
        found = self._stage.propose(halvings, SMALLEST_FACE, PYRAMID_FACTOR, propose).squares
        if not len(found):
            return []
        scores, offsets = run_on_crops(self._rnet, halvings, found, RNET_LOOK)
        refined = square(regress(found, offsets)[scores > refine])
        scores, offsets, _ = run_on_crops(self._onet, halvings, refined, ONET_LOOK)
        sure = scores > CERTAIN
        boxes = regress(refined[sure], offsets[sure])
        return framed(boxes[suppress(boxes, scores[sure], 0.5)])

    def known(
        self, halvings: list[UInt8Array], frames: Sequence[Square], least: float = ACCEPTED
    ) -> Float32Array:
        """(M, 4) boxes of those faces in a picture that O-Net knows.

        frames: FER2013's, about each face; least: probability that O-Net gives those it knows.
        """
        if not len(frames):
            return np.empty((0, 4), np.float32)
        squares = np.concatenate([resized(np.array(frames, np.float32), factor) for factor in FRAMES])
        scores, offsets, _ = run_on_crops(self._onet, halvings, squares, ONET_LOOK)
        boxes = regress(squares, offsets).reshape(len(FRAMES), -1, 4)
        scores = scores.reshape(len(FRAMES), -1)
        accepted = scores.max(axis=0) > least
        best: Float32Array = boxes[scores.argmax(axis=0), np.arange(len(frames))][accepted]
        return best

    def tile(self, twice: UInt8Array, larger: float, frames: Sequence[Square] = ()) -> Examples:
        """One tile for P-Net, from pixels (2S, 2S, 3) in which R-Net sees its windows at its own size.

        larger: how much larger than the tile, 1 to 2, what a student's pixels are sampled from is; frames: of
        faces in it, see `known`.
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
        answers = examples(sampled(source, (side, side))[None], probability, boxes, verdicts)
        # Two pixels of the halving above are one of the tile; P-Net's windows fit faces of about their size.
        fitting = [frame for frame in frames if CELL < frame[2] - frame[0] < 4 * CELL]
        known = self.known(halvings, fitting) / np.float32(2)
        return corrected(answers, every_window(*probability.shape[1:]), known)

    def crops(self, picture: UInt8Array, random: Generator, frames: Sequence[Square] = ()) -> Examples:
        """Crops for R-Net: P-Net's candidates in a picture, some of them moved a little.

        frames: of faces in it, see `known`; of these, squares about them too.
        """
        halvings = halve(picture)
        squares = self._stage.propose(halvings, SMALLEST_FACE, PYRAMID_FACTOR, LEAST_SCORE).squares
        known = self.known(halvings, frames)
        chosen = moved(random.permutation(squares)[:MOST_CROPS], random)
        chosen = np.concatenate([chosen, about(known, random)])
        pixels = cut(halvings, chosen, RNET_LOOK)
        if not len(pixels):
            return examples(pixels, *(np.empty((0, *rest), np.float32) for rest in ((), (4,), ())))
        probability, boxes = self._rnet.run({"crops": pixels})
        verdicts = np.zeros(len(pixels), np.float32)
        asked = np.flatnonzero(probability > LEAST_ASKED)
        if len(asked):
            refined = square(regress(chosen[asked], boxes[asked]))
            verdicts[asked] = run_on_crops(self._onet, halvings, refined, ONET_LOOK)[0]
        return corrected(examples(pixels, probability, boxes, verdicts), chosen, known)


def every_window(height: int, width: int) -> Float32Array:
    """(height, width, 4) P-Net's windows of a tile, in its pixels."""
    corners = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) * STRIDE
    return np.concatenate([corners, corners + CELL], axis=-1).astype(np.float32)


def corrected(answers: Examples, windows: Float32Array, known: Float32Array) -> Examples:
    """The same, and right where the published network refuses or doubts a window of a known face.

    windows: (..., 4) of the answers, and known: (M, 4) boxes, in the same pixels.
    """
    if not len(known):
        return answers
    flat = windows.reshape(-1, 4)
    shares = overlap(flat, known)
    refused = (shares.max(axis=1) > SHOWN) & (answers.logits.reshape(-1) < KNOWN_LOGIT)
    logits, boxes, verdicts = (array.copy() for array in answers[1:])
    shown = flat[refused]
    offsets = (known[shares[refused].argmax(axis=1)] - shown) / (shown[:, 2:3] - shown[:, :1])
    logits.reshape(-1)[refused], verdicts.reshape(-1)[refused] = KNOWN_LOGIT, KNOWN
    boxes.reshape(-1, 4)[refused] = offsets
    return Examples(answers.pixels, logits, boxes, verdicts)


def framed(boxes: Float32Array) -> list[Square]:
    """What FER2013's frames would be about faces with these boxes (N, 4)."""
    sides = FRAME_PER_BOX * (boxes[:, 2:] - boxes[:, :2]).mean(axis=1, keepdims=True)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in corners.tolist()]


def about(boxes: Float32Array, random: Generator) -> Float32Array:
    """(M * SHOWN_CROPS, 4) squares about boxes (M, 4), as P-Net might propose them."""
    squares = np.repeat(square(boxes), SHOWN_CROPS, axis=0)
    sides = squares[:, 2:3] - squares[:, :1]
    shifts = random.normal(0, SHIFT, (len(squares), 2)) * sides
    factors = np.exp(random.normal(0, GROWTH, (len(squares), 1)))
    return resized((squares + np.tile(shifts, 2)).astype(np.float32), factors.astype(np.float32))


def resized(squares: Float32Array, factor: float | Float32Array) -> Float32Array:
    """The squares (N, 4) so many times as large, about their centres."""
    centres = (squares[:, :2] + squares[:, 2:]) / 2
    halves = factor * (squares[:, 2:] - squares[:, :2]) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


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
