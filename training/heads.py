"""Two label sets, two heads: one learns FER2013's labels, one FER+'s votes, and both share all features.

The two sets pull apart: FER2013's labels come from what a picture was searched by, FER+'s votes from ten who
looked at it, and who call far more faces neutral. Targets that mix the two teach a network neither. Heads
that learn one each can be mixed after training, at any share, into the one that is served.
"""

import torch
from torch import Tensor, nn

from training.shufflenet import EMOTIONS


def outputs(votes: float) -> int:
    """How many logits a network has that gives this weight to votes: one head of 7, or two."""
    return 2 * EMOTIONS if votes else EMOTIONS


def has_two_heads(network: nn.Module) -> bool:
    """Whether a network has a head for the votes."""
    classifier = network.classifier
    assert isinstance(classifier, nn.Linear)
    return classifier.out_features > EMOTIONS


def of_labels(logits: Tensor) -> Tensor:
    """The logits (N, 7) of the head that learned FER2013's labels."""
    return logits[:, :EMOTIONS]


def log_probabilities(logits: Tensor) -> Tensor:
    """Logits (..., 7 or 14) -> log-probabilities of each head apart."""
    heads = logits.reshape(*logits.shape[:-1], -1, EMOTIONS)
    return heads.log_softmax(-1).reshape(logits.shape)


def cross_entropy(logits: Tensor, targets: Tensor, votes: float) -> Tensor:
    """The mean over the batch, and over the heads with weights 1 and `votes`. Both (N, 7 or 14).

    An image without votes has zeros for a target of the second head, and teaches it nothing.
    """
    return _weighted(-targets * log_probabilities(logits), votes)


def divergence(logits: Tensor, taught: Tensor, temperature: float, votes: float) -> Tensor:
    """Of softened answers from softened log-probabilities taught, weighted likewise. Both (N, 7 or 14)."""
    softened, wanted = (log_probabilities(values / temperature) for values in (logits, taught))
    return _weighted(wanted.exp() * (wanted - softened), votes)


def _weighted(terms: Tensor, votes: float) -> Tensor:
    means = terms.reshape(len(terms), -1, EMOTIONS).sum(2).mean(0)
    if len(means) == 1:
        return means[0]
    both: Tensor = means[0] + votes * means[1]
    return both / (1 + votes)


@torch.no_grad()
def merge(network: nn.Module, share: float) -> nn.Module:
    """Replace the classifier's two heads by one: `share` of the votes' head, the rest of the labels' head.

    Logits are mixed, so answers are the weighted geometric mean of the two heads' answers. A network with one
    head is left as it is.
    """
    if not has_two_heads(network):
        return network
    classifier = network.classifier
    assert isinstance(classifier, nn.Linear)
    one = nn.Linear(classifier.in_features, EMOTIONS)
    for name in ("weight", "bias"):
        labels, votes = getattr(classifier, name).split(EMOTIONS)
        getattr(one, name).copy_(torch.lerp(labels, votes, share))
    network.classifier = one.train(classifier.training)
    return network
