"""Give O-Net a second opinion, which knows faces that are cut close or lean: writes `onet.onnx`.

    python -m training.mtcnn.opinion --pictures FILE_OR_FOLDER ... --faces FER2013 [--halved FOLDER]

The published O-Net looks for the outline of a head, too, and refuses one in five squares about a face that is
cut as FER2013 cuts it. What its last convolution reads tells these faces from all else: a small network that
reads the same learns to. FER2013's faces are shown to it in made-up scenes and pasted into photos, where
their places are known; of every other square, and of pieces of photos that are shown like faces, it learns
what the published O-Net says. It refuses heads that lean, too, which it knows upright: where the faces of a
turned photo are is known as well (`training/mtcnn/turned.py`). The graph's `face` is the larger of both
probabilities. `probability`, `box` and `landmarks` are the published ones.

Every second file of `--halved`, in the order of their names, is not learned from.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm, trange

from service.vision.boxes import overlap, regress, square
from service.vision.looks import ONET, RNET, cut, run_on_crops
from service.vision.mtcnn import DetectionParameters
from service.vision.proposals import ProposalStage
from service.vision.pyramid import halve
from service.vision.tables import joined, rows_at
from service.vision.types import Float32Array, UInt8Array
from training.arguments import told
from training.data import SIDE
from training.graph import check_parity
from training.held_out import divided
from training.mtcnn.build import FloatArray, build_features, build_onet, load_weights
from training.mtcnn.pictures import add_arguments, files, pictures, rescaled
from training.mtcnn.students import array, give, published_weights
from training.mtcnn.teacher import MOST_CROPS, SHOWN, SMALLEST_FACE, Teacher, about, moved, resized
from training.mtcnn.tiles import Painter, between, lit, scenes_with_faces
from training.mtcnn.turned import turned_photos
from training.scenes import Graph, Square

LEAST_REFINED = 0.1  # R-Net's probability of squares of photos that are learned from
OF_A_PHOTO, SMALLER = 250, 0.76  # squares of each; its other size
SCENES = 7000  # made-up pictures of a face; of photos with faces, and of pieces of photos, half as many
TURNS = 3  # of each photo
LEANS = (0, 0, 0, 0, -40, -30, -20, -10, 10, 20, 30, 40)  # of faces in scenes, degrees
JUDGED = 600  # of them, on what was not learned from
PIECE_SIDES = (24, 200)
CANDIDATES, ASKED = 30, 0.35  # squares of the cascade's own in a scene, and in what share of the scenes
# A square shows a known face if it overlaps its box or frame by more than SHOWN, and none if by less than
# this. Of those between there is nothing to learn.
BESIDE = 0.4
HARDLY = 0.05  # what the published O-Net gives all faces; a picture with less is hardly one
CERTAIN = 0.97  # what is wanted of a square that shows a known face
CHANNELS, HIDDEN = 64, 64
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 8, 256, 2e-3, 1e-2
DROPPED = 0.2  # of the hidden layer's values, while learning
# Half of what is learned shows a known face, far more than of what the service sees: where the opinion is
# SURE, it says what the service asks of O-Net, ACCEPT.
SURE, ACCEPT = 0.88, DetectionParameters(SMALLEST_FACE).thresholds[2]


class Shown(NamedTuple):
    """Squares that O-Net is shown.

    features: float16 (N, 64, 4, 4), what its last convolution reads; published: (N,) its probability; known:
    (N,) whether there is known to be a face.
    """

    features: NDArray[np.float16]
    published: Float32Array
    known: NDArray[np.bool_]

    @property
    def wanted(self) -> Float32Array:
        """(N,) the probability to learn."""
        return np.where(self.known, np.maximum(self.published, np.float32(CERTAIN)), self.published)


class Onlooker:
    """The cascade of a store up to O-Net, and what the published O-Net says of a square."""

    def __init__(self, store: Path) -> None:
        pnet, self._rnet = (Graph(store / f"mtcnn/{name}.onnx") for name in ("pnet", "rnet"))
        self._stage = ProposalStage(pnet, pnet)
        self.teacher = Teacher()
        published = load_weights("onet")
        self._features, self._onet = Graph(build_features(published)), Graph(build_onet(published))

    def photo(self, picture: UInt8Array, random: Generator) -> Shown:
        """Squares of the cascade, some of them moved a little: the published O-Net is right."""
        halvings = halve(picture)
        squares = moved(self._squares(halvings, SMALLEST_FACE, random), random)
        return self._shown(halvings, random.permutation(squares)[:OF_A_PHOTO])

    def scene(self, picture: UInt8Array, frames: Sequence[Square], random: Generator) -> Shown:
        """Squares about known faces, and others; the frames are those that FER2013 has."""
        halvings = halve(picture)
        return self._known(halvings, frames, self._asked(halvings, frames, random), random)

    def turned(self, picture: UInt8Array, frames: Sequence[Square], random: Generator) -> Shown:
        """The same of a photo that is turned, which shows far more that is no face."""
        if not frames:
            return self.photo(picture, random)
        halvings = halve(picture)
        squares = moved(self._squares(halvings, SMALLEST_FACE, random), random)
        return self._known(halvings, frames, random.permutation(squares)[:OF_A_PHOTO], random)

    def _known(
        self, halvings: list[UInt8Array], frames: Sequence[Square], asked: Float32Array, random: Generator
    ) -> Shown:
        """The squares asked for, and some about and beside known faces."""
        known = self.teacher.known(halvings, frames, HARDLY)
        squares = np.concatenate([asked, about(known, random), beside(known, random)])
        places = np.concatenate([square(known), np.array(frames, np.float32)])
        shares = overlap(squares, places).max(axis=1)
        shown = self._shown(halvings, squares)
        clear = np.flatnonzero((shares > SHOWN) | (shares < BESIDE))
        return rows_at(shown._replace(known=shares > SHOWN), clear)

    def piece(self, picture: UInt8Array, frame: Square, random: Generator) -> Shown:
        """Squares about a piece of a photo that is shown as faces are, and is none."""
        halvings = halve(picture)
        squares = about(np.array([frame], np.float32), random)
        return self._shown(halvings, np.concatenate([self._asked(halvings, [frame], random), squares]))

    def _asked(self, halvings: list[UInt8Array], frames: Sequence[Square], random: Generator) -> Float32Array:
        """The cascade's own squares, of some pictures: they take most of the time."""
        if random.random() > ASKED:
            return np.empty((0, 4), np.float32)
        smallest = min(x2 - x1 for x1, _, x2, _ in frames)
        return random.permutation(self._squares(halvings, max(12, 0.7 * smallest), random))[:CANDIDATES]

    def _squares(self, halvings: list[UInt8Array], smallest: float, random: Generator) -> Float32Array:
        """What R-Net makes of P-Net's candidates."""
        options = DetectionParameters(smallest)
        found = self._stage.propose(halvings, smallest, options.pyramid_factor, options.thresholds[0])
        squares = random.permutation(found.squares)[:MOST_CROPS]
        if not len(squares):
            return squares
        scores, offsets = run_on_crops(self._rnet, halvings, squares, RNET)
        passed = scores > LEAST_REFINED
        return square(regress(squares[passed], offsets[passed]))

    def _shown(self, halvings: list[UInt8Array], squares: Float32Array) -> Shown:
        crops = cut(halvings, squares, ONET)
        (features,), (published, *_) = (graph.run({"crops": crops}) for graph in (self._features, self._onet))
        return Shown(features.astype(np.float16), published, np.zeros(len(crops), np.bool_))


def beside(boxes: Float32Array, random: Generator) -> Float32Array:
    """(2 M, 4) squares near boxes (M, 4), of other sizes, most of which show a part of a face."""
    squares = np.repeat(square(boxes), 2, axis=0)
    shifts = random.uniform(-0.9, 0.9, (len(squares), 2)) * (squares[:, 2:3] - squares[:, :1])
    factors = np.exp(random.uniform(-0.6, 0.6, (len(squares), 1)))
    return resized((squares + np.tile(shifts, 2)).astype(np.float32), factors.astype(np.float32))


def pieces(photos: Sequence[UInt8Array], number: int, random: Generator) -> UInt8Array:
    """(number, 48, 48) gray pieces of photos, of many sizes."""
    found: list[NDArray[Any]] = []
    while len(found) < number:
        photo = photos[int(random.integers(len(photos)))]
        side = min(int(between(PIECE_SIDES, random)), *photo.shape[:2])
        top, left = (int(random.integers(extent - side + 1)) for extent in photo.shape[:2])
        gray = cv2.cvtColor(photo[top : top + side, left : left + side], cv2.COLOR_RGB2GRAY)
        interpolation = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
        found.append(cv2.resize(gray, (SIDE, SIDE), interpolation=interpolation))
    return np.stack(found).astype(np.uint8)


def seen(photos: Sequence[UInt8Array], random: Generator) -> Iterator[UInt8Array]:
    """Each photo, smaller, and mirrored in another light."""
    for photo in photos:
        yield from (photo, rescaled(photo, SMALLER), lit(np.ascontiguousarray(photo[:, ::-1]), random))


def collect(
    onlooker: Onlooker, photos: Sequence[UInt8Array], faces: UInt8Array, scenes: int = SCENES
) -> Shown:
    """Squares of photos (H, W, 3), of made-up scenes with faces (N, 48, 48), and of photos with faces."""
    random = np.random.default_rng(1)
    painter = Painter(photos, [np.empty((0, 3), np.float32)] * len(photos), faces, random)
    parts = [onlooker.photo(photo, random) for photo in tqdm(seen(photos, random), "photos")]
    parts += [
        onlooker.turned(picture, frames, random)
        for picture, frames in tqdm(turned_photos(onlooker.teacher, photos, random, TURNS), "turned photos")
    ]
    parts += [
        onlooker.scene(picture, [frame], random)
        for picture, frame in tqdm(islice(scenes_with_faces(faces, random, LEANS), scenes), "scenes")
    ]
    parts += [
        onlooker.scene(*painter.photo_with_faces(), random)
        for _ in trange(scenes // 2, desc="photos with faces")
    ]
    shown = pieces(photos, scenes // 2, random)
    parts += [
        onlooker.piece(picture, frame, random)
        for picture, frame in tqdm(
            islice(scenes_with_faces(shown, random, LEANS), scenes // 2), "pieces of photos"
        )
    ]
    return joined(parts)


class Opinion(nn.Module):
    """(N, 64, 4, 4) features to (N,) logits. Begins with some of the published O-Net's last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(64, CHANNELS, 2)
        self.hidden, self.last = nn.Linear(9 * CHANNELS, HIDDEN), nn.Linear(HIDDEN, 1)
        self.dropped = nn.Dropout(DROPPED)
        kernel, bias = published_weights("onet")[9:11]
        give(self.convolution, kernel[:CHANNELS], bias[:CHANNELS])

    def forward(self, features: Tensor) -> Tensor:
        """One logit for each square."""
        hidden = self.hidden(self.convolution(features).relu().flatten(1)).relu()
        logits: Tensor = self.last(self.dropped(hidden))
        return logits[:, 0]

    def weights(self) -> list[FloatArray]:
        """As `build_onet` takes them."""
        dense = [tensor for layer in (self.hidden, self.last) for tensor in (layer.weight.T, layer.bias)]
        tensors = [self.convolution.weight.permute(2, 3, 1, 0), self.convolution.bias, *dense]
        return [np.ascontiguousarray(array(tensor)) for tensor in tensors]


def learn(shown: Shown, epochs: int = EPOCHS) -> Opinion:
    """An opinion that knows the wanted probabilities."""
    torch.manual_seed(1)
    opinion = Opinion()
    features, wanted = torch.from_numpy(shown.features), torch.from_numpy(shown.wanted)
    optimizer = torch.optim.AdamW(opinion.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = epochs * -(-len(wanted) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total)
    for _ in trange(epochs, desc="epochs", unit="epoch"):
        for chosen in torch.split(torch.randperm(len(wanted)), BATCH):
            loss = binary_cross_entropy_with_logits(opinion(features[chosen].float()), wanted[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return opinion.eval()


@torch.no_grad()
def calibrate(opinion: Opinion) -> None:
    """Shift its logits so that ACCEPT is where it was SURE."""
    opinion.last.bias.add_(torch.tensor(ACCEPT).logit() - torch.tensor(SURE).logit())


@torch.no_grad()
def probabilities(opinion: Opinion, features: NDArray[np.float16]) -> Float32Array:
    """(N,) the opinion's own."""
    parts = [opinion(some.float()) for some in torch.split(torch.from_numpy(features), 4096)]
    return array(torch.cat(parts).sigmoid())


def judgement(opinion: Opinion, shown: Shown) -> str:
    """How many squares the published O-Net accepts, and how many it and the opinion do."""
    published = shown.published > ACCEPT
    both = published | (probabilities(opinion, shown.features) > ACCEPT)
    kinds = {"about known faces": shown.known, "of anything else": ~shown.known}
    return "\n".join(
        f"of {some.sum()} squares {kind}, {published[some].mean():.1%} are accepted, with the opinion "
        f"{both[some].mean():.1%}"
        for kind, some in kinds.items()
    )


def write(opinion: Opinion, path: Path, sample: UInt8Array) -> None:
    """Write O-Net's graph. Raises ExportError where it and PyTorch differ on the sample (N, 48, 48, 3)."""
    published = load_weights("onet")
    path.write_bytes(build_onet(published, opinion.weights()))
    probability, _, _, face = Graph(path).run({"crops": sample})
    (features,) = Graph(build_features(published)).run({"crops": sample})
    expected = np.maximum(probability, probabilities(opinion, features))
    check_parity(path, face, expected)


def main() -> None:
    """Parse the command line, and make O-Net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser, others="judges instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with told("opinion"):
        make(arguments.store, files(arguments.pictures), arguments.faces, arguments.halved)


def make(store: Path, learned: Sequence[Path], faces: Path, halved_folder: Path | None) -> None:
    """Collect from the files, every second one of a folder and FER2013; learn, write and judge."""
    onlooker = Onlooker(store)
    halved = files([halved_folder]) if halved_folder else []
    taught, held_out = (part.images for part in divided(faces))
    shown = collect(onlooker, list(pictures([*learned, *halved[::2]])), taught)
    print(f"{len(shown.known)} squares to learn from, {shown.known.sum()} of known faces")
    opinion = learn(shown)
    calibrate(opinion)
    write(opinion, store / "mtcnn" / "onet.onnx", np.repeat(taught[:256, :, :, None], 3, axis=3))
    if halved[1::2]:
        print(judgement(opinion, collect(onlooker, list(pictures(halved[1::2])), held_out, JUDGED)))


if __name__ == "__main__":
    main()
