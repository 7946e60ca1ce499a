import numpy as np

from training.duplicates import among, table
from training.evaluate import STORE

from .helpers import faces


def test_an_image_is_known_by_its_pixels_alone() -> None:
    some = faces(14)
    others = some.subset(np.array([3, 9]))
    others.images[1, 47, 47] ^= 1
    assert np.flatnonzero(among(some, others)).tolist() == [3]


def test_figures_are_told_of_both_parts_and_of_all() -> None:
    some = faces(28)
    rows = table(STORE, some, np.arange(28) < 7).splitlines()
    assert rows[0].startswith("7 of 28 images")
    told = [row.split()[:2] for row in rows[2:]]
    assert told[:3] == [["balanced", "all"], ["balanced", "known"], ["balanced", "new"]]
    # `ferplus` answers by another word than FER2013's.
    assert not any(name.startswith("ferplus") for name, _ in told)


def test_without_known_images_all_are_new() -> None:
    rows = table(STORE, faces(14), np.zeros(14, np.bool_)).splitlines()
    assert [row.split()[1] for row in rows[2:4]] == ["all", "new"]
    assert all(row.endswith(" not measured") for row in rows[2:])  # no votes
