"""A head for FER+'s votes, on the features of a network that has learned labels.

`python -m training.votes_head --begin-with runs/balanced --data fer2013.csv --run runs/balanced-votes`

The features and what the labels' head makes of them stay as they are. The votes' head is a regression on the
features of faces as published, mirrored, and as the service crops them from scenes. What is written is a run
with two heads, and exported like any other.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.arguments import parser_of_data, positive, told
from training.begin import digest
from training.calibrate import minimise
from training.config import Config, ConfigError
from training.data import Faces, load
from training.engine import Run
from training.label_sets import has_votes
from training.network import learned_by
from training.presets import to_network
from training.scene_crops import scene_crops
from training.shufflenet import EMOTIONS, ShuffleNetV2

WEIGHT_DECAY, ITERATIONS, BATCH = 1e-3, 80, 256


def add_votes_head(faces: Faces, folder: Path, begin: Path) -> nn.Module:
    """Write a run of the network that the run `begin` trained, with a head for the votes beside its own.

    Returns the network. A run that is there already is left as it is. Raises ConfigError for faces without
    votes, and for a run of a teacher.
    """
    if not has_votes(faces):
        raise ConfigError("the data has no FER+ votes: pass --ferplus with fer2013new.csv")
    config = _config(begin)
    if config.dense:
        raise ConfigError(f"{begin.name} is a teacher, which is not served: it needs no such head")
    run = Run(config, faces, folder, begin)
    network = run.average
    assert isinstance(network, ShuffleNetV2)
    if not run.epoch:
        shown = (run.images, run.images.flip(3), _in_scenes(run.images, run.config.seed))
        features = torch.cat([_features(network, images) for images in shown])
        weight, bias = _regression(features, run.targets[:, EMOTIONS:].repeat(len(shown), 1))
        for model in (run.average, run.model):
            assert isinstance(model, ShuffleNetV2)
            model.classifier.weight.data[EMOTIONS:], model.classifier.bias.data[EMOTIONS:] = weight, bias
        run.epoch = run.config.epochs
        run.save()
    return network


def _config(begin: Path) -> Config:
    """That of the run: it holds out the same images, so none that calibrates has been learned."""
    trained, _ = learned_by(begin)
    # Scenes are made here, not asked for of the engine.
    shown = replace(trained.augmentation, in_scenes=0.0)
    return replace(trained, votes=1.0, distillation=None, augmentation=shown, begun_with=digest(begin))


def _in_scenes(images: Tensor, seed: int) -> Tensor:
    return torch.from_numpy(scene_crops(images[:, 0].cpu().numpy(), seed))[:, None].to(images.device)


@torch.no_grad()
def _features(network: ShuffleNetV2, images: Tensor) -> Tensor:
    """What the classifier sees of (N, 1, 48, 48) uint8: (N, head)."""
    parts = tqdm(torch.split(images, BATCH), desc="features", mininterval=5)
    batches = (to_network(batch.float() / 255) for batch in parts)
    # Depthwise convolutions are slow in another order of memory.
    last = (batch.contiguous(memory_format=torch.channels_last) for batch in batches)
    return torch.cat([network.features(batch).mean((2, 3)) for batch in last])


def _regression(features: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (7, head) and bias (7,) of the multinomial regression of votes' shares (N, 7) on features."""
    voted = votes.sum(1) > 0
    features, votes = features[voted], votes[voted]
    mean, spread = features.mean(0), features.std(0) + 1e-6
    features = (features - mean) / spread
    weight = torch.zeros(EMOTIONS, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(EMOTIONS, device=features.device, requires_grad=True)

    def loss() -> Tensor:
        said = (features @ weight.T + bias).log_softmax(1)
        return -(votes * said).sum(1).mean() + WEIGHT_DECAY * weight.square().sum()

    minimise([weight, bias], loss, ITERATIONS)
    weight = weight.detach() / spread
    return weight, bias.detach() - weight @ mean


def main() -> None:
    """Parse the command line and write the run."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--begin-with", type=Path, required=True, help="run that learned labels")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run that is written")
    parser.add_argument("--images", type=positive, help="only so many, for a rehearsal")
    arguments = parser.parse_args()
    with told("votes_head"):
        faces = load(arguments.data, "train", arguments.ferplus).first(arguments.images)
        add_votes_head(faces, arguments.run, arguments.begin_with)


if __name__ == "__main__":
    main()
