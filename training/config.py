"""Everything that decides a run, as one value that is saved beside it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from training.distill import Distillation
from training.presets import Augmentation
from training.shufflenet import Architecture
from training.teachers import DenseArchitecture


class ConfigError(ValueError):
    """A setting that does not exist, or a run that was begun with others."""


@dataclass(frozen=True)
class Config:
    """One training run.

    dense: trains a teacher of this form instead of `architecture`.
    votes: weight of a second head that learns FER+'s votes (see `training.heads`); 0 for one head.
    held_out: share of the training split that only checks and calibrates.
    balanced_classes: every class comes as often as the largest one.
    early_side, early_share: images are shrunk to this side for this first share of the epochs; 0 for never.
    begun_with: sha256 of the checkpoint or graph that the run began with; empty for random weights.
    precision: "float32" or "bfloat16" (autocast; pays for dense networks and on a GPU).
    """

    architecture: Architecture = field(default_factory=Architecture)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 50
    batch: int = 128
    learning_rate: float = 0.1
    warmup_epochs: int = 2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    votes: float = 0.5
    average_decay: float = 0.999
    held_out: float = 0.05
    seed: int = 1
    dense: DenseArchitecture | None = None
    distillation: Distillation | None = None
    balanced_classes: bool = False
    early_side: int = 0
    early_share: float = 0.0
    begun_with: str = ""
    precision: str = "float32"


def from_saved(saved: Mapping[str, Any]) -> Config:
    """A config as JSON or a checkpoint holds it; what an older one lacks has its default."""
    parts = dict(saved)
    for name, kind in (
        ("architecture", Architecture),
        ("augmentation", Augmentation),
        ("dense", DenseArchitecture),
        ("distillation", Distillation),
    ):
        if parts.get(name):
            parts[name] = kind(**{key: _frozen(value) for key, value in parts[name].items()})
    return Config(**parts)


def override(config: Config, settings: Iterable[str]) -> Config:
    """Apply `name=value` settings, with dots into the parts: `augmentation.jpeg=0.3`; values are JSON."""
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r} is not name=value")
        config = _with(config, name.split("."), _value(text))
    return config


def differences(one: Config, other: Config) -> list[str]:
    """Names of the settings in which two configs differ; how long a run goes on is not one of them."""
    return [
        item.name
        for item in fields(Config)
        if item.name != "epochs" and getattr(one, item.name) != getattr(other, item.name)
    ]


def _with(part: Any, path: list[str], value: Any) -> Any:
    known = {item.name for item in fields(part)} if is_dataclass(part) else set()
    if path[0] not in known:
        raise ConfigError(f"no setting {path[0]!r}; there are {', '.join(sorted(known))}")
    if len(path) > 1:
        value = _with(getattr(part, path[0]), path[1:], value)
    return replace(part, **{path[0]: value})


def _value(text: str) -> Any:
    try:
        return _frozen(json.loads(text))
    except json.JSONDecodeError:
        return text


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
