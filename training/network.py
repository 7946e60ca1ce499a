"""The network of a config or of a run, and what it says of faces."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from training.config import Config, from_saved
from training.data import Faces
from training.heads import of_labels, outputs
from training.presets import to_network
from training.saved import load_checkpoint
from training.shufflenet import ShuffleNetV2
from training.teachers import DenseNetwork

Network = TypeVar("Network", bound=nn.Module)


def compute_device() -> torch.device:
    """A CUDA device where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


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
