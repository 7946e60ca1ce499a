from pathlib import Path

import numpy as np
import pytest

from training.mtcnn.build import BUILDERS, load_weights
from training.scenes import Graph

GOLDEN = Path(__file__).parents[1] / "vision" / "golden" / "mtcnn.npz"


@pytest.mark.parametrize("peer", ["mtcnn", "facenet"])
@pytest.mark.parametrize("name", ["pnet_photo", "pnet_noise", "rnet", "onet"])
def test_published_graphs_compute_what_other_programs_compute(peer: str, name: str) -> None:
    golden = np.load(GOLDEN)
    graph = name.split("_", maxsplit=1)[0]
    published = Graph(BUILDERS[graph](load_weights(graph)))
    outputs = published.run({"image" if graph == "pnet" else "crops": golden[name]})
    kinds = ("probability", "box", "landmarks") if graph == "onet" else ("probability", "box")
    for output, kind in zip(outputs, kinds, strict=graph != "pnet"):
        np.testing.assert_allclose(output, golden[f"{peer}_{name}_{kind}"], atol=1e-4, rtol=0)
