"""Several networks as one: their answers' geometric mean, in one graph."""

from collections.abc import Sequence

from torch import Tensor, nn


class Ensemble(nn.Module):
    """The weighted mean of the networks' logits (N, 7), whose softmax is the geometric mean of their answers.

    Networks that learned the same but err apart answer better together than the best of them alone
    (Hansen and Salamon, 1990).
    """

    def __init__(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shares = [weight / sum(weights) for weight in weights]

    def forward(self, images: Tensor) -> Tensor:
        logits = [network(images) * share for network, share in zip(self.networks, self.shares, strict=True)]
        mean: Tensor = sum(logits[1:], start=logits[0])
        return mean


def ensemble(networks: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
    """The networks as one; a single one is left as it is."""
    return networks[0] if len(networks) == 1 else Ensemble(networks, weights).eval()
