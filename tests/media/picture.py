"""The picture docs/images/timeline.png: `python -m tests.media.picture FILE` makes it again.

The audience is one photo, eight times, with mouths painted over: nobody else's face is needed to show how a
timeline looks.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import cv2
import numpy as np

from service.cli import app
from service.vision.types import UInt8Array
from tests.media import clip

Mood = Literal["plain", "down", "open"]

_SECONDS, _FPS, _SEAT = 60, 5, 200


@dataclass(frozen=True, slots=True)
class Guest:
    """Someone in a seat. Times in seconds; cheers, gasps: when the mouth goes up and when it opens."""

    arrives: float
    leaves: float
    cheers: float
    gasps: float

    def mood(self, time: float) -> Mood:
        """Down, then up, then open for seven seconds, then up again."""
        if time < self.cheers:
            return "down"
        return "open" if self.gasps <= time < self.gasps + 7 else "plain"


_GUESTS = (
    Guest(0, 60, 15, 34),
    Guest(0, 60, 16, 34.4),
    Guest(0, 52, 15.4, 35),
    Guest(0, 60, 17, 99),
    Guest(4, 60, 15.6, 34.2),
    Guest(6, 60, 19, 34.6),
    Guest(8, 47, 99, 99),
    Guest(24, 60, 0, 34.8),
)


def main(picture: Path) -> None:
    """Make a film, and draw its timeline."""
    moods: tuple[Mood, ...] = ("plain", "down", "open")
    heads = {mood: _head(mood) for mood in moods}
    times = [number / _FPS for number in range(_SECONDS * _FPS)]
    with TemporaryDirectory() as folder:
        film = clip.write(Path(folder, "audience.mp4"), [_hall(heads, time) for time in times], times)
        app(["video", str(film), "--timeline", str(picture)])


def _hall(heads: dict[Mood, UInt8Array], time: float) -> UInt8Array:
    """Two rows of four seats, everyone swaying a little."""
    canvas = np.full((2 * _SEAT + 40, 4 * _SEAT + 40, 3), 70, np.uint8)
    for seat, guest in enumerate(_GUESTS):
        if guest.arrives <= time < guest.leaves:
            sway = round(6 * np.sin(time / 2 + seat))
            top, left = 20 + seat // 4 * _SEAT, 20 + seat % 4 * _SEAT + sway
            canvas[top : top + _SEAT, left : left + _SEAT] = heads[guest.mood(time)]
    return canvas


def _head(mood: Mood) -> UInt8Array:
    """The astronaut's head with another mouth."""
    head = np.ascontiguousarray(clip.head())
    if mood == "plain":
        return head
    covered = np.zeros(head.shape[:2], np.uint8)
    cv2.ellipse(covered, (104, 135), (33, 17), 0, 0, 360, 255, cv2.FILLED)
    painted = cv2.inpaint(head, covered, 5, cv2.INPAINT_TELEA)
    if mood == "open":
        cv2.ellipse(painted, (104, 140), (11, 15), 0, 0, 360, (60, 20, 20), cv2.FILLED, cv2.LINE_AA)
    else:
        cv2.ellipse(painted, (104, 152), (20, 12), 0, 200, 340, (110, 40, 40), 4, cv2.LINE_AA)
    return np.asarray(painted, np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
