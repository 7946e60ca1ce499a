from pathlib import Path

import numpy as np
import pytest

from training.mtcnn.pictures import pictures, varied


def test_pictures_are_seen_at_several_sizes_and_mirrored() -> None:
    picture = np.arange(100 * 200 * 3).astype(np.uint8).reshape(100, 200, 3)
    shown = list(varied([picture]))
    assert {view.shape[1] for view in shown} == {200, 176, 152, 230, 260}
    assert np.array_equal(shown[-1], picture[:, ::-1])


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt cannot be read"):
        list(pictures([tmp_path / "notes.txt"]))
