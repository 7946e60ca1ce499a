"""Trains one network: a run is a folder with its config, its log and a checkpoint it resumes from."""

import csv
import json
import math
from collections.abc import Mapping
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

from training.begin import CHECKPOINT, IMAGES, begin_resized, begin_with, load_checkpoint, readable
from training.config import Config, ConfigError, differences, from_saved
from training.data import DataError, Faces, load, vote_shares
from training.distill import (
    SOURCE,
    View,
    distillation_loss,
    load_source,
    load_view,
    save_tensors,
    view_paths,
)
from training.files import aside, write_text
from training.heads import cross_entropy, of_labels, outputs
from training.label_sets import has_votes
from training.presets import augment, class_balanced, mix, random_flip, to_network
from training.replay import Step, replayed
from training.shufflenet import EMOTIONS, ShuffleNetV2
from training.teachers import DenseNetwork

Network = TypeVar("Network", bound=nn.Module)
LOG = "log.csv"
COLUMNS = ("epoch", "loss", "held_out_accuracy", "training_accuracy", "seconds")
# What a run that is killed may lose; on a GPU an epoch takes a second.
SECONDS_BETWEEN_CHECKPOINTS = 60


def split_held_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces]:
    """Split off a random share that training never sees: (rest, held out)."""
    order = np.random.default_rng(seed).permutation(len(faces))
    cut = int(len(faces) * share)
    return faces.subset(order[cut:]), faces.subset(order[:cut])


def division(config: Config, faces: Faces) -> dict[str, str]:
    """How these faces are divided in a run, for the provenance of the graph that it becomes."""
    images = f"sha256:{faces.fingerprint()}"
    return {"images": images, "held_out": str(config.held_out), "seed": str(config.seed)}


def divided(
    data: Path, ferplus: Path | None = None, provenance: Mapping[str, str] | None = None
) -> tuple[Faces, Faces]:
    """The training split as a graph's runs divided it: what they learned from, and what they held out.

    provenance: that of the graph; where it does not tell, the division is the presets'. Raises DataError
    where it tells of other images, of which the graph may have learned any.
    """
    faces = load(data, "train", ferplus)
    known = {**division(Config(), faces), **(provenance or {})}
    if known["images"] != f"sha256:{faces.fingerprint()}":
        raise DataError("the graph learned from other images, labels or votes than the data has")
    return split_held_out(faces, float(known["held_out"]), int(known["seed"]))


def targets(faces: Faces, smoothing: float, votes: bool) -> Tensor:
    """Soft labels (N, 7): the smoothed FER2013 label; with votes (N, 14): beside it their shares, if any."""
    hard = F.one_hot(torch.from_numpy(faces.labels), EMOTIONS).float()
    smooth = hard * (1 - smoothing) + smoothing / EMOTIONS
    return torch.cat((smooth, torch.from_numpy(vote_shares(faces.votes))), 1) if votes else smooth


def fit_tensors(config: Config, fit: Faces, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 48, 48) uint8 and targets (N, 7 or 14) of the faces to train on."""
    images = torch.from_numpy(fit.images)[:, None].to(device)
    return images, targets(fit, config.smoothing, bool(config.votes)).to(device)


def need_votes(config: Config, faces: Faces) -> None:
    """Raise DataError where a head for the votes would learn nothing, and count in the loss."""
    if config.votes and not has_votes(faces):
        raise DataError("the data has no FER+ votes: pass --ferplus with fer2013new.csv, or --set votes=0")


def compute_device() -> torch.device:
    """A CUDA device where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def train(
    config: Config, faces: Faces, folder: Path, begin: Path | None = None, *, resized: bool = False
) -> nn.Module:
    """Train (or go on training) the run in `folder` and return the averaged network in eval mode.

    begin: a run or an exported graph to begin with, instead of random weights; of the same architecture,
    or, where `resized`, of other widths or with more units.
    """
    return Run(config, faces, folder, begin, resized=resized).finish()


class Run:
    """Model, its moving average, optimiser and position of one training run."""

    def __init__(
        self,
        config: Config,
        faces: Faces,
        folder: Path,
        begin: Path | None = None,
        *,
        resized: bool = False,
    ) -> None:
        if (folder / SOURCE).exists():
            raise ConfigError(f"{folder} holds views: a run needs a folder of its own")
        self.config, self.folder = config, folder
        self.device = compute_device()
        fit, self.held_out = split_held_out(faces, config.held_out, config.seed)
        self.images, self.targets = fit_tensors(config, fit, self.device)
        self.labels = torch.from_numpy(fit.labels).to(self.device)
        torch.manual_seed(config.seed)
        self.generator = Generator(self.device).manual_seed(config.seed)
        self.model = placed(build(config), self.device)
        if begin is not None:
            give = begin_resized if resized else begin_with
            give(self.model, begin, to_network(self.images[:IMAGES].float() / 255))
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        # Kept in the checkpoint: with other images others would be held out, and learned ones calibrate.
        self.source = {"images": faces.fingerprint()}
        self.views = self._find_views()
        self.view: View | None = None
        # Tensors, for a step that is recorded would keep numbers as they were then.
        self.rate, self.decay = torch.tensor(0.0, device=self.device), torch.tensor(0.0, device=self.device)
        self.sums = torch.zeros(2, device=self.device)
        self.replays: dict[bool, Step] = {}
        self.optimiser = torch.optim.SGD(
            _parameter_groups(self.model, config.weight_decay),
            lr=self.rate,
            momentum=config.momentum,
            nesterov=True,
            fused=True,
        )
        self.epoch = self.step = 0
        self.saved_at = -math.inf
        self.steps_per_epoch = max(1, len(self._order()) // config.batch)
        self.generator.manual_seed(config.seed)
        self.history: list[dict[str, str]] = []
        self._resume()
        make_folder(folder)
        write_text(folder / "config.json", json.dumps(asdict(config), indent=2) + "\n")

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
            accuracy = accuracy_of(self.average, self.held_out) if len(self.held_out) else None
        self._log(loss, accuracy, training_accuracy, perf_counter() - start)
        if self.epoch == self.config.epochs or perf_counter() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()
            self.saved_at = perf_counter()

    def _train_epoch(self, bar: "tqdm[Any] | None") -> tuple[float, float]:
        """Mean loss, and share of (augmented) images whose most likely emotion is their target's.

        The last batch is left out where it is not full: the next epoch has another order.
        """
        self.model.train()
        self._show_view()
        self.sums.zero_()
        early = self._early()  # other sizes of images are another recording
        if early not in self.replays:
            self.replays[early] = replayed(self._learn, self.generator)
        for index in torch.split(self._order(), self.config.batch)[: self.steps_per_epoch]:
            self._set_rates()
            self.replays[early](index)
            self.step += 1
            if bar is not None:
                bar.update()
        mean_loss, accuracy = (self.sums / self.steps_per_epoch).tolist()
        return mean_loss, accuracy

    def _learn(self, index: Tensor) -> None:
        """One step, from the images at these positions; waits for nothing on the device."""
        images, target, taught = self._taught_batch(index) if self.view else self._augmented_batch(index)
        images = to_network(images).contiguous(memory_format=torch.channels_last)
        loss, hits = self._loss(images, target, taught)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._update_average()
        self.sums += torch.stack((loss.detach(), hits))

    def _augmented_batch(self, index: Tensor) -> tuple[Tensor, Tensor, None]:
        strength = self.config.augmentation
        images = augment(self.images[index].float() / 255, strength, self.generator)
        if not strength.mixed:
            return images, self.targets[index], None
        return *mix(images, self.targets[index], strength, self.generator), None

    def _taught_batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of this epoch's view, mirrored anew."""
        assert self.view is not None
        images = random_flip(self.view.images[index].float() / 255, self.generator)
        return images, self.view.targets[index].float(), self.view.taught[index].float()

    def _show_view(self) -> None:
        """Put this epoch's view where steps look for it, if the run learns from views."""
        if not self.views:
            return
        view = self._read_view(self.views[self.epoch % len(self.views)])
        if self.view is None:
            self.view = view
            return
        for name, tensor in vars(view).items():
            getattr(self.view, name).copy_(tensor)

    def _order(self) -> Tensor:
        """Positions of one epoch's images, shuffled."""
        if self.config.balanced_classes:
            return class_balanced(self.labels, self.generator)
        return torch.randperm(len(self.images), generator=self.generator, device=self.device)

    def _loss(self, images: Tensor, target: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss of a batch and the share of it that the network gets right."""
        with self._autocast():
            logits = self.model(self._at_early_side(images))
        logits = logits.float()
        hits = (of_labels(logits).argmax(1) == of_labels(target).argmax(1)).float().mean()
        loss, votes = cross_entropy(logits, target, self.config.votes), self.config.votes
        if taught is None or self.config.distillation is None:
            return loss, hits
        return distillation_loss(loss, logits, taught, votes, self.config.distillation), hits

    def _at_early_side(self, images: Tensor) -> Tensor:
        """Small pictures for the first epochs; the network is fully convolutional and does not mind."""
        side = self.config.early_side
        return F.interpolate(images, size=(side, side), mode="area") if self._early() else images

    def _early(self) -> bool:
        return self.config.early_side > 0 and self.epoch < self.config.early_share * self.config.epochs

    def _autocast(self) -> torch.autocast:
        reduced = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _find_views(self) -> list[Path]:
        """Where the views lie that this run learns from, if it does; they must be of its very images."""
        if self.config.distillation is None:
            if self.config.augmentation.in_scenes:
                raise ConfigError("augmentation.in_scenes is for views: write some with it, and pass --views")
            return []
        folder = self.folder.parent / self.config.distillation.views
        paths = view_paths(folder)
        if not paths:
            raise ConfigError(f"{folder} holds no views: write some by training.views, or pass other --views")
        views, source = described(folder)
        if (views.held_out, views.seed) != (self.config.held_out, self.config.seed):
            raise ConfigError(f"{folder} was written with another held_out or seed than this run has")
        view = self._read_view(paths[0])
        same = source.get("images", self.source["images"]) == self.source["images"]
        if not same or {view.targets.shape, view.taught.shape} != {self.targets.shape}:
            raise ConfigError(f"{folder} was written for other images, or another number of heads")
        # Another view would be shown in an epoch, so a run whose views grew meanwhile would end elsewhere.
        self.source |= source | {"views": str(len(paths))}
        return paths

    def _read_view(self, path: Path) -> View:
        with readable(path, "move it away, and repeat the command that wrote the views"):
            return load_view(path, self.device)

    def _set_rates(self) -> None:
        """Learning rate: linear warm-up, then half a cosine down to zero. Decay of the average."""
        warmup = self.config.warmup_epochs * self.steps_per_epoch
        rest = self.config.epochs * self.steps_per_epoch - warmup
        done = (self.step - warmup) / max(rest, 1)
        factor = (self.step + 1) / warmup if self.step < warmup else 0.5 * (1 + math.cos(math.pi * done))
        self.rate.fill_(self.config.learning_rate * factor)
        # A young average would remember the random start, so the decay grows with the steps.
        self.decay.fill_(min(self.config.average_decay, (self.step + 1) / (self.step + 10)))

    @torch.no_grad()
    def _update_average(self) -> None:
        averages, values = (_floats(network) for network in (self.average, self.model))
        changes = torch._foreach_sub(values, averages)
        torch._foreach_mul_(changes, 1 - self.decay)
        torch._foreach_add_(averages, changes)

    def _log(self, loss: float, accuracy: float | None, training_accuracy: float, seconds: float) -> None:
        held_out = "" if accuracy is None else f"{accuracy:.5f}"
        figures = (f"{loss:.5f}", held_out, f"{training_accuracy:.5f}", f"{seconds:.1f}")
        self.history.append(dict(zip(COLUMNS, (str(self.epoch), *figures), strict=True)))
        with aside(self.folder / LOG) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.history)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "config": asdict(self.config),
            "source": self.source,
        }
        save_tensors(state, self.folder / CHECKPOINT)

    def _resume(self) -> None:
        if not (self.folder / CHECKPOINT).exists():
            return
        state = load_checkpoint(self.folder, self.device)
        self._check_resumable(state)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            # Older checkpoints hold a number, and a step that cannot be recorded.
            group.update(lr=self.rate, fused=True)
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.step = state["epoch"], state["step"]
        # Killed between the log and the checkpoint, the log is one epoch ahead.
        self.history = read_log(self.folder)[: self.epoch]

    def _check_resumable(self, state: dict[str, Any]) -> None:
        """Raise ConfigError where a checkpoint is not one of this very run; older ones name no source."""
        changed = differences(self.config, from_saved(state["config"]))
        if changed:
            raise ConfigError(f"{self.folder} was begun with other settings: {', '.join(changed)}")
        for name, known in state.get("source", {}).items():
            if known != self.source.get(name, known):
                raise ConfigError(f"{self.folder} was begun with other {name}: use those, or another folder")
        if state["epoch"] > self.config.epochs:
            done = f"{self.folder} has learned for {state['epoch']} epochs"
            raise ConfigError(f"{done}: it cannot end after {self.config.epochs}")


def make_folder(folder: Path) -> None:
    """The folder of a run or of views, with those above it."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, not a folder for a run or for views")
    folder.mkdir(parents=True, exist_ok=True)


def described(folder: Path) -> tuple[Config, dict[str, str]]:
    """What a folder's views were drawn by, and what they come from; the latter is empty for older ones."""
    cure = "write the views again, in another folder"
    with readable(folder / "config.json", cure):
        config = from_saved(json.loads((folder / "config.json").read_text()))
    with readable(folder / SOURCE, cure):
        return config, load_source(folder)


def placed(network: Network, device: torch.device) -> Network:
    """The network on its device, laid out as convolutions like it best."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def build(config: Config) -> nn.Module:
    """The untrained network of a config."""
    logits = outputs(config.votes)
    return DenseNetwork(config.dense, logits) if config.dense else ShuffleNetV2(config.architecture, logits)


@torch.no_grad()
def predict(model: nn.Module, faces: Faces, batch: int = 512) -> Tensor:
    """Logits (N, 7 or 14) of a network in eval mode, one forward pass a face."""
    device = next(model.parameters()).device
    chunks = torch.split(torch.from_numpy(faces.images)[:, None], batch)
    logits = [model(to_network(chunk.to(device).float() / 255)).float().cpu() for chunk in chunks]
    return torch.cat(logits)


def accuracy_of(model: nn.Module, faces: Faces) -> float:
    """Share of faces whose most likely emotion is the FER2013 label."""
    return float((of_labels(predict(model, faces)).argmax(1).numpy() == faces.labels).mean())


def load_network(folder: Path) -> nn.Module:
    """The averaged network of a run, in eval mode, with the heads it was trained with."""
    state = load_checkpoint(folder, torch.device("cpu"))
    model = build(from_saved(state["config"]))
    model.load_state_dict(state["average"])
    return model.eval()


def learned_by(folder: Path) -> tuple[Config, str]:
    """The settings of a run and its images' fingerprint, which older checkpoints lack (empty)."""
    state = load_checkpoint(folder, torch.device("cpu"))
    return from_saved(state["config"]), state.get("source", {}).get("images", "")


def read_log(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's log, one for each epoch; older logs have fewer columns.

    A row that is cut off, as a writer that was killed could leave one, is left out.
    """
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows]


def _floats(network: nn.Module) -> list[Tensor]:
    """Parameters and running statistics."""
    return [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only matrices and kernels decay; biases and normalisation do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
