"""Write views for distillation: augmented epochs with what teachers say of them (see `training.distill`).

`python -m training.views --teachers vgg vgg-votes --data fer2013.csv --run runs/views`

Teachers are runs beside the views, or exported graphs. Views that exist already are left alone, so a broken
command is resumed by repeating it; for other teachers, name another folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from training.arguments import parser_of_data, positive, told
from training.config import Config, ConfigError, differences, override
from training.data import Faces, load
from training.heads import log_probabilities
from training.held_out import split_held_out
from training.network import compute_device, load_network, placed
from training.presets import Augmentation, augment, mix, random_light, to_network
from training.saved import CONFIG, readable, save_config
from training.scene_crops import detector_digest, scene_crops
from training.shufflenet import EMOTIONS
from training.targets import fit_tensors, need_votes
from training.view_folder import View, described, save_source, save_view, view_paths

BATCH, COUNT = 512, 32
GRAPH_BATCH = 16  # more do not fit a core's cache
LEAST = 1e-7  # of a graph's probabilities, for zero has no logarithm
# Stronger than a student takes alone: what teachers say of a face half hidden is not a wrong label.
VIEWS = Config(augmentation=Augmentation(blurred=0.1, jpeg=0.1, noise=0.02, mixed=0.4), smoothing=0.05)


class Exported(nn.Module):
    """An exported graph as a teacher: network input (B, 1, 48, 48) -> log-probabilities (B, 7)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with readable(path, "name an exported graph, or a run beside the views"):
            # Kept, for views remember the weights of those who speak of them.
            self.register_buffer("file", torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8))
            self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(self, x: Tensor) -> Tensor:
        crops = ((x.cpu() + 1) / 2 * 255).round().byte().contiguous().numpy()
        batches = np.split(crops, range(GRAPH_BATCH, len(crops), GRAPH_BATCH))
        answers = [torch.from_numpy(self.session.run(None, {"crops": batch})[0]) for batch in batches]
        return torch.cat(answers).clamp_min(LEAST).log().to(x.device)


def write_views(
    config: Config, faces: Faces, teachers: Sequence[nn.Module], folder: Path, count: int
) -> None:
    """Write the views of the images that `config` does not hold out."""
    device = compute_device()
    networks = [placed(network, device) for network in teachers]
    images, target = fit_tensors(config, split_held_out(faces, config.held_out, config.seed)[0], device)
    _check_heads(networks, images[:1], target.shape[1])
    _begin_folder(config, _source(config, faces, networks), folder)
    for index in tqdm(range(count), desc=folder.name):
        path = folder / f"view-{index:03}.pt"
        if not path.exists():
            generator = Generator(device).manual_seed(config.seed * 10_000 + index)
            save_view(_view(images, target, networks, config.augmentation, generator), path)


def _begin_folder(config: Config, source: dict[str, str], folder: Path) -> None:
    """Write down what views come from; those that come from anything else must not stand beside them."""
    if (folder / CONFIG).exists():
        begun, known = described(folder)
        changed = differences(config, begun)
        if changed:
            raise ConfigError(f"{folder} was begun with other settings: {', '.join(changed)}")
        for name, now in source.items():
            if known.get(name, now) != now:
                raise ConfigError(f"{folder} was begun with other {name}: name another folder")
    save_config(config, folder)
    # What older views come from is not known, and not what comes now.
    if not view_paths(folder):
        save_source(source, folder)


def _source(config: Config, faces: Faces, teachers: Sequence[nn.Module]) -> dict[str, str]:
    """What views come from: the images, those who speak of them, in any order, and the detector in scenes."""
    found = {"images": faces.fingerprint(), "teachers": " ".join(sorted(map(_weights_digest, teachers)))}
    return found | ({"detector": detector_digest()} if config.augmentation.in_scenes else {})


def _weights_digest(network: nn.Module) -> str:
    digest = sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _check_heads(networks: Sequence[nn.Module], image: Tensor, wanted: int) -> None:
    """Raise ConfigError where a teacher has not as many logits as the targets have."""
    if any(opinion([network], to_network(image.float() / 255)).shape[1] != wanted for network in networks):
        heads = "one head (votes=0)" if wanted == EMOTIONS else "two heads (votes above 0)"
        raise ConfigError(f"views with {heads} need teachers that all have as many")


@dataclass(frozen=True)
class _Shown:
    """Faces that are augmented, (N, 1, 48, 48) uint8, and those of them that are shown in scenes instead.

    in_scene: boolean (N, 1, 1, 1); crops: (N, 1, 48, 48) uint8, what the service crops of these.
    """

    images: Tensor
    in_scene: Tensor
    crops: Tensor

    def __getitem__(self, index: Tensor) -> "_Shown":
        return _Shown(self.images[index], self.in_scene[index], self.crops[index])


def _shown(images: Tensor, share: float, generator: Generator) -> _Shown:
    """Show this share of the faces in scenes."""
    if not share:
        return _Shown(images, torch.zeros_like(images[:, :, :1, :1], dtype=torch.bool), images)
    chosen = torch.rand(len(images), generator=generator, device=generator.device) < share
    crops = images.clone()
    found = scene_crops(images[chosen, 0].cpu().numpy(), generator.initial_seed())
    crops[chosen, 0] = torch.from_numpy(found).to(images.device)
    return _Shown(images, chosen[:, None, None, None], crops)


def _view(
    images: Tensor,
    targets: Tensor,
    networks: Sequence[nn.Module],
    strength: Augmentation,
    generator: Generator,
) -> View:
    shown = _shown(images, strength.in_scenes, generator)
    # Shuffled, so that a face is mixed with any other, and then put back in order.
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    parts = [
        _part(shown[index], targets[index], networks, strength, generator)
        for index in torch.split(order, BATCH)
    ]
    joined = [torch.cat(tensors)[order.argsort()].cpu() for tensors in zip(*parts, strict=True)]
    return View(*joined)


@torch.no_grad()
def _part(
    shown: _Shown,
    targets: Tensor,
    networks: Sequence[nn.Module],
    strength: Augmentation,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    published = shown.images.float() / 255
    changed = augment(published, strength, generator)
    if strength.in_scenes:
        lit = random_light(shown.crops.float() / 255, strength, generator)
        changed = torch.where(shown.in_scene, lit, changed)
    both, targets = mix(torch.cat((changed, published), 1), targets, strength, generator)
    # Teachers look at the bytes that students will see.
    pixels = (both[:, :1] * 255).round().byte()
    taught = opinion(networks, to_network(pixels.float() / 255))
    if in_scene := shown.in_scene.flatten().nonzero()[:, 0].tolist():
        # As published, they know the face better, and the student is to say the same wherever it stands.
        known = opinion(networks, to_network(both[in_scene, 1:]))
        taught[in_scene] = (taught[in_scene] + known) / 2
    return pixels, targets.half(), taught.half()


def teacher(runs: Path, name: str) -> nn.Module:
    """The run of that name, or the exported graph at that path."""
    return Exported(Path(name)) if name.endswith(".onnx") else load_network(runs / name)


@torch.no_grad()
def opinion(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The mean of the networks' log-probabilities (B, 7 or 14) for network input (B, 1, H, W)."""
    images = images.contiguous(memory_format=torch.channels_last)
    # On a CPU it pays for dense networks alone, and only where the processor computes in it.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        logits = torch.stack([network(images) for network in networks])
    return log_probabilities(logits.float()).mean(0)


def main() -> None:
    """Parse the command line and write the views."""
    parser = parser_of_data(__doc__)
    parser.add_argument(
        "--teachers", nargs="+", required=True, help="names of runs beside this one, or .onnx files"
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the views")
    parser.add_argument("--count", type=positive, default=COUNT)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--images", type=positive, help="only so many, for a rehearsal")
    arguments = parser.parse_args()
    with told("views", resumes=True):
        config = override(VIEWS, arguments.settings)
        faces = load(arguments.data, "train", arguments.ferplus).first(arguments.images)
        need_votes(config, faces)
        teachers = [teacher(arguments.run.parent, name) for name in arguments.teachers]
        write_views(config, faces, teachers, arguments.run, arguments.count)


if __name__ == "__main__":
    main()
