"""Makes probabilities honest, on images that were held out of training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Calibration:
    """What makes a network's answers honest.

    temperature: what logits are divided by; uncertain_below: the probability under which the answer is wrong
    more often than right.
    """

    temperature: float
    uncertain_below: float


def calibrate(logits: Tensor, shares: Tensor) -> Calibration:
    """Fit on held-out logits and on the share of people who call each face so. Both (N, 7)."""
    temperature = fit_temperature(logits, shares)
    confidence, predicted = (logits / temperature).softmax(1).max(1)
    return Calibration(temperature, fit_uncertain_below(confidence, predicted == shares.argmax(1)))


def fit_temperature(logits: Tensor, shares: Tensor) -> float:
    """The temperature of least cross entropy (Guo et al., 2017, section 4.2)."""
    log_temperature = torch.zeros((), requires_grad=True)
    minimise([log_temperature], lambda: F.cross_entropy(logits / log_temperature.exp(), shares))
    return float(log_temperature.detach().exp())


def fit_uncertain_below(confidence: Tensor, right: Tensor) -> float:
    """Where a logistic fit of being right on the confidence's log-odds crosses one half.

    Where the surer answers are not the better ones, confidence tells nothing: then all are uncertain (1), or
    none (0), by whether most of them are wrong.
    """
    odds = torch.logit(confidence.double(), eps=1e-6)
    line = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    target = right.double()
    minimise([line], lambda: F.binary_cross_entropy_with_logits(line[0] * odds + line[1], target))
    slope, offset = line.detach().tolist()
    if slope <= 0:
        return float(target.mean() < 0.5)
    return float(torch.sigmoid(torch.tensor(-offset / slope)))


def minimise(parameters: Sequence[Tensor], loss: Callable[[], Tensor], steps: int = 200) -> None:
    """Change the parameters until the loss, a smooth function of them, is least."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
