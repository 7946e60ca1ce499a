"""Teaches the filter between P-Net and R-Net which candidates become faces, from the cascade itself.

    python -m training.mtcnn.filter --pictures FILE_OR_FOLDER ... --faces FER2013 [--halved FOLDER]

P-Net answers to a real face in several neighbouring windows, and its boxes there agree; to anything else it
answers in one window alone, or in boxes that do not. The filter is a multilayer perceptron that sees P-Net's
answers to the 7x7 windows around a candidate. Nothing needs to be labelled: a candidate is a face if R-Net
and O-Net, given it, say so.

| graph | input | output, float32 |
|---|---|---|
| filter | `surroundings` uint8 (N, 7, 7, 5): P-Net's `response` around N candidates | `probability` (N,) |

Every second file of `--halved`, in the order of their names, is not learned from: on those it is
printed how many candidates each threshold lets pass, and how many faces are still found through them.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from service.vision.boxes import overlap, regress, square, suppress
from service.vision.looks import ONET, RNET, run_on_crops
from service.vision.mtcnn import DetectionParameters
from service.vision.proposals import AROUND, Candidates, ProposalStage
from service.vision.pyramid import halve
from service.vision.types import Float32Array, UInt8Array
from training.arguments import told
from training.graph import check_parity
from training.held_out import divided
from training.mtcnn.build import GraphBuilder
from training.mtcnn.pictures import add_arguments, files, pictures, varied
from training.mtcnn.tiles import scenes_with_faces
from training.scenes import Graph

SMALLEST_FACE = 20
# P-Net's threshold while candidates are collected: those that a lower threshold would add are learned too.
LEAST_SCORE = 0.5
PASTED_FACES = 4000
INPUTS, HIDDEN = 5 * (2 * AROUND + 1) ** 2, 64
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 20, 512, 4e-3, 1e-3
FACE_WEIGHT = 2.0  # of all candidates of a face, where one that becomes none has 1: there are more of those
THRESHOLDS = (0.002, 0.003, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Examples:
    """Candidates: surroundings uint8 (N, 7, 7, 5), and which face each becomes (N,): its number, or -1."""

    surroundings: UInt8Array
    faces: NDArray[np.intp]

    @property
    def number_of_faces(self) -> int:
        """How many faces the candidates become."""
        return int(self.faces.max(initial=-1)) + 1


class Cascade:
    """The cascade of a store, asked for each candidate by itself."""

    def __init__(self, store: Path) -> None:
        pnet, self._rnet, self._onet = (
            Graph(store / f"mtcnn/{name}.onnx") for name in ("pnet", "rnet", "onet")
        )
        self._stage = ProposalStage(pnet, pnet)

    def examples(self, picture: UInt8Array) -> Examples:
        """P-Net's candidates in an RGB picture (H, W, 3), without any suppression after P-Net's own."""
        halvings = halve(picture)
        factor = DetectionParameters(SMALLEST_FACE).pyramid_factor
        found = self._stage.propose(halvings, SMALLEST_FACE, factor, LEAST_SCORE)
        return Examples(found.surroundings, self._faces(halvings, found))

    def _faces(self, halvings: list[UInt8Array], found: Candidates) -> NDArray[np.intp]:
        """(N,) the face that R-Net and O-Net find in each candidate; candidates that overlap share one."""
        _, refine, accept = DetectionParameters(SMALLEST_FACE).thresholds
        faces = np.full(len(found.squares), -1, np.intp)
        scores, offsets = run_on_crops(self._rnet, halvings, found.squares, RNET)[:2]
        passed = np.flatnonzero(scores > refine)
        refined = square(regress(found.squares[passed], offsets[passed]))
        _, offsets, _, scores = run_on_crops(self._onet, halvings, refined, ONET)
        accepted = scores > accept
        boxes = regress(refined[accepted], offsets[accepted])
        kept = suppress(boxes, scores[accepted], 0.5)
        if len(kept):
            faces[passed[accepted]] = overlap(boxes, boxes[kept]).argmax(axis=1)
        return faces


def pasted(data: Path) -> Iterator[UInt8Array]:
    """FER2013's training faces in made-up pictures: cut close, they look other than those of photos."""
    faces = divided(data)[0].images
    made_up = scenes_with_faces(faces, np.random.default_rng(5))
    yield from (picture for picture, _ in islice(made_up, PASTED_FACES))


def collect(cascade: Cascade, originals: Iterable[UInt8Array]) -> Examples:
    """The candidates of all pictures."""
    return joined([cascade.examples(picture) for picture in originals])


def joined(parts: Sequence[Examples]) -> Examples:
    """All of them; every face keeps a number of its own."""
    firsts = np.cumsum([0, *(part.number_of_faces for part in parts)])
    numbered = [
        np.where(part.faces < 0, -1, part.faces + first) for part, first in zip(parts, firsts, strict=False)
    ]
    return Examples(np.concatenate([part.surroundings for part in parts]), np.concatenate(numbered))


class Perceptron(nn.Module):
    """(N, 245) floats to (N,) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, responses: Tensor) -> Tensor:
        """One logit for each candidate."""
        logits: Tensor = self.last(self.hidden(responses).relu())
        return logits[:, 0]


def inputs(surroundings: UInt8Array) -> Tensor:
    """(N, 245) floats from -1 to 1."""
    return torch.from_numpy(surroundings.reshape(-1, INPUTS)).float() / 127.5 - 1


def weights(examples: Examples) -> Float32Array:
    """(N,) how much each candidate counts: those of one face count as much as one that becomes none.

    A face is found through any of its candidates. Counted alike, the many of clear faces would drown the few
    of faces that are hard to see.
    """
    known = examples.faces >= 0
    counted = np.ones(len(known), np.float32)
    counted[known] = FACE_WEIGHT / np.bincount(examples.faces[known])[examples.faces[known]]
    return counted


def train(examples: Examples, epochs: int = EPOCHS) -> Perceptron:
    """A filter that tells how likely a candidate becomes a face."""
    torch.manual_seed(1)
    network = Perceptron()
    surroundings, weight = inputs(examples.surroundings), torch.from_numpy(weights(examples))
    becomes = torch.from_numpy(examples.faces >= 0).float()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = epochs * -(-len(becomes) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(becomes)), BATCH):
            logits = network(surroundings[chosen])
            loss = binary_cross_entropy_with_logits(logits, becomes[chosen], weight[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def build(network: Perceptron) -> bytes:
    """The graph of a trained filter; scaling the bytes is folded into its first layer."""
    weight, bias = (tensor.detach().numpy() for tensor in (network.hidden.weight.T, network.hidden.bias))
    builder = GraphBuilder("surroundings")
    builder.add("Cast", to=TensorProto.FLOAT)
    builder.add("Flatten")
    shifted: Float32Array = bias - weight.sum(axis=0)
    builder.dense((weight / 127.5).astype(np.float32), shifted)
    builder.add("Relu")
    builder.dense(network.last.weight.detach().numpy().T, network.last.bias.detach().numpy())
    builder.probability(builder.last)
    side = 2 * AROUND + 1
    return builder.model("filter", ("surroundings", ["N", side, side, 5]), {"probability": ["N"]})


def probabilities(network: Perceptron, surroundings: UInt8Array) -> Float32Array:
    """(N,) probabilities of becoming a face."""
    with torch.no_grad():
        found: Float32Array = network(inputs(surroundings)).sigmoid().numpy()
    return found


def write(network: Perceptron, path: Path, sample: UInt8Array) -> None:
    """Write the graph. Raises ExportError where ONNX Runtime and PyTorch differ on the sample."""
    onnx.save_model(onnx.load_from_string(build(network)), str(path))
    (served,) = Graph(path).run({"surroundings": sample})
    check_parity(path, served, probabilities(network, sample))


def judgement(network: Perceptron, examples: Examples) -> str:
    """What each threshold lets pass, and how many of the faces are still found through what passes."""
    found, total = probabilities(network, examples.surroundings), examples.number_of_faces
    rows = [f"{len(found)} candidates become {total} faces"]
    for threshold in THRESHOLDS:
        passed = found >= threshold
        faces = len(np.unique(examples.faces[passed & (examples.faces >= 0)]))
        rows.append(f"at least {threshold}: {passed.sum()} pass, {faces} faces ({faces / max(total, 1):.3f})")
    return "\n".join(rows)


def main() -> None:
    """Parse the command line, and make the filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser, others="judges instead")
    arguments = parser.parse_args()
    with told("filter"):
        make(arguments.store, files(arguments.pictures), arguments.faces, arguments.halved)


def make(store: Path, learned: Sequence[Path], faces: Path, halved_folder: Path | None) -> None:
    """Collect from the files, every second one of a folder and FER2013; train, write and judge."""
    cascade = Cascade(store)
    halved = files([halved_folder]) if halved_folder else []
    shown = varied(pictures([*learned, *halved[::2]]))
    examples = joined([collect(cascade, shown), collect(cascade, pasted(faces))])
    print(f"{len(examples.faces)} candidates to learn from, which become {examples.number_of_faces} faces")
    network = train(examples)
    write(network, store / "mtcnn" / "filter.onnx", examples.surroundings[:256])
    if halved[1::2]:
        print(judgement(network, collect(cascade, pictures(halved[1::2]))))


if __name__ == "__main__":
    main()
