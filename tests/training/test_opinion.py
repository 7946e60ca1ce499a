from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from service.vision.boxes import overlap
from service.vision.types import UInt8Array
from training.mtcnn.build import build_onet, load_weights
from training.mtcnn.opinion import (
    ACCEPT,
    CERTAIN,
    SURE,
    Onlooker,
    Opinion,
    Shown,
    beside,
    calibrate,
    collect,
    judgement,
    learn,
    pieces,
    probabilities,
    write,
)
from training.mtcnn.pictures import STORE
from training.mtcnn.turned import turned
from training.scenes import Graph

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"
FACE = (165.0, 60.0, 279.0, 174.0)


@pytest.fixture(scope="module")
def portrait() -> UInt8Array:
    read = cv2.imread(str(ASTRONAUT))
    assert read is not None
    return np.ascontiguousarray(read[:, :, ::-1], np.uint8)


@pytest.fixture(scope="module")
def onlooker() -> Onlooker:
    return Onlooker(STORE)


def crops(number: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (number, 48, 48, 3), np.uint8)


def test_what_is_published_stays_and_the_larger_probability_is_added(tmp_path: Path) -> None:
    opinion = Opinion().eval()
    write(opinion, tmp_path / "onet.onnx", crops(8))  # asserts what `face` is
    *same, face = Graph(tmp_path / "onet.onnx").run({"crops": crops(8)})
    published = Graph(build_onet(load_weights("onet"))).run({"crops": crops(8)})
    for one, other in zip(same, published, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert (face >= published[0] - 1e-6).all()


def test_of_a_photo_the_published_opinion_is_learned(onlooker: Onlooker, portrait: UInt8Array) -> None:
    shown = onlooker.photo(portrait, np.random.default_rng(0))
    assert shown.features.shape == (len(shown.known), 64, 4, 4)
    assert not shown.known.any()
    assert np.array_equal(shown.wanted, shown.published)
    assert 0 < (shown.published > ACCEPT).sum() < len(shown.published)


def test_of_a_scene_the_squares_about_its_face_are_known(onlooker: Onlooker, portrait: UInt8Array) -> None:
    shown = onlooker.scene(portrait, [FACE], np.random.default_rng(0))
    assert 0 < shown.known.sum() < len(shown.known)
    assert (shown.wanted[shown.known] >= np.float32(CERTAIN)).all()
    assert np.array_equal(shown.wanted[~shown.known], shown.published[~shown.known])


def test_of_a_turned_photo_the_squares_about_its_face_are_known(
    onlooker: Onlooker, portrait: UInt8Array
) -> None:
    random = np.random.default_rng(0)
    picture, frames = turned(portrait, [FACE], 40)
    shown = onlooker.turned(picture, frames, random)
    assert 0 < shown.known.sum() < len(shown.known)
    assert (shown.wanted[shown.known] >= np.float32(CERTAIN)).all()
    assert not onlooker.turned(picture[:, 300:], [], random).known.any()


def test_a_piece_of_a_photo_is_no_face(onlooker: Onlooker, portrait: UInt8Array) -> None:
    shown = onlooker.piece(portrait, (300.0, 300.0, 400.0, 400.0), np.random.default_rng(0))
    assert len(shown.known)
    assert not shown.known.any()
    assert (shown.wanted < 0.5).all()


def test_squares_beside_a_face_are_squares_that_mostly_miss_it() -> None:
    box = np.array([[100, 100, 148, 160]], np.float32)
    near = np.concatenate([beside(box, np.random.default_rng(seed)) for seed in range(50)])
    np.testing.assert_allclose(near[:, 2] - near[:, 0], near[:, 3] - near[:, 1], rtol=1e-4)
    shares = overlap(near, box)
    assert 0 < shares.mean() < 0.4


def test_pieces_have_the_shape_of_faces(portrait: UInt8Array) -> None:
    small = np.full((30, 20, 3), 7, np.uint8)
    drawn = pieces([portrait, small], 20, np.random.default_rng(0))
    assert drawn.shape == (20, 48, 48)
    assert drawn.dtype == np.uint8


def test_an_opinion_learns_what_is_known_and_else_what_is_published() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 64, 4, 4)).astype(np.float16)
    known = features[:, :8].mean((1, 2, 3)) > 0
    shown = Shown(features, np.full(600, 0.1, np.float32), known)
    answered = probabilities(learn(shown, 40), features)
    assert (answered[known] > 0.5).mean() > 0.9
    assert (answered[~known] < 0.5).mean() > 0.9


def test_an_opinion_must_be_sure_to_be_believed() -> None:
    opinion = Opinion().eval()
    features = np.random.default_rng(0).normal(size=(50, 64, 4, 4)).astype(np.float16)
    with torch.no_grad():
        median = torch.tensor(probabilities(opinion, features)).quantile(0.5)
        opinion.last.bias.add_(torch.tensor(SURE).logit() - median.logit())
    before = probabilities(opinion, features)
    calibrate(opinion)
    assert 0 < (before > SURE).sum() < 50
    assert np.array_equal(probabilities(opinion, features) > ACCEPT, before > SURE)


def test_what_is_collected_is_judged(onlooker: Onlooker, portrait: UInt8Array) -> None:
    torch.manual_seed(0)
    face = cv2.cvtColor(portrait[60:174, 165:279], cv2.COLOR_RGB2GRAY)
    faces = np.asarray(cv2.resize(face, (48, 48)), np.uint8)[None]
    shown = collect(onlooker, [portrait[:200]], faces, 2)
    about, others = judgement(Opinion().eval(), shown).splitlines()
    assert f"of {shown.known.sum()} squares about known faces" in about
    assert f"of {(~shown.known).sum()} squares of anything else" in others
