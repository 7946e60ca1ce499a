import pytest
import torch
from torch.nn import functional as F

from training.heads import cross_entropy, divergence, merge
from training.network import build

from .helpers import config

LOGITS = torch.tensor([[2.0, 0.0, -1.0, 0.5, 0.0, 0.0, 1.0], [0.0, 3.0, 0.5, 0.0, 1.0, -1.0, 0.0]])
LABELS = torch.eye(7)[[0, 1]]


def test_each_head_learns_its_own_targets() -> None:
    both, targets = torch.cat((LOGITS, -LOGITS), 1), torch.cat((LABELS, LABELS.flip(1)), 1)
    first, second = F.cross_entropy(LOGITS, LABELS), F.cross_entropy(-LOGITS, LABELS.flip(1))
    torch.testing.assert_close(cross_entropy(both, targets, 0.5), (first + 0.5 * second) / 1.5)
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS, 0.0), first)


def test_an_image_without_votes_teaches_the_second_head_nothing() -> None:
    both = torch.cat((LOGITS, LOGITS), 1).requires_grad_()
    cross_entropy(both, torch.cat((LABELS, torch.zeros(2, 7)), 1), 0.5).backward()  # type: ignore[no-untyped-call]
    assert both.grad is not None
    assert both.grad[:, :7].abs().min() > 0
    assert not both.grad[:, 7:].any()


def test_the_divergence_is_least_where_each_head_agrees_with_its_teacher() -> None:
    both = torch.cat((LOGITS, -LOGITS), 1)
    taught = torch.cat((LOGITS.log_softmax(1), (-LOGITS).log_softmax(1)), 1)
    assert divergence(both, taught, 2.0, 0.5) == pytest.approx(0, abs=1e-6)
    assert divergence(both.roll(7, 1), taught, 2.0, 0.5) > 0.5


def test_merged_heads_answer_with_the_mean_of_their_logits() -> None:
    network = build(config(votes=0.5)).eval()
    images = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    labels, votes = network(images).split(7, dim=1)
    torch.testing.assert_close(merge(network, 0.25)(images), 0.75 * labels + 0.25 * votes)
    assert network(images).shape == (3, 7)


def test_a_network_with_one_head_has_nothing_to_merge() -> None:
    network = build(config(votes=0.0)).eval()
    images = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    before = network(images)
    assert torch.equal(merge(network, 0.5)(images), before)
