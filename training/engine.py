"""Trains one network: a run is a folder with its config, its log and a checkpoint it resumes from."""

import math
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.begin import IMAGES, begin_resized, begin_with
from training.config import Config, ConfigError, differences, from_saved
from training.data import Faces
from training.distill import distillation_loss
from training.heads import cross_entropy, of_labels
from training.held_out import split_held_out
from training.log import COLUMNS, read_log, write_log
from training.network import accuracy_of, build, compute_device, learned_by, placed
from training.presets import augment, class_balanced, mix, random_flip, to_network
from training.replay import Step, replayed
from training.saved import CHECKPOINT, load_checkpoint, save_config, save_tensors
from training.targets import fit_tensors
from training.view_folder import SOURCE, View, find_views, load_view

# What a run that is killed may lose; on a GPU an epoch takes a second.
SECONDS_BETWEEN_CHECKPOINTS = 60


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
        # Kept in the checkpoint: with other images others would be held out, and learned ones calibrate.
        self.source = {"images": faces.fingerprint()}
        if begin is not None:
            self._begin_with(begin, resized)
        elif config.fixed_statistics:
            raise ConfigError("fixed_statistics keeps those of a network that was trained: pass --begin-with")
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.views = self._find_views()
        self.view: View | None = None
        # Tensors, for a step that is recorded would keep numbers as they were then.
        self.rate, self.decay = torch.tensor(0.0, device=self.device), torch.tensor(0.0, device=self.device)
        self.sums = torch.zeros(2, device=self.device)
        self.replays: dict[bool, Step] = {}
        self.optimiser = _optimiser(self.model, config, self.rate)
        self.epoch = self.step = 0
        self.saved_at = -math.inf
        self.steps_per_epoch = max(1, len(self._order()) // config.batch)
        self.generator.manual_seed(config.seed)
        self.history: list[dict[str, str]] = []
        self._resume()
        save_config(config, folder)

    def _begin_with(self, begin: Path, resized: bool) -> None:
        """Begin with the weights of a run or a graph. A run must not have learned what is held out here."""
        if begin.is_dir():
            first, images = learned_by(begin)
            # With the same seed the smaller share lies in the larger one.
            apart = first.seed == self.config.seed and first.held_out >= self.config.held_out
            if images == self.source["images"] and self.config.held_out and not apart:
                raise ConfigError(
                    f"{begin.name} learned from images that this run would hold out: "
                    f"pass --set held_out={first.held_out:g} --set seed={first.seed}"
                )
        give = begin_resized if resized else begin_with
        give(self.model, begin, to_network(self.images[:IMAGES].float() / 255))

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
        self._in_training_mode()
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

    def _in_training_mode(self) -> None:
        self.model.train()
        if self.config.fixed_statistics:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

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
        view = load_view(self.views[self.epoch % len(self.views)], self.device)
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
        distillation = self.config.distillation
        if distillation is None:
            if self.config.augmentation.in_scenes:
                raise ConfigError("augmentation.in_scenes is for views: write some with it, and pass --views")
            return []
        folder = self.folder.parent / distillation.views
        paths, source = find_views(folder, self.config, self.source["images"], self.targets)
        self.source |= source
        return paths

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
        write_log(self.folder, self.history)

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


def _floats(network: nn.Module) -> list[Tensor]:
    """Parameters and running statistics."""
    return [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]


def _optimiser(model: nn.Module, config: Config, rate: Tensor) -> torch.optim.SGD:
    """Only matrices and kernels decay; biases and normalisation do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=True, fused=True)
