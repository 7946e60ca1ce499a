"""The recipe: every preset, and the steps that lead from the data to a variant.

`python -m training.recipe --variant balanced --data fer2013.csv --runs runs`

Teachers are trained, what they say of augmented epochs is stored, `balanced` and `fast` learn from that, and
finish on the labels alone; each then learns once more, from what both and the best teachers say together.
Each step has its own folder; a broken recipe is resumed by repeating it.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from training.begin import digest
from training.config import Config, ConfigError
from training.data import DataError, Faces, load
from training.distill import Distillation
from training.engine import load_network, train
from training.presets import PAPER, ROBUST, Augmentation
from training.serving import Serving
from training.shufflenet import Architecture
from training.teachers import DenseArchitecture
from training.views import COUNT, VIEWS, write_views

MILD = Augmentation(scale=0.12, shift=0.06, erased=0.2, resampled=0.2, blurred=0.1, jpeg=0.1, noise=0.02)
# A teacher, dense: bfloat16 pays even on a CPU.
TEACHER = Config(
    augmentation=Augmentation(blurred=0.1, jpeg=0.1, noise=0.02, mixed=0.4),
    batch=256,
    learning_rate=0.1,
    warmup_epochs=3,
    smoothing=0.05,
    average_decay=0.998,
    precision="bfloat16",
)
# A student, for `--views`: small networks lack capacity, not data, so they drop nothing out.
STUDENT = Config(
    batch=256, learning_rate=0.2, warmup_epochs=4, weight_decay=3e-4, smoothing=0.05, augmentation=MILD
)
# The students' architectures. The first stage, at 24x24, costs most and is kept narrow.
ARCHITECTURES = {
    "fast": Architecture((24, 80, 304), (1, 3, 4), stem=8, head=384, stem_stride=1, dropout=0.0),
    "balanced": Architecture((64, 192, 448), (2, 6, 6), stem=16, head=704, stem_stride=1, dropout=0.0),
}
EPOCHS = {"fast": 290, "balanced": 158}
# What a student still learns from the labels alone, after its teachers.
# From a rate of 0.02, two epochs undid what the teachers had taught.
FINISH = Config(
    augmentation=MILD, batch=64, learning_rate=0.004, warmup_epochs=0, weight_decay=3e-4, smoothing=0.05
)
FINISH_EPOCHS = {"fast": 8, "balanced": 5}
# Networks that answer together are better than each alone, and teach each of the students once more
# (Furlanello et al., "Born-Again Neural Networks", 2018).
TAUGHT_AGAIN = replace(FINISH, learning_rate=0.01, distillation=Distillation("mild-views", weight=0.7))
AGAIN_EPOCHS = {"fast": 32, "balanced": 19}
AGAIN_VIEWS = replace(VIEWS, augmentation=MILD)
AGAIN_COUNT = 6

PRESETS = {
    # The paper: 50 epochs, one-hot labels, 20 % held for validation, classes balanced by augmentation.
    "paper": Config(
        augmentation=PAPER, epochs=50, smoothing=0.0, votes=0.0, held_out=0.2, balanced_classes=True
    ),
    # ShuffleNet V2 1.0x, trained without teachers; what the ablations change one thing of.
    "plain": Config(epochs=54),
    "robust": Config(augmentation=ROBUST, epochs=54),
    "vgg": replace(TEACHER, dense=DenseArchitecture("vgg", 64, (1, 1, 2, 2)), epochs=75),
    "vgg-votes": replace(TEACHER, dense=DenseArchitecture("vgg", 64, (1, 2, 2, 1)), votes=1.0, epochs=72),
    "vgg-short": replace(TEACHER, dense=DenseArchitecture("vgg", 72, (1, 1, 1, 1)), epochs=60),
    "vgg-deep": replace(TEACHER, dense=DenseArchitecture("vgg", 56, (1, 2, 3, 2)), epochs=59),
    **{
        name: replace(STUDENT, architecture=found, epochs=EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
    **{
        f"{name}-finish": replace(FINISH, architecture=found, epochs=FINISH_EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
    **{
        f"{name}-again": replace(TAUGHT_AGAIN, architecture=found, epochs=AGAIN_EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
}
# A tenth of the votes gives FER+ two points for nothing. The adjustment brings `disgust` to two thirds in
# `balanced`; `fast` has none, since it costs accuracy (docs/training.md).
SERVED = {"fast": Serving(0.1, 0.0), "balanced": Serving(0.1, 0.6), "accurate": Serving(0.1, 0.3)}
TEACHERS = ("vgg", "vgg-votes", "vgg-short", "vgg-deep")
# Those who still teach beside the finished students.
BEST_TEACHERS = TEACHERS[:2]
# What a variant is made of, where that is not the one network of its name: these answer together.
MEMBERS = {"accurate": ("balanced", "fast")}


def members(variant: str) -> tuple[str, ...]:
    """The networks that a variant is made of."""
    return MEMBERS.get(variant, (variant,))


def run(
    variant: str, faces: Faces, runs: Path, presets: Mapping[str, Config] = PRESETS, views: int = COUNT
) -> None:
    """All steps of a variant; the folders of `runs` that bear its members' names are what is exported."""
    recipe = Recipe(faces, runs, presets, views)
    for member in members(variant):
        recipe.learn(member)


@dataclass(frozen=True)
class Recipe:
    """The steps on these faces, in these folders. views: how many augmented epochs teachers speak of."""

    faces: Faces
    runs: Path
    presets: Mapping[str, Config]
    views: int

    def learn(self, name: str) -> None:
        """Train the network of that name to the end, in the folder of that name."""
        finished = {student: self.runs / f"{student}-finished" for student in ARCHITECTURES}
        for student, folder in finished.items():
            self.finish(student, folder)
        config = self.presets[f"{name}-again"]
        assert config.distillation is not None
        teachers = [*finished.values(), *(self.runs / teacher for teacher in BEST_TEACHERS)]
        self.write(AGAIN_VIEWS, config, teachers, config.distillation.views, AGAIN_COUNT)
        train(
            replace(config, begun_with=digest(finished[name])), self.faces, self.runs / name, finished[name]
        )

    def finish(self, name: str, folder: Path) -> None:
        """Teachers, what they say, a student, and its epochs on the labels alone."""
        for teacher in TEACHERS:
            train(self.presets[teacher], self.faces, self.runs / teacher)
        student = self.presets[name]
        self.write(VIEWS, student, [self.runs / teacher for teacher in TEACHERS], "views", self.views)
        taught = self.runs / f"{name}-taught"
        train(replace(student, distillation=Distillation("views")), self.faces, taught)
        config = replace(self.presets[f"{name}-finish"], begun_with=digest(taught))
        train(config, self.faces, folder, taught)

    def write(self, views: Config, student: Config, teachers: list[Path], folder: str, count: int) -> None:
        """Write what the teachers say of the images that the student learns from."""
        seen = replace(views, held_out=student.held_out, seed=student.seed)
        networks = [load_network(teacher) for teacher in teachers]
        write_views(seen, self.faces, networks, self.runs / folder, min(count, self.views))


def main() -> None:
    """Parse the command line and go through the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variant", choices=[*ARCHITECTURES, *MEMBERS], default="balanced")
    parser.add_argument(
        "--data", type=Path, required=True, help="fer2013.csv, contact sheets or image folders"
    )
    parser.add_argument("--ferplus", type=Path, help="FER+ votes (fer2013new.csv) for a Kaggle file")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs of all steps")
    arguments = parser.parse_args()
    try:
        run(arguments.variant, load(arguments.data, "train", arguments.ferplus), arguments.runs)
    except (ConfigError, DataError, FileNotFoundError) as error:
        raise SystemExit(f"recipe: {error}") from error


if __name__ == "__main__":
    main()
