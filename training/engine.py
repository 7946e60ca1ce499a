"""Trains one network: a run is a folder with its config, its log and a checkpoint it resumes from."""

import csv
import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data import Faces, vote_shares
from training.presets import Augmentation, augment, to_network
from training.shufflenet import EMOTIONS, Architecture, ShuffleNetV2


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; saved beside it."""

    architecture: Architecture = field(default_factory=Architecture)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 50
    batch: int = 128
    learning_rate: float = 0.1
    warmup_epochs: int = 2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    # Share of the target that comes from FER+ votes, where an image has them.
    votes: float = 0.4
    average_decay: float = 0.999
    held_out: float = 0.05
    seed: int = 1


def split_held_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces]:
    """Split off a random share that training never sees: (rest, held out)."""
    order = np.random.default_rng(seed).permutation(len(faces))
    cut = int(len(faces) * share)
    return faces.subset(order[cut:]), faces.subset(order[:cut])


def targets(faces: Faces, smoothing: float, votes: float) -> Tensor:
    """Soft labels (N, 7): the smoothed FER2013 label, mixed with the shares of any FER+ votes."""
    hard = F.one_hot(torch.from_numpy(faces.labels), EMOTIONS).float()
    smooth = hard * (1 - smoothing) + smoothing / EMOTIONS
    shares = torch.from_numpy(vote_shares(faces.votes))
    weight = votes * (shares.sum(1, keepdim=True) > 0).float()
    return smooth * (1 - weight) + shares * weight


def train(config: Config, faces: Faces, folder: Path) -> nn.Module:
    """Train (or go on training) the run in `folder` and return the averaged network in eval mode."""
    return Run(config, faces, folder).finish()


class Run:
    """Model, its moving average, optimiser and position of one training run."""

    def __init__(self, config: Config, faces: Faces, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        fit, held_out = split_held_out(faces, config.held_out, config.seed)
        self.images = torch.from_numpy(fit.images)[:, None]
        self.targets = targets(fit, config.smoothing, config.votes)
        self.held_out = held_out
        torch.manual_seed(config.seed)
        self.generator = Generator().manual_seed(config.seed)
        self.model = ShuffleNetV2(config.architecture).to(self.device, memory_format=torch.channels_last)
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.SGD(
            _parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=True,
        )
        self.epoch = self.step = 0
        self.steps_per_epoch = math.ceil(len(self.images) / config.batch)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        self._resume()

    def finish(self) -> nn.Module:
        """Train the epochs that are left."""
        while self.epoch < self.config.epochs:
            loss = self._train_epoch()
            self.epoch += 1
            accuracy = accuracy_of(self.average, self.held_out)
            self._log(loss, accuracy)
            self._save()
        return self.average

    def _train_epoch(self) -> float:
        self.model.train()
        total = 0.0
        bar = tqdm(
            self._batches(), total=self.steps_per_epoch, desc=f"epoch {self.epoch + 1}/{self.config.epochs}"
        )
        for images, target in bar:
            self._set_learning_rate()
            loss = F.cross_entropy(self.model(images), target)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self._update_average()
            self.step += 1
            total += float(loss.detach())
        return total / self.steps_per_epoch

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=self.generator)
        for index in order.split(self.config.batch):
            images = augment(self.images[index].float() / 255, self.config.augmentation, self.generator)
            batch = to_network(images).to(self.device, memory_format=torch.channels_last)
            yield batch, self.targets[index].to(self.device)

    def _set_learning_rate(self) -> None:
        """Linear warm-up, then half a cosine down to zero."""
        warmup = self.config.warmup_epochs * self.steps_per_epoch
        rest = self.config.epochs * self.steps_per_epoch - warmup
        done = (self.step - warmup) / max(rest, 1)
        factor = (self.step + 1) / warmup if self.step < warmup else 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average would remember the random start, so the decay grows with the steps.
        decay = min(self.config.average_decay, (self.step + 1) / (self.step + 10))
        for average, value in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def _log(self, loss: float, accuracy: float) -> None:
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["epoch", "loss", "held_out_accuracy"])
            writer.writerow([self.epoch, f"{loss:.5f}", f"{accuracy:.5f}"])

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "config": asdict(self.config),
        }
        # Written aside and renamed: a run killed here keeps its last whole checkpoint.
        torch.save(state, self.folder / "checkpoint.tmp")
        (self.folder / "checkpoint.tmp").replace(self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.step = state["epoch"], state["step"]


@torch.no_grad()
def predict(model: nn.Module, faces: Faces, batch: int = 512) -> Tensor:
    """Logits (N, 7) of a network in eval mode, one forward pass a face."""
    device = next(model.parameters()).device
    chunks = torch.from_numpy(faces.images)[:, None].split(batch)
    return torch.cat([model(to_network(chunk.float() / 255).to(device)).cpu() for chunk in chunks])


def accuracy_of(model: nn.Module, faces: Faces) -> float:
    """Share of faces whose most likely emotion is the FER2013 label."""
    return float((predict(model, faces).argmax(1).numpy() == faces.labels).mean())


def load_network(folder: Path) -> ShuffleNetV2:
    """The averaged network of a run, in eval mode."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    architecture = state["config"]["architecture"]
    model = ShuffleNetV2(Architecture(**architecture))
    model.load_state_dict(state["average"])
    return model.eval()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only matrices and kernels decay; biases and normalisation do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
