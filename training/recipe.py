"""The recipe: every preset, and the steps that lead from the data to a variant.

`python -m training.recipe --variant balanced --data fer2013.csv --runs runs`

Two teachers learn labels and votes, and two more what those say of augmented epochs. `balanced` and `fast`
learn what all four say, and once more what all four and both of them say together.
Each step has its own folder; a broken recipe is resumed by repeating it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from training.arguments import parser_of_data, told
from training.begin import digest
from training.config import Config
from training.data import DataError, Faces, load
from training.distill import Distillation
from training.engine import train
from training.label_sets import FERPLUS, has_votes
from training.network import load_network
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
    "fast": Architecture((32, 80, 320), (1, 3, 4), stem=16, head=192, stem_stride=1, dropout=0.0),
    "balanced": Architecture((64, 192, 448), (2, 6, 6), stem=16, head=704, stem_stride=1, dropout=0.0),
}
EPOCHS = {"fast": 473, "balanced": 283}
# Networks that answer together are better than each alone, and teach each of the students once more
# (Furlanello et al., "Born-Again Neural Networks", 2018).
AGAIN = replace(
    STUDENT, learning_rate=0.04, warmup_epochs=0, distillation=Distillation("mild-views", weight=0.7)
)
AGAIN_EPOCHS = {"fast": 85, "balanced": 57}
# Half of the faces as the service finds and crops them, which is what it will ask the student about.
AGAIN_VIEWS = replace(VIEWS, augmentation=replace(MILD, in_scenes=0.5))
AGAIN_COUNT = 8
# The same step without scenes has this behind its name: for images that are framed as FER2013's are.
FRAMED, FRAMED_VIEWS = "-framed", Distillation("framed-views", weight=0.7)
# The teachers' architectures; the second gives FER+'s votes as much weight as the labels. Two teachers learn
# labels and votes, and two of the same forms learn what the first two say.
DENSE = {
    "vgg": replace(TEACHER, dense=DenseArchitecture("vgg", 64, (1, 1, 2, 2))),
    "vgg-votes": replace(TEACHER, dense=DenseArchitecture("vgg", 64, (1, 2, 2, 1)), votes=1.0),
}
TEACHERS, TAUGHT_TEACHERS = tuple(DENSE), tuple(f"{name}-taught" for name in DENSE)
FIRST_VIEWS, FIRST_COUNT = Distillation("first-views", weight=0.6), 24

PRESETS = {
    # The paper: 50 epochs, one-hot labels, 20 % held for validation, classes balanced by augmentation.
    "paper": Config(
        augmentation=PAPER, epochs=50, smoothing=0.0, votes=0.0, held_out=0.2, balanced_classes=True
    ),
    # ShuffleNet V2 1.0x, trained without teachers; what the ablations change one thing of.
    "plain": Config(epochs=54),
    "robust": Config(augmentation=ROBUST, epochs=54),
    **{name: replace(teacher, epochs=180) for name, teacher in DENSE.items()},
    **{
        f"{name}-taught": replace(teacher, epochs=110, distillation=FIRST_VIEWS)
        for name, teacher in DENSE.items()
    },
    **{
        name: replace(STUDENT, architecture=found, epochs=EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
    **{
        f"{name}-again": replace(AGAIN, architecture=found, epochs=AGAIN_EPOCHS[name])
        for name, found in ARCHITECTURES.items()
    },
}
# A little of the votes gives FER+ one or two points for next to nothing, but costs `fast` half a point. The
# adjustment names more of `disgust` where a network misses it; these do not need it (docs/training.md).
SERVED = {
    "fast": Serving(0.0, 0.0),
    "balanced": Serving(0.1, 0.0),
    "accurate": Serving(0.1, 0.0),
    "ferplus": Serving(1.0, 0.0),
}
# What a variant is made of, where that is not the network of its name: these answer together, so weighted.
# `ferplus` is the other head of `balanced`.
MEMBERS = {
    "accurate": {"balanced-framed": 3.0, "balanced-taught": 1.0, "fast-framed": 1.0},
    "ferplus": {"balanced": 1.0},
}


def members(variant: str) -> dict[str, float]:
    """The runs that a variant is made of, and their weights."""
    return MEMBERS.get(variant, {variant: 1.0})


def run(
    variant: str, faces: Faces, runs: Path, presets: Mapping[str, Config] = PRESETS, views: int = COUNT
) -> None:
    """All steps of a variant; the folders of `runs` that bear its members' names are what is exported.

    Faces without votes are learned with one head, for another would teach students what nobody told it.
    Raises DataError for a variant that is the votes' head.
    """
    if not has_votes(faces):
        if SERVED[variant].label_set == FERPLUS:
            raise DataError("the data has no FER+ votes: pass --ferplus with fer2013new.csv")
        presets = {name: replace(config, votes=0.0) for name, config in presets.items()}
    recipe = Recipe(faces, runs, presets, views)
    for name in members(variant):
        if not name.endswith("-taught"):  # which is a step on the way to another member
            recipe.learn(name)


@dataclass(frozen=True)
class Recipe:
    """The steps on these faces, in these folders. views: how many augmented epochs teachers speak of."""

    faces: Faces
    runs: Path
    presets: Mapping[str, Config]
    views: int

    def learn(self, name: str) -> None:
        """Train the network of that name to the end, in the folder of that name."""
        teachers = self.teachers()
        taught = {student: self.taught(student, teachers) for student in ARCHITECTURES}
        begin = taught[name.removesuffix(FRAMED)]
        config = replace(self.presets[f"{name.removesuffix(FRAMED)}-again"], begun_with=digest(begin))
        views = AGAIN_VIEWS
        if name.endswith(FRAMED):
            config, views = replace(config, distillation=FRAMED_VIEWS), replace(VIEWS, augmentation=MILD)
        self.write(views, config, [*teachers, *taught.values()], AGAIN_COUNT)
        train(config, self.faces, self.runs / name, begin)

    def teachers(self) -> list[Path]:
        """Those that learned from labels and votes, and those that learned from them."""
        first, second = ([self.runs / name for name in names] for names in (TEACHERS, TAUGHT_TEACHERS))
        for run in first:
            train(self.presets[run.name], self.faces, run)
        self.write(VIEWS, self.presets[TAUGHT_TEACHERS[0]], first, FIRST_COUNT)
        for run in second:
            train(self.presets[run.name], self.faces, run)
        return [*first, *second]

    def taught(self, name: str, teachers: list[Path]) -> Path:
        """The student of that name, and what it learns: what all teachers say."""
        folder = self.runs / f"{name}-taught"
        config = replace(self.presets[name], distillation=Distillation("views"))
        self.write(VIEWS, config, teachers, COUNT)
        train(config, self.faces, folder)
        return folder

    def write(self, views: Config, student: Config, teachers: list[Path], count: int) -> None:
        """Write what the teachers say of the student's images, where it looks for it."""
        assert student.distillation is not None
        seen = replace(views, held_out=student.held_out, seed=student.seed, votes=student.votes)
        networks = [load_network(teacher) for teacher in teachers]
        folder = self.runs / student.distillation.views
        write_views(seen, self.faces, networks, folder, min(count, self.views))


def main() -> None:
    """Parse the command line and go through the steps."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--variant", choices=[*ARCHITECTURES, *MEMBERS], default="balanced")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs of all steps")
    arguments = parser.parse_args()
    with told("recipe", resumes=True):
        run(arguments.variant, load(arguments.data, "train", arguments.ferplus), arguments.runs)


if __name__ == "__main__":
    main()
