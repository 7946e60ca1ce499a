import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.calibrate import calibrate, fit_temperature, fit_uncertain_below
from training.data import Faces
from training.metrics import calibration_error, expected_calibration_error, report, wilson_interval


def drawn(count: int, temperature: float, voters: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right as often as they say when divided by this temperature, and shares of voters."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 7, generator=generator)
    votes = torch.multinomial(
        (logits / temperature).softmax(1), voters, replacement=True, generator=generator
    )
    return logits, F.one_hot(votes, 7).float().mean(1)


@pytest.mark.parametrize("voters", [1, 10])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_the_temperature_is_recovered(temperature: float, voters: int) -> None:
    assert fit_temperature(*drawn(20_000, temperature, voters)) == pytest.approx(temperature, rel=0.03)


def test_uncertain_is_where_answers_are_right_half_the_time() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 40_000)
    # Right more rarely than the confidence says: half the time at 0.6.
    odds = np.log(confidence / (1 - confidence)) - np.log(0.6 / 0.4)
    right = random.random(40_000) < 1 / (1 + np.exp(-odds))
    found = fit_uncertain_below(torch.from_numpy(confidence), torch.from_numpy(right))
    assert found == pytest.approx(0.6, abs=0.02)


def test_a_calibrated_network_is_uncertain_below_one_half() -> None:
    calibration = calibrate(*drawn(20_000, 2.0))
    assert calibration.temperature == pytest.approx(2.0, rel=0.03)
    assert calibration.uncertain_below == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("right", "threshold"),
    [([0] * 5, 1.0), ([1, 1, 0, 0, 0], 1.0), ([1, 1, 1, 1, 0], 0.0), ([1, 0, 1, 1, 0], 0.0)],
    ids=["all wrong", "most wrong", "most right", "a little worse"],
)
def test_where_the_surer_answers_are_the_worse_all_are_uncertain_or_none(
    right: list[int], threshold: float
) -> None:
    confidence = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9])
    assert fit_uncertain_below(confidence, torch.tensor(right, dtype=torch.bool)) == threshold


def answers(predicted: list[int], confidence: list[float]) -> np.ndarray:
    probabilities = np.zeros((len(predicted), 7))
    for row, label, value in zip(probabilities, predicted, confidence, strict=True):
        row[:] = (1 - value) / 6
        row[label] = value
    return probabilities


def test_a_report_has_the_figures_of_a_hand_computed_case() -> None:
    labels = np.array([0, 0, 1, 3])
    votes = np.zeros((4, 10), np.float32)
    votes[0, 4] = votes[1, 1] = votes[2, 5] = 10  # angry, happy, disgust; nobody on the last
    faces = Faces(np.zeros((4, 48, 48), np.uint8), labels, votes)
    found = report(answers([0, 3, 1, 3], [0.9, 0.4, 0.8, 0.7]), faces, uncertain_below=0.7)
    assert found.accuracy == 0.75
    assert (found.recall["angry"], found.recall["disgust"], found.recall["happy"]) == (0.5, 1, 1)
    # F1: angry 2/3, disgust 1, happy 2/3, the other four none.
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 + 2 / 3) / 7)
    # Every answer is alone in its bin.
    assert found.ece == pytest.approx((0.1 + 0.4 + 0.2 + 0.3) / 4)
    assert (found.certain_share, found.certain_accuracy) == (0.75, 1)
    assert (found.ferplus_images, found.ferplus_accuracy) == (3, 1)
    assert all(isinstance(value, float) for value in found.figures().values())
    assert found.figures()["fer2013_public_angry_taken_for_happy"] == 0.5
    assert "  recall disgust      100.00% of 1; " in found.text()
    assert found.text().endswith("FER+ majority         100.00%; 3 images")


def test_a_report_by_ferplus_asks_its_voters() -> None:
    votes = np.zeros((3, 10), np.float32)
    votes[0, [4, 3]] = 6, 4  # six call it angry, four sad
    votes[1, 1] = 10  # happy
    votes[2, [0, 1]] = 5  # as many neutral as happy: no majority
    faces = Faces(np.zeros((3, 48, 48), np.uint8), np.array([4, 3, 3]), votes)
    found = report(answers([0, 6, 3], [0.9, 0.4, 0.8]), faces, 0.5, "ferplus")
    assert (found.images, found.accuracy, found.ferplus_accuracy) == (2, 0.5, 0.5)
    assert (found.recall["angry"], found.recall["happy"]) == (1, 0)
    assert found.fer2013_accuracy == pytest.approx(1 / 3)
    # Six of ten agree with the first answer, nobody with the second.
    assert found.ece == pytest.approx((0.3 + 0.4) / 2)
    assert found.ece_if_perfect == expected_calibration_error(np.array([0.9, 0.4]), np.array([10, 10]))
    figures = found.figures()
    assert figures["ferplus_public_happy_taken_for_neutral"] == 1
    assert (figures["ferplus_public_accuracy"], figures["fer2013_public_accuracy"]) == (0.5, 0.333333)


def test_calibration_error_averages_within_bins() -> None:
    confidence = np.array([0.50, 0.52, 0.90])
    assert calibration_error(confidence, np.array([True, False, True])) == pytest.approx((0.02 + 0.1) / 3)


def test_fifteen_bins_are_equally_wide_and_certainty_is_in_the_last() -> None:
    # One bin ends at 7/15, which is 0.4667.
    assert calibration_error(np.array([0.46, 0.47]), np.array([1, 0])) == pytest.approx((0.54 + 0.47) / 2)
    assert calibration_error(np.array([0.99, 1.0]), np.array([1, 0])) == pytest.approx((1 - 0.01) / 2)


def test_each_face_has_its_own_number_of_voters() -> None:
    assert expected_calibration_error(np.ones(4), np.array([1, 2, 5, 10])) == 0


def test_chance_alone_costs_less_with_more_images() -> None:
    few, many = (expected_calibration_error(np.full(count, 0.8), np.ones(count, int)) for count in (50, 5000))
    assert 0 < many < few < 0.1


def test_chance_alone_costs_less_with_more_voters() -> None:
    one, ten = (expected_calibration_error(np.full(50, 0.8), np.full(50, voters)) for voters in (1, 10))
    assert 0 < ten < one / 2


def test_a_certain_share_of_nothing_is_no_number() -> None:
    faces = Faces(np.zeros((1, 48, 48), np.uint8), np.array([0]), np.full((1, 10), np.nan, np.float32))
    found = report(answers([0], [0.3]), faces, uncertain_below=0.5)
    assert np.isnan(found.certain_accuracy)
    assert np.isnan(found.ferplus_accuracy)


def test_the_wilson_interval() -> None:
    # Wilson (1927) for 36 of 56 at 95 %.
    low, high = wilson_interval(36, 56)
    assert (round(low, 3), round(high, 3)) == (0.512, 0.755)
    ends = np.array([wilson_interval(hits, count) for count in range(1, 500) for hits in (0, count)])
    assert 0 <= ends.min() <= ends.max() <= 1
