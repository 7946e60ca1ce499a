"""What runs and views save in their folders: written whole, and told by name where it is broken."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from training.config import Config, ConfigError
from training.files import aside, write_text

CHECKPOINT, CONFIG = "checkpoint.pt", "config.json"


def save_config(config: Config, folder: Path) -> None:
    """Write down what decides a run or views, in their folder, which is made with those above it."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, not a folder for a run or for views")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, json.dumps(asdict(config), indent=2) + "\n")


def save_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Write what PyTorch can read back. Raises OSError where there is no room for it."""
    # By way of memory: what PyTorch itself raises on a full disk tells of its own code alone.
    written = BytesIO()
    torch.save(state, written)
    with aside(path) as temporary:
        temporary.write_bytes(written.getbuffer())


@contextmanager
def readable(path: Path, cure: str) -> Iterator[None]:
    """Say which file it is, and what to do, where one that is read here is cut off or something else."""
    try:
        yield
    except (ConfigError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    # Unpickling, zip, protobuf and JSON have each an error of their own, and rubbish raises others.
    except Exception as error:
        raise ConfigError(f"{path} is cut off or something else than its name says: {cure}") from error


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """What a run has saved of itself."""
    path = folder / CHECKPOINT
    with readable(path, "move it away, and train that run again"):
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        if not {"average", "config"} <= state.keys():
            raise ValueError("no checkpoint")
    return state
