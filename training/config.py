"""Everything that decides a run, as one value that is saved beside it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

from training.data import SIDE
from training.distill import Distillation
from training.presets import Augmentation
from training.shufflenet import Architecture
from training.teachers import DenseArchitecture

# The least and the most of every setting that is a number, or a list of numbers. SGD with Nesterov's momentum
# needs some, a batch normalisation more than one image, and temperatures divide.
RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "warmup_epochs": (0, 100_000),
    "batch": (2, 100_000),
    "learning_rate": (0, 10),
    "momentum": (0.01, 0.999),
    "weight_decay": (0, 1),
    "votes": (0, 1000),
    "seed": (0, 2**32 - 1),
    "held_out": (0, 0.9),
    "early_side": (0, SIDE),
    "smallest_side": (1, SIDE - 1),
    "rotation": (0, 180),
    "stem_stride": (1, 2),
    "stages": (2, 8192),
    "repeats": (1, 100),
    "blocks": (1, 100),
    **dict.fromkeys(("stem", "head", "width"), (1, 8192)),
    "dropout": (0, 0.99),
    "temperature": (0.01, 1000),
    **dict.fromkeys(("smoothing", "average_decay", "early_share", "weight"), (0, 1)),
    **dict.fromkeys(("scale", "shift", "contrast", "brightness", "noise"), (0, 1)),
    **dict.fromkeys(("resampled", "erased", "blurred", "jpeg", "grid", "mixed", "cut", "in_scenes"), (0, 1)),
}
PARTS = {
    "architecture": Architecture,
    "augmentation": Augmentation,
    "dense": DenseArchitecture,
    "distillation": Distillation,
}
CHOICES = {"precision": ("float32", "bfloat16"), "kind": ("resnet", "vgg")}


class ConfigError(ValueError):
    """A setting that does not exist or cannot be, or a run that was begun with others."""


@dataclass(frozen=True)
class Config:
    """One training run.

    dense: trains a teacher of this form instead of `architecture`.
    votes: weight of a second head that learns FER+'s votes (see `training.heads`); 0 for one head.
    held_out: share of the training split that only checks and calibrates.
    balanced_classes: every class comes as often as the largest one.
    early_side, early_share: images are shrunk to this side for this first share of the epochs; 0 for never.
    begun_with: sha256 of the checkpoint or graph that the run began with; empty for random weights.
    fixed_statistics: normalisations keep the statistics that they began with, so that the network answers as
        it did until the first step; for a few gentle epochs more.
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
    fixed_statistics: bool = False
    precision: str = "float32"


def from_saved(saved: Mapping[str, Any]) -> Config:
    """A config as JSON or a checkpoint holds it; what an older one lacks has its default.

    Raises ConfigError for one with settings that are not known here.
    """
    parts = dict(saved)
    try:
        for name, kind in PARTS.items():
            if parts.get(name):
                parts[name] = kind(**{key: _frozen(value) for key, value in parts[name].items()})
        return Config(**parts)
    except TypeError as error:
        raise ConfigError(f"settings of another version of this program: {error}") from error


def override(config: Config, settings: Iterable[str]) -> Config:
    """Apply `name=value` settings, with dots into the parts: `augmentation.jpeg=0.3`; values are JSON."""
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r} is not name=value")
        config = _with(config, name.split("."), name, text)
    _check_shapes(config)
    return config


def differences(one: Config, other: Config) -> list[str]:
    """Names of the settings in which two configs differ; how long a run goes on is not one of them."""
    return [
        item.name
        for item in fields(Config)
        if item.name != "epochs" and getattr(one, item.name) != getattr(other, item.name)
    ]


def _with(part: Any, path: list[str], name: str, text: str) -> Any:
    kinds = get_type_hints(type(part))
    if path[0] not in kinds:
        raise ConfigError(f"no setting {path[0]!r}; there are {', '.join(sorted(kinds))}")
    if len(path) == 1:
        return replace(part, **{path[0]: _read(name, kinds[path[0]], text)})
    inner = getattr(part, path[0])
    if not is_dataclass(inner):
        raise ConfigError(f"{name} cannot be set: this preset has no part {path[0]!r}")
    return replace(part, **{path[0]: _with(inner, path[1:], name, text)})


def _read(name: str, kind: Any, text: str) -> Any:
    """The value of a setting of this type that a text stands for."""
    key, value = name.rpartition(".")[2], _parsed(text)
    if kind is str:
        value = value if isinstance(value, str) else text
    if kind in (int, float) and _within(key, kind, value):
        return kind(value)
    if kind == tuple[int, ...] and isinstance(value, list) and value:
        if all(_within(key, int, item) for item in value):
            return tuple(value)
    elif (kind is bool and isinstance(value, bool)) or (kind is str and value in CHOICES.get(key, (value,))):
        return value
    elif value is None and NoneType in get_args(kind):
        return None
    raise ConfigError(f"{name} must be {_wanted(name, kind)}, not {text}")


def _within(key: str, kind: type, value: Any) -> bool:
    """Whether a value is a number of this kind in the range of its setting; NaN is in none."""
    number = isinstance(value, int) or (kind is float and isinstance(value, float))
    lowest, highest = RANGES[key]
    return number and not isinstance(value, bool) and lowest <= value <= highest


def _wanted(name: str, kind: Any) -> str:
    key = name.rpartition(".")[2]
    if kind is bool:
        return "true or false"
    if key in CHOICES:
        return " or ".join(CHOICES[key])
    if key in RANGES:
        lowest, highest = RANGES[key]
        nouns = {int: "a whole number", float: "a number"}
        return f"{nouns.get(kind, 'a list of whole numbers, each')} from {lowest} to {highest}"
    first = fields((*get_args(kind), kind)[0])[0].name
    return f"set by its own settings, {name}.{first} and others"


def _check_shapes(config: Config) -> None:
    """Raise ConfigError where settings that are right by themselves make no network together."""
    stages, repeats = config.architecture.stages, config.architecture.repeats
    if len(stages) != len(repeats):
        raise ConfigError("architecture.stages and architecture.repeats must be of the same length")
    if any(channels % 2 for channels in stages):
        raise ConfigError(f"architecture.stages must be even numbers, not {list(stages)}")
    side = config.early_side or SIDE
    if config.dense and not side >> len(config.dense.blocks) - 1:
        raise ConfigError(f"dense.blocks must be fewer: images of side {side} cannot be halved so often")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
