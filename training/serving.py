"""What a trained network's logits become before it is served: one head of two, fairer to rare emotions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.vision.types import LabelSet
from training.config import ConfigError
from training.heads import merge
from training.label_sets import FER2013, FERPLUS
from training.shufflenet import EMOTIONS


@dataclass(frozen=True)
class Serving:
    """votes_share: how much of the head that learned FER+'s votes is in the one that is served.

    adjustment: what each logit loses, as a share of the logarithm of how frequent its emotion is among the
    labels learned from. A network expects the rare emotion as rarely as it met it; at 1 it would answer as if
    all were equally frequent (Menon et al., "Long-tail learning via logit adjustment", 2021, section 4.1).
    """

    votes_share: float = 0.0
    adjustment: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value:g}: it must be 0 to 1")

    @property
    def label_set(self) -> LabelSet:
        """Whose word the answers follow, and are calibrated and measured by."""
        return FERPLUS if self.votes_share > 0.5 else FER2013

    @classmethod
    def recorded(cls, provenance: Mapping[str, str]) -> Self:
        """As a manifest's entry tells it; what an older one lacks was not there."""
        return cls(*(float(provenance.get(name, 0)) for name in ("votes_share", "adjustment")))

    def record(self) -> dict[str, str]:
        """For the manifest."""
        return {"votes_share": f"{self.votes_share:g}", "adjustment": f"{self.adjustment:g}"}


def prepared(network: nn.Module, labels: NDArray[np.int64], serving: Serving) -> nn.Module:
    """The network with the head that is served. labels: (N,) those that it learned from."""
    return adjust(merge(network, serving.votes_share), labels, serving.adjustment)


@torch.no_grad()
def adjust(network: nn.Module, labels: NDArray[np.int64], strength: float) -> nn.Module:
    """Take the logarithm of each emotion's share of the labels (N,), times `strength`, from its logit."""
    if strength:
        # An emotion without a label counts as if it had one: nothing says how rare it is.
        counts = np.maximum(np.bincount(labels, minlength=EMOTIONS), 1)
        shares = torch.from_numpy(counts / len(labels))
        assert isinstance(network.classifier, nn.Linear)
        network.classifier.bias.sub_((strength * shares.log()).float())
    return network
