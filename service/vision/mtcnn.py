"""The face detector: MTCNN's cascade of three networks over an image pyramid.

Zhang, Zhang, Li, Qiao (2016): Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks.
Coordinates are continuous: pixel i covers [i, i + 1).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import carried, in_blocks, overlap, regress, square, suppress
from service.vision.located import NOWHERE, Located, apart, to_faces
from service.vision.looks import ONET, RNET, run_on_crops
from service.vision.proposals import Proposals, ProposalStage
from service.vision.pyramid import halve
from service.vision.tables import joined, rows_at
from service.vision.types import NOBODY, DecodedImage, Face, Float32Array, Helpers, Session, UInt8Array

# Of candidates that are this likely to become a face, no more than FIRST go first of those that overlap by
# more than HEAP. What overlaps them by more than ON_FACE is looked at only where they turn out to be no face.
LIKELY, HEAP, FIRST, ON_FACE = 0.3, 0.45, 2, 0.2

# O-Net sees no square of R-Net's that overlaps so many better ones by more than CLOSE. The best would not do:
# it is O-Net, not R-Net, that knows which square shows a face and its landmarks best.
CLOSE, BETTER = 0.6, 2

# What O-Net's score leaves in doubt, being so little under or over the threshold, O-Net sees again at the
# square about the box that it gave. What was under it must be over it by OVER now; what was over it must not
# be under it by more than FALL.
UNDER, OVER, FALL = 0.3, 0.1, 0.2

# Where no face was found, P-Net and R-Net pass on what they are less sure of, if it is large: the best MOST
# candidates that take so much of the picture's shorter side. Of smaller ones there are so many that O-Net
# would take some for faces. O-Net looks LOOKS times, each time at the square about the box that it gave: its
# scores of a face stay high, those of other things do not.
UNSURE_PROPOSE, UNSURE_REFINE, LARGE, MOST, LOOKS = 0.1, 0.5, 0.4, 50, 3

EVERY = -1.0  # a threshold that lets all pass


@dataclass(frozen=True, slots=True)
class DetectionParameters:
    """What the cascade looks for, and how closely.

    min_face_size: the smallest face to look for, in pixels of the full upright image.
    thresholds: least face probability after P-Net, R-Net and O-Net.
    pyramid_factor: size of a pyramid level relative to the one before. Where it is at most 0.8, candidates of
        different levels do not overlap enough to suppress each other.

    Raises ValueError for a size that is not positive, or a factor that does not shrink.
    """

    min_face_size: float
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    pyramid_factor: float = 0.65

    def __post_init__(self) -> None:
        if not self.min_face_size > 0:
            raise ValueError(f"min_face_size is a number of pixels, not {self.min_face_size}")
        if not 0 < self.pyramid_factor < 1:
            raise ValueError(f"pyramid_factor is between 0 and 1, not {self.pyramid_factor}")


def default_min_face_size(width: int, height: int) -> float:
    """40 pixels or 4 % of the longer side, so that a phone photo does not cost forty times a webcam frame.

    No more than a quarter of the shorter side where that is over 40, so that faces fit in a long strip.
    """
    return max(40.0, min(0.04 * max(width, height), 0.25 * min(width, height)))


class Mtcnn:
    """The cascade on its graphs (`training/mtcnn` tells their inputs and outputs)."""

    def __init__(self, pnet: Session, filter_: Session, rnet: Session, onet: Session) -> None:
        self._proposals, self._rnet, self._onet = ProposalStage(pnet, filter_), rnet, onet
        self._helpers: Helpers = NOBODY

    def helped_by(self, helpers: Helpers) -> Self:
        """The same; `helpers` make runs of a graph that do not depend on each other."""
        same = copy(self)
        same._helpers = helpers
        return same

    def detect(self, image: DecodedImage, parameters: DetectionParameters) -> tuple[Face, ...]:
        """All faces, largest first; boxes and landmarks in pixels of the full upright image.

        A clear face has dozens of candidates. R-Net and O-Net first see the best of them; where these turn
        out to be no face, the others too. Where nothing was found, all three look once more for a large face:
        a portrait's may lean, look aside, be covered in part or be cut close.
        """
        scale = image.scale
        halvings = halve(image.pixels)
        propose, refine, accept = parameters.thresholds
        smallest = parameters.min_face_size * scale
        found = self._proposals.find(halvings, smallest, parameters.pyramid_factor, propose, self._helpers)
        first = going_first(found)
        seen = self._examine(halvings, found.squares[first], refine, accept)
        rest = found.squares[~first]
        others = self._examine(halvings, rest[away(rest, seen.windows)], refine, accept)
        every = joined([seen, others])
        if not len(every.boxes):
            every = self._look_closer(halvings, smallest, parameters)
        located = apart(every)
        return to_faces(located, scale, image.width, image.height, windows=located.windows / scale)

    def follow(
        self, image: DecodedImage, faces: Sequence[Face], parameters: DetectionParameters
    ) -> tuple[Face, ...]:
        """These faces of the frame before, where they are now, largest first; nothing else is looked for.

        O-Net sees one crop of each. The crop moves and grows as the face does, so that a frame like the
        one that was searched gets the same box.
        """
        scale = image.scale
        before = np.array([face.region for face in faces], np.float32).reshape(-1, 4)
        windows = np.array([face.window or face.region for face in faces], np.float32).reshape(-1, 4)
        accept = parameters.thresholds[2]
        located = apart(self._look(halve(image.pixels), square(windows * scale), accept))
        kept = located.candidates
        windows = carried(windows[kept], before[kept], located.boxes / scale)
        return to_faces(located, scale, image.width, image.height, windows=windows)

    def _look_closer(
        self, halvings: list[UInt8Array], smallest: float, parameters: DetectionParameters
    ) -> Located:
        """Large faces, by the mean of what O-Net says of them, where the cascade found none."""
        propose, refine, accept = parameters.thresholds
        large, factor = LARGE * min(halvings[0].shape[:2]), parameters.pyramid_factor
        found = self._proposals.propose(
            halvings, max(smallest, large), factor, min(propose, UNSURE_PROPOSE), self._helpers
        )
        sides = found.squares[:, 2] - found.squares[:, 0]
        squares = self._refine(halvings, found.squares[sides >= large][:MOST], min(refine, UNSURE_REFINE))
        if not len(squares):
            return NOWHERE
        looks = []
        for _ in range(LOOKS):
            looks.append(self._look(halvings, squares, EVERY))
            squares = square(looks[-1].boxes)
        scores = np.stack([look.scores for look in looks]).mean(axis=0)
        return rows_at(looks[-1]._replace(scores=scores), np.flatnonzero(scores > accept))

    def _examine(
        self, halvings: list[UInt8Array], squares: Float32Array, refine: float, accept: float
    ) -> Located:
        """R-Net, then O-Net, on square candidates; O-Net twice where it is in doubt."""
        seen = self._look(halvings, self._refine(halvings, squares, refine), accept - UNDER)
        sure = seen.scores > accept + OVER
        doubtful = ~sure & away(seen.windows, seen.windows[sure])
        once = rows_at(seen, np.flatnonzero(doubtful))
        again = self._look(halvings, square(once.boxes), EVERY)
        least = np.where(once.scores > accept, accept - FALL, accept + OVER)
        settled = again._replace(scores=np.maximum(once.scores, again.scores))
        clear = rows_at(seen, np.flatnonzero(~doubtful & (seen.scores > accept)))
        return joined([clear, rows_at(settled, np.flatnonzero(again.scores > least))])

    def _refine(self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float) -> Float32Array:
        """R-Net on all candidates: fewer and better square candidates, best first."""
        if not len(boxes):
            return boxes
        scores, offsets = run_on_crops(self._rnet, halvings, boxes, RNET, self._helpers)
        passed = np.flatnonzero(scores > threshold)
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        if not len(boxes):
            return boxes
        kept = suppress(boxes, scores, 0.7)
        squares = square(regress(boxes[kept], offsets[kept]))
        return squares[suppress(squares, scores[kept], CLOSE, better=BETTER)]

    def _look(self, halvings: list[UInt8Array], boxes: Float32Array, threshold: float) -> Located:
        """O-Net on square candidates."""
        if not len(boxes):
            return NOWHERE
        _, offsets, points, scores = run_on_crops(self._onet, halvings, boxes, ONET, self._helpers)
        passed = np.flatnonzero(scores > threshold)
        windows = boxes[passed]
        landmarks = windows[:, None, :2] + points[passed] * (windows[:, None, 2:] - windows[:, None, :2])
        return Located(regress(windows, offsets[passed]), scores[passed], landmarks, windows, passed)


def going_first(found: Proposals) -> NDArray[np.bool_]:
    """(N,) the best few candidates of every likely face, and those that lie on none of them."""
    likely = np.flatnonzero(found.promise >= LIKELY)
    best = likely[suppress(found.squares[likely], found.promise[likely], HEAP, better=FIRST)]
    first = away(found.squares, found.squares[best])
    first[best] = True
    return first


def away(squares: Float32Array, faces: Float32Array) -> NDArray[np.bool_]:
    """(N,) which squares (N, 4) lie on none of the faces (M, 4)."""
    return np.concatenate([(overlap(some, faces) <= ON_FACE).all(axis=1) for some in in_blocks(squares)])
