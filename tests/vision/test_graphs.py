"""Each of the detector's graphs, beside what other programs compute."""

from itertools import product

import cv2
import numpy as np
import pytest

from service.vision.boxes import overlap, regress, square
from service.vision.looks import RNET, run_on_crops
from service.vision.proposals import STRIDE
from service.vision.pyramid import CELL, halve
from service.vision.types import Session, UInt8Array
from tests.vision.conftest import Golden


@pytest.mark.parametrize("peer", ["mtcnn", "facenet"])
def test_onet_computes_what_other_programs_compute(
    sessions: dict[str, Session], golden: Golden, peer: str
) -> None:
    *outputs, face = sessions["onet"].run({"crops": golden["onet"]})
    assert (face >= outputs[0]).all()
    for output, kind in zip(outputs, ("probability", "box", "landmarks"), strict=True):
        np.testing.assert_allclose(output, golden[f"{peer}_onet_{kind}"], atol=1e-4, rtol=0)


def test_onets_second_opinion_knows_faces_that_are_cut_close(
    sessions: dict[str, Session], astronaut: UInt8Array
) -> None:
    def accepted(left: int, top: int) -> tuple[int, int]:
        """How many squares about a point, shown as FER2013 shows faces, one and both accept."""
        crops = []
        for side, degrees, across, down in product(range(60, 112, 4), (-20, 0, 20), (-6, 0, 6), (-6, 0, 6)):
            x, y = left + across - side // 2, top + down - side // 2
            small = cv2.resize(astronaut[y : y + side, x : x + side], (48, 48), interpolation=cv2.INTER_AREA)
            turn = cv2.getRotationMatrix2D((23.5, 23.5), degrees, 1)
            turned = cv2.warpAffine(small, turn, (48, 48), borderMode=cv2.BORDER_REPLICATE)
            crops.append(np.repeat(cv2.cvtColor(turned, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2))
        probability, _, _, face = sessions["onet"].run({"crops": np.stack(crops).astype(np.uint8)})
        return int((probability > 0.7).sum()), int((face > 0.7).sum())

    published, both = accepted(224, 119)
    assert both >= published + 10
    for published, both in (accepted(400, 250), accepted(250, 400)):
        assert both == published < 5


def test_pnet_sees_what_the_published_one_is_sure_of(sessions: dict[str, Session], golden: Golden) -> None:
    probability, box, _ = sessions["pnet"].run({"image": golden["pnet_photo"]})
    sure = golden["facenet_pnet_photo_probability"] > 0.9
    assert sure.sum() == 10
    assert (probability[sure] > 0.6).all()
    # One value in twenty of a small P-Net is further off than 0.06, whatever it learned from.
    deviations = np.abs(box[sure] - golden["facenet_pnet_photo_box"][sure])
    assert deviations.mean() < 0.02
    assert (deviations < 0.06).mean() >= 0.95
    assert deviations.max() < 0.08


def test_pnets_squares_show_rnet_what_the_published_ones_show_it(
    sessions: dict[str, Session], golden: Golden, astronaut: UInt8Array
) -> None:
    photo, sure = golden["pnet_photo"], golden["facenet_pnet_photo_probability"] > 0.9
    _, rows, columns = np.nonzero(sure)
    corners = STRIDE * np.stack([columns, rows, columns, rows], axis=1)
    windows = (corners + np.array([0, 0, CELL, CELL])).astype(np.float32)
    own, published = (
        regress(windows, box[sure].astype(np.float32)) * np.float32(len(astronaut) / photo.shape[1])
        for box in (sessions["pnet"].run({"image": photo})[1], golden["facenet_pnet_photo_box"])
    )
    assert np.diag(overlap(own, published)).min() > 0.8
    verdicts = [
        run_on_crops(sessions["rnet"], halve(astronaut), square(boxes), RNET)[0] for boxes in (own, published)
    ]
    assert (verdicts[1] > 0.9).sum() == 9
    np.testing.assert_allclose(verdicts[0], verdicts[1], atol=0.03)


def test_rnet_takes_for_faces_what_the_published_one_does(
    sessions: dict[str, Session], golden: Golden
) -> None:
    probability, box = sessions["rnet"].run({"crops": golden["rnet"]})
    faces = golden["facenet_rnet_probability"] > 0.7
    assert faces.sum() == 5
    assert ((probability > 0.7) == faces).all()
    np.testing.assert_allclose(box[faces], golden["facenet_rnet_box"][faces], atol=0.05)


def test_response_is_the_logit_and_the_box_in_steps(
    sessions: dict[str, Session], astronaut: UInt8Array
) -> None:
    probability, box, response = sessions["pnet"].run({"image": astronaut[None]})
    # Rounded to one, a probability has no logit; the response's own scale ends long before.
    probability = probability.clip(0.001, 0.9999)
    logit = np.log(probability / (1 - probability)).clip(-5.9, 7.9)
    step, offset_step = 14 / 255, 2 / 255
    np.testing.assert_allclose((response[..., 0] - 109.0).clip(-108, 145) * step, logit, atol=2 * step)
    np.testing.assert_allclose(
        (response[..., 1:] - 128.0) * offset_step, box.clip(-1, 0.99), atol=offset_step
    )
