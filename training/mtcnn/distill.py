"""Make P-Net and R-Net faster: networks of two thirds of the time learn what the published ones answer.

    python -m training.mtcnn.distill pnet --pictures FILE_OR_FOLDER ... --faces FER2013 [--halved FOLDER]

Hinton, Vinyals, Dean (2015): Distilling the Knowledge in a Neural Network. No picture needs labels. What the
next network of the cascade says of a window tells how much the answer matters: that of a face most, that of
a candidate which the next network refuses anyway least. FER2013's faces, which the published networks often
refuse, are known to be faces (`training/mtcnn/teacher.py`).

Every second file of `--halved`, in the order of their names, is not learned from.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import trange

from service.vision.mtcnn import DetectionParameters
from service.vision.tables import rows_at
from service.vision.types import UInt8Array
from training.arguments import told
from training.graph import check_parity
from training.held_out import divided
from training.mtcnn.crops import crops
from training.mtcnn.pictures import add_arguments, files, pictures
from training.mtcnn.students import Answers, SmallPNet, SmallRNet, begin
from training.mtcnn.teacher import KNOWN, SMALLEST_FACE, Examples, Teacher
from training.mtcnn.tiles import tiles
from training.scenes import Graph

TILES = 140_000
HELD_OUT = 6000  # of the examples
AVERAGED = 0.004  # what each step adds to the running average of the weights, which is what is kept
# How much an answer counts: to a window of a face, to any other candidate of the published network, to one
# that the next network refuses, to all other windows, of which there are by far the most.
FACE, CANDIDATE, REFUSED_CANDIDATE, WINDOW = 4.0, 1.0, 0.4, 0.05
BOX_WEIGHT, LOGIT_WEIGHT, OF_NO_FACE = 1.5, 0.05, 0.1
SURE = 0.7  # the next network's probability for what is a face, as the service asks of it
REFUSED = 0.1
CERTAIN = 7.0  # beyond it, one logit is as good as another
LARGEST_GRADIENT = 2.0
# Of windows that show a face, how many pass. A face has many windows, and R-Net sees few of them.
KEPT = {"pnet": 0.95, "rnet": 0.995}


@dataclass(frozen=True)
class Plan:
    """How long a student learns, from how many examples at once, at what rate, with which seed."""

    steps: int
    batch: int
    rate: float
    stem_batch: int  # while the first layer begins
    stem_steps: int = 900
    seed: int = 1


PLANS = {"pnet": Plan(26_000, 32, 4e-3, 12, seed=2), "rnet": Plan(16_000, 384, 2e-3, 384)}
THRESHOLDS = dict(zip(PLANS, DetectionParameters(SMALLEST_FACE).thresholds, strict=False))
STUDENTS: dict[str, Callable[[], SmallPNet | SmallRNet]] = {"pnet": SmallPNet, "rnet": SmallRNet}


def loss(answers: Answers, learned: Examples) -> Tensor:
    """How far a student's answers are from the published network's, weighted by how much each matters."""
    logits, boxes = answers
    wanted, wanted_boxes, verdicts = (torch.from_numpy(array).float() for array in learned[1:])
    probability = wanted.sigmoid()
    candidate = probability > 0.5
    face, refused = (candidate & some for some in (verdicts > SURE, verdicts < REFUSED))
    published = face & (verdicts < KNOWN)  # of other faces the place is known less well
    possible = (3 * probability).clamp(max=1) * torch.where(refused, REFUSED_CANDIDATE, CANDIDATE)
    weight = WINDOW + possible + FACE * face.float()
    of_logits = binary_cross_entropy_with_logits(logits, probability, reduction="none")
    given, asked = (tensor.clamp(-CERTAIN, CERTAIN) for tensor in (logits, wanted))
    of_logits = of_logits + LOGIT_WEIGHT * smooth_l1_loss(given, asked, reduction="none")
    box_weight = candidate.float() * (OF_NO_FACE + published.float())
    of_boxes = smooth_l1_loss(boxes, wanted_boxes, reduction="none", beta=0.03).sum(-1)
    of_box: Tensor = (of_boxes * box_weight).sum() / (box_weight.sum() + 1)
    return (of_logits * weight).sum() / weight.sum() + BOX_WEIGHT * of_box


def learn(student: SmallPNet | SmallRNet, examples: Examples, plan: Plan) -> None:
    """Teach the student, and give it the running average of its weights."""
    random = np.random.default_rng(plan.seed)

    def draw(number: int) -> Examples:
        return rows_at(examples, random.integers(len(examples.pixels), size=number))

    begin(student, lambda: pixels(draw(plan.stem_batch)), plan.stem_steps)
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(1 - AVERAGED))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.Adam(student.parameters(), plan.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.rate, total_steps=plan.steps, pct_start=0.01, cycle_momentum=False
    )
    for _ in trange(plan.steps, desc="steps", unit="step"):
        drawn = draw(plan.batch)
        optimizer.zero_grad()
        loss(student(pixels(drawn)), drawn).backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(student.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        average.update_parameters(student)
    student.load_state_dict(average.module.state_dict())


def pixels(examples: Examples) -> Tensor:
    """(N, 3, H, W) float32 from 0 to 255."""
    return torch.from_numpy(examples.pixels).permute(0, 3, 1, 2).float()


@torch.no_grad()
def calibrate(student: SmallPNet | SmallRNet, last: Examples, threshold: float, kept: float) -> float:
    """Shift the student's logits so that this share of the windows of faces passes the threshold.

    A face that one network drops is lost; a candidate too many costs a run of the next. Faces that the
    published network refuses do not count. Returns the shift.
    """
    least = np.log(threshold / (1 - threshold))
    faces = (last.logits > least) & (last.verdicts > SURE) & (last.verdicts < KNOWN)
    logits = answered(student, last)[0].numpy()[faces]
    shift = float(least - np.quantile(logits, 1 - kept))
    assert student.heads.bias is not None
    student.heads.bias[0] += shift
    return shift


@torch.no_grad()
def answered(student: SmallPNet | SmallRNet, examples: Examples) -> Answers:
    """The student's answers to all of the examples."""
    indices = np.array_split(np.arange(len(examples.pixels)), max(1, len(examples.pixels) // 256))
    parts = [student(pixels(rows_at(examples, some))) for some in indices]
    logits, boxes = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return logits, boxes


@torch.no_grad()
def write(student: SmallPNet | SmallRNet, path: Path, sample: UInt8Array) -> None:
    """Write the graph. Raises ExportError where ONNX Runtime and PyTorch differ on a sample (N, H, W, 3)."""
    onnx.save_model(onnx.load_from_string(student.graph()), str(path))
    logits, boxes = student(torch.from_numpy(sample).permute(0, 3, 1, 2).float())
    served = Graph(path).run({student.input: sample})
    for values, expected in zip(served, (logits.sigmoid(), boxes), strict=False):
        check_parity(path, values, expected.numpy())


def main() -> None:
    """Parse the command line, and make one of the networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", choices=PLANS)
    add_arguments(parser, others="is left out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are tiny: two threads take longer
    torch.manual_seed(PLANS[arguments.network].seed)
    with told("distill"):
        halved = files([arguments.halved])[::2] if arguments.halved else []
        make(arguments.network, arguments.store, [*files(arguments.pictures), *halved], arguments.faces)


def make(network: str, store: Path, learned: Sequence[Path], faces: Path) -> None:
    """Collect examples from the files and the faces that networks learn, teach a student, write its graph."""
    teacher, student = Teacher(), STUDENTS[network]()
    shown, pasted = pictures(learned), divided(faces)[0].images
    if network == "pnet":
        examples = tiles(teacher, list(shown), pasted, TILES)
    else:
        examples = crops(teacher, shown, pasted)
    print(f"{len(examples.pixels)} {'tiles' if network == 'pnet' else 'crops'} to learn from")
    taught, last = examples.divided(HELD_OUT)
    learn(student, taught, PLANS[network])
    print(f"loss on {len(last.pixels)} that were not learned from: {loss(answered(student, last), last):.4f}")
    shift = calibrate(student, last, THRESHOLDS[network], KEPT[network])
    print(f"logits shifted by {shift:.2f}, so that {KEPT[network]:.1%} of the windows of faces pass")
    write(student, store / "mtcnn" / f"{network}.onnx", examples.pixels[:256])


if __name__ == "__main__":
    main()
