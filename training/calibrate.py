"""Makes probabilities honest, on images that training never saw."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Calibration:
    """What makes a network's answers honest.

    bias: what is added to the logits of each emotion, none for nothing; temperature: what they are then
    divided by; uncertain_below: the probability under which the answer is wrong more often than right.
    """

    temperature: float
    uncertain_below: float
    bias: tuple[float, ...] = ()


def calibrate(logits: Tensor, labels: Tensor, class_bias: float = 0.0) -> Calibration:
    """Fit on held-out logits (N, 7) and labels (N,).

    class_bias: share of the emotions' bias to take out. A network that learned from FER+ votes calls more
    faces neutral than FER2013's labels do, which no temperature can mend; the two label sets pull apart.
    """
    bias = class_bias * fit_bias(logits, labels) if class_bias else torch.zeros(logits.shape[1])
    logits = logits + bias
    temperature = fit_temperature(logits, labels)
    confidence, predicted = (logits / temperature).softmax(1).max(1)
    uncertain_below = fit_uncertain_below(confidence, predicted == labels)
    return Calibration(temperature, uncertain_below, tuple(bias.tolist()) if class_bias else ())


def fit_bias(logits: Tensor, labels: Tensor) -> Tensor:
    """What to add to the logits of each emotion (7,) for the least cross entropy at the best temperature.

    Guo et al. (2017), section 4.2, vector scaling with one scale for all.
    """
    classes = logits.shape[1]
    parameters = torch.zeros(classes + 1, requires_grad=True)
    _minimise(
        parameters,
        lambda: F.cross_entropy((logits + parameters[:classes]) / parameters[classes].exp(), labels),
    )
    bias = parameters.detach()[:classes]
    return bias - bias.mean()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of least cross entropy (Guo et al., 2017, section 4.2)."""
    log_temperature = torch.zeros((), requires_grad=True)
    _minimise(log_temperature, lambda: F.cross_entropy(logits / log_temperature.exp(), labels))
    return float(log_temperature.detach().exp())


def fit_uncertain_below(confidence: Tensor, right: Tensor) -> float:
    """Where a logistic fit of being right on the confidence's log-odds crosses one half."""
    odds = torch.logit(confidence.double(), eps=1e-6)
    line = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    target = right.double()
    _minimise(line, lambda: F.binary_cross_entropy_with_logits(line[0] * odds + line[1], target))
    slope, offset = line.detach().tolist()
    return float(torch.sigmoid(torch.tensor(-offset / slope)))


def _minimise(parameter: Tensor, loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS([parameter], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
