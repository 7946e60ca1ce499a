"""Trains one network: a run is a folder with its config, its log and a checkpoint it resumes from."""

import csv
import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.begin import IMAGES, begin_with
from training.config import Config, ConfigError, differences, from_saved
from training.data import Faces, vote_shares
from training.distill import Teachers, distillation_loss
from training.presets import augment, class_balanced, mix, to_network
from training.shufflenet import EMOTIONS, ShuffleNetV2
from training.teachers import DenseNetwork

Network = TypeVar("Network", bound=nn.Module)
CHECKPOINT, LOG = "checkpoint.pt", "log.csv"
COLUMNS = ("epoch", "loss", "held_out_accuracy", "training_accuracy", "seconds")


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


def train(config: Config, faces: Faces, folder: Path, graph: Path | None = None) -> nn.Module:
    """Train (or go on training) the run in `folder` and return the averaged network in eval mode.

    graph: an exported graph of the same architecture to begin with, instead of random weights.
    """
    return Run(config, faces, folder, graph).finish()


class Run:
    """Model, its moving average, optimiser and position of one training run."""

    def __init__(self, config: Config, faces: Faces, folder: Path, graph: Path | None = None) -> None:
        self.config, self.folder = config, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        fit, self.held_out = split_held_out(faces, config.held_out, config.seed)
        self.images = torch.from_numpy(fit.images)[:, None].to(self.device)
        self.targets = targets(fit, config.smoothing, config.votes).to(self.device)
        self.labels = torch.from_numpy(fit.labels).to(self.device)
        torch.manual_seed(config.seed)
        self.generator = Generator(self.device).manual_seed(config.seed)
        self.model = placed(build(config), self.device)
        if graph is not None:
            begin_with(self.model, graph, to_network(self.images[:IMAGES].float() / 255))
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.teachers = self._load_teachers()
        self.optimiser = torch.optim.SGD(
            _parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=True,
        )
        self.epoch = self.step = 0
        self.steps_per_epoch = math.ceil(len(self._order()) / config.batch)
        self.generator.manual_seed(config.seed)
        self.history: list[dict[str, str]] = []
        self._resume()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")

    def finish(self) -> nn.Module:
        """Train the epochs that are left; the progress bar tells how long all of them will take."""
        steps = self.config.epochs * self.steps_per_epoch
        with tqdm(total=steps, initial=self.step, desc=self.folder.name, mininterval=5) as bar:
            while self.epoch < self.config.epochs:
                self.advance(bar)
        return self.average

    def advance(self, bar: "tqdm[Any] | None" = None) -> None:
        """Train one epoch, log it and save the checkpoint."""
        # The seed of dropout; set anew so that a resumed run drops what an unbroken one would have.
        torch.manual_seed(self.config.seed * 10_000 + self.epoch)
        start = perf_counter()
        loss, training_accuracy = self._train_epoch(bar)
        self.epoch += 1
        with self._autocast():
            accuracy = accuracy_of(self.average, self.held_out)
        self._log(loss, accuracy, training_accuracy, perf_counter() - start)
        self._save()

    def _train_epoch(self, bar: "tqdm[Any] | None") -> tuple[float, float]:
        """Mean loss, and share of (augmented) images whose most likely emotion is their target's."""
        self.model.train()
        sums = torch.zeros(2, device=self.device)
        for images, target in self._batches():
            self._set_learning_rate()
            loss, hits = self._loss(images, target)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self._update_average()
            self.step += 1
            sums += torch.stack((loss.detach(), hits))
            if bar is not None:
                bar.update()
        mean_loss, accuracy = (sums / self.steps_per_epoch).tolist()
        return mean_loss, accuracy

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of network input (B, 1, 48, 48) and targets (B, 7)."""
        strength = self.config.augmentation
        for index in torch.split(self._order(), self.config.batch):
            images = augment(self.images[index].float() / 255, strength, self.generator)
            target = self.targets[index]
            if strength.mixed:
                images, target = mix(images, target, strength, self.generator)
            yield to_network(images).contiguous(memory_format=torch.channels_last), target

    def _order(self) -> Tensor:
        """Positions of one epoch's images, shuffled."""
        if self.config.balanced_classes:
            return class_balanced(self.labels, self.generator)
        return torch.randperm(len(self.images), generator=self.generator, device=self.device)

    def _loss(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch and the share of it that the network gets right."""
        with self._autocast():
            logits = self.model(self._at_early_side(images))
        logits = logits.float()
        hits = (logits.argmax(1) == target.argmax(1)).float().mean()
        if self.teachers is None or self.config.distillation is None:
            return F.cross_entropy(logits, target), hits
        return distillation_loss(logits, target, self.teachers(images), self.config.distillation), hits

    def _at_early_side(self, images: Tensor) -> Tensor:
        """Small pictures for the first epochs; the network is fully convolutional and does not mind."""
        side = self.config.early_side
        if not side or self.epoch >= self.config.early_share * self.config.epochs:
            return images
        return F.interpolate(images, size=(side, side), mode="area")

    def _autocast(self) -> torch.autocast:
        reduced = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _load_teachers(self) -> Teachers | None:
        distillation = self.config.distillation
        if distillation is None:
            return None
        networks = [load_network(self.folder.parent / name) for name in distillation.teachers]
        teachers = Teachers(networks, distillation.temperature).eval().requires_grad_(False)
        return placed(teachers, self.device)

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

    def _log(self, loss: float, accuracy: float, training_accuracy: float, seconds: float) -> None:
        figures = (f"{loss:.5f}", f"{accuracy:.5f}", f"{training_accuracy:.5f}", f"{seconds:.1f}")
        self.history.append(dict(zip(COLUMNS, (str(self.epoch), *figures), strict=True)))
        with (self.folder / LOG).open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.history)

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
        (self.folder / "checkpoint.tmp").replace(self.folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        changed = differences(self.config, from_saved(state["config"]))
        if changed:
            raise ConfigError(f"{self.folder} was begun with other settings: {', '.join(changed)}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.step = state["epoch"], state["step"]
        # Killed between the log and the checkpoint, the log is one epoch ahead.
        self.history = read_log(self.folder)[: self.epoch]


def placed(network: Network, device: torch.device) -> Network:
    """The network on its device, laid out as convolutions like it best."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def build(config: Config) -> nn.Module:
    """The untrained network of a config."""
    return DenseNetwork(config.dense) if config.dense else ShuffleNetV2(config.architecture)


@torch.no_grad()
def predict(model: nn.Module, faces: Faces, batch: int = 512) -> Tensor:
    """Logits (N, 7) of a network in eval mode, one forward pass a face."""
    device = next(model.parameters()).device
    chunks = torch.split(torch.from_numpy(faces.images)[:, None], batch)
    logits = [model(to_network(chunk.to(device).float() / 255)).float().cpu() for chunk in chunks]
    return torch.cat(logits)


def accuracy_of(model: nn.Module, faces: Faces) -> float:
    """Share of faces whose most likely emotion is the FER2013 label."""
    return float((predict(model, faces).argmax(1).numpy() == faces.labels).mean())


def load_network(folder: Path) -> nn.Module:
    """The averaged network of a run, in eval mode."""
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    model = build(from_saved(state["config"]))
    model.load_state_dict(state["average"])
    return model.eval()


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's log, one for each epoch; older logs have fewer columns."""
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{column: row.get(column) or "" for column in COLUMNS} for row in csv.DictReader(file)]


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only matrices and kernels decay; biases and normalisation do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
