"""Write P-Net, R-Net and O-Net as ONNX graphs that take plain upright RGB.

    python -m training.mtcnn.build --out model_store/mtcnn

The weights are those that the MIT-licensed package `mtcnn` 1.0.0 carries in its wheel. The package is located
but never imported, because importing it needs TensorFlow.

| graph | input | outputs, float32 |
|---|---|---|
| pnet | `image` uint8 (N, H, W, 3), H and W at least 12 | `probability` (N, h, w), `box` (N, h, w, 4) |
| rnet | `crops` uint8 (N, 24, 24, 3) | `probability` (N,), `box` (N, 4) |
| onet | `crops` uint8 (N, 48, 48, 3) | `probability` (N,), `box` (N, 4), `landmarks` (N, 5, 2) |

P-Net's cell (i, j) looks at the 12x12 pixels whose corner is (x, y) = (2j, 2i); h = ceil((H - 2) / 2) - 4, w likewise.
`box` moves the corners x1, y1, x2, y2 in units of the window's width and height; `landmarks` are x, y from the
window's corner in the same units, in the order left eye, right eye, nose, left and right corner of the mouth (the
viewer's left).

What the weights expect, and how that was verified:

- Channels are RGB. Fed BGR instead, O-Net's probability for the same crops falls, and the cascade's recall with it.
- Convolution kernels are (row, column, in, out) for an upright image: fed transposed images, the cascade loses nearly
  every face.
- The first dense layer is the exception. Its rows run over (column, row, channel), as the column-major original wrote
  them. They are put into (channel, row, column) here, so that the graph flattens its own layout without a transpose.
- Values are (x - 127.5) / 128. The first convolution has no padding, so this is folded into its kernel and bias.
- Poolings round their output size up, the window being cut at the right and lower edge.

The landmark columns, x1..x5 y1..y5 in the weights, are put into x, y pairs. The softmax over (no face, face) is written
as the sigmoid of the difference of the two logits, which is the same function, with one convolution channel fewer.
"""

import argparse
import hashlib
import importlib.util
import io
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FloatArray = NDArray[np.float32]

# Checked before unpickling: the graphs are only ever made from these exact bytes.
WEIGHTS_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
OPSET, IR_VERSION = 17, 8  # ONNX Runtime 1.13 and later load these
LANDMARK_PAIRS = [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]


def weights_folder() -> Path:
    """Where the installed `mtcnn` package keeps its weights."""
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise SystemExit("The package `mtcnn` 1.0.0 is not installed: pip install --no-deps mtcnn==1.0.0")
    return Path(spec.origin).parent / "assets" / "weights"


def load_weights(name: str) -> list[FloatArray]:
    """The arrays of one network in layer order: kernel, bias, PReLU slope, kernel, ..."""
    content = (weights_folder() / f"{name}.lz4").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256[name]:
        raise SystemExit(
            f"{name}.lz4 has sha256 {digest}, expected {WEIGHTS_SHA256[name]}: not mtcnn 1.0.0's"
        )
    arrays: list[FloatArray] = joblib.load(io.BytesIO(content))
    return arrays


def fold_normalisation(kernel: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Make a convolution over (x - 127.5) / 128 one over x. kernel: (rows, columns, in, out)."""
    wide = kernel.astype(np.float64) / 128
    shift = wide.sum(axis=(0, 1, 2)) * 127.5
    return wide.astype(np.float32), (bias - shift).astype(np.float32)


def rows_to_channel_first(dense: FloatArray, side: int) -> FloatArray:
    """Reorder rows of a dense layer from (column, row, channel) to (channel, row, column)."""
    by_axis = dense.reshape(side, side, -1, dense.shape[1])
    return by_axis.transpose(2, 1, 0, 3).reshape(dense.shape)


def face_logit(two: FloatArray) -> FloatArray:
    """(..., 2) weights of (no face, face) to (..., 1) of their difference."""
    return two[..., 1:] - two[..., :1]


@dataclass
class GraphBuilder:
    """Collects nodes one after another; `last` is the tensor that the next one reads."""

    last: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, array: NDArray[np.generic]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, *constants: NDArray[np.generic], **attributes: object) -> None:
        inputs = [self.last, *map(self.constant, constants)]
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [self.last], **attributes))

    def pixels(self) -> None:
        """(N, H, W, 3) uint8 to (N, 3, H, W) float32, transposed while a value is still one byte."""
        self.add("Transpose", perm=[0, 3, 1, 2])
        self.add("Cast", to=TensorProto.FLOAT)

    def convolution(self, kernel: FloatArray, bias: FloatArray) -> None:
        self.add("Conv", kernel.transpose(3, 2, 0, 1), bias, kernel_shape=list(kernel.shape[:2]))

    def slope(self, slope: FloatArray) -> None:
        self.add("PRelu", slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)

    def pool(self, size: int) -> None:
        self.add("MaxPool", kernel_shape=[size, size], strides=[2, 2], ceil_mode=1)

    def dense(self, weight: FloatArray, bias: FloatArray) -> None:
        self.add("Gemm", weight, bias)

    def split(self, axis: int, sizes: list[int]) -> list[str]:
        names = [f"part{i}" for i in range(len(sizes))]
        split_sizes = self.constant(np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [self.last, split_sizes], names, axis=axis))
        return names

    def probability(self, logit: str, axis: int) -> None:
        """Write the graph's `probability` from the logits, dropping their axis of length one."""
        axes = self.constant(np.array([axis], np.int64))
        self.nodes.append(helper.make_node("Squeeze", [logit, axes], ["logit"]))
        self.nodes.append(helper.make_node("Sigmoid", ["logit"], ["probability"]))

    def model(
        self, name: str, source: tuple[str, list[int | str]], outputs: dict[str, list[int | str]]
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(source[0], TensorProto.UINT8, source[1])],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="fer-service"
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def convolutions(builder: GraphBuilder, weights: list[FloatArray], pools: list[int]) -> None:
    """Convolution, PReLU and (where the size is not zero) pooling, once for each entry of pools."""
    layers = [weights[3 * i : 3 * i + 3] for i in range(len(pools))]
    layers[0][:2] = fold_normalisation(*layers[0][:2])
    builder.pixels()
    for (kernel, bias, slope), size in zip(layers, pools, strict=True):
        builder.convolution(kernel, bias)
        builder.slope(slope)
        if size:
            builder.pool(size)


def build_pnet(weights: list[FloatArray]) -> bytes:
    """Fully convolutional: every cell of the output is one 12x12 window, two pixels from the next."""
    builder = GraphBuilder("image")
    convolutions(builder, weights, [2, 0, 0])
    box, box_bias, face, face_bias = weights[9:]
    kernel = np.concatenate([face_logit(face), box], axis=-1)
    builder.convolution(kernel, np.concatenate([face_logit(face_bias), box_bias]))
    logit, boxes = builder.split(axis=1, sizes=[1, 4])
    builder.probability(logit, axis=1)
    builder.nodes.append(helper.make_node("Transpose", [boxes], ["box"], perm=[0, 2, 3, 1]))
    shapes: dict[str, list[int | str]] = {"probability": ["N", "h", "w"], "box": ["N", "h", "w", 4]}
    return builder.model("pnet", ("image", ["N", "H", "W", 3]), shapes)


def dense_layer(builder: GraphBuilder, weights: list[FloatArray], side: int) -> None:
    """Flatten a (N, C, side, side) map, then the dense layer and its PReLU."""
    kernel, bias, slope = weights
    builder.add("Flatten")
    builder.dense(rows_to_channel_first(kernel, side), bias)
    builder.slope(slope)


def heads(builder: GraphBuilder, face: list[FloatArray], others: list[list[FloatArray]]) -> list[str]:
    """All output layers as one multiplication; returns the parts after `probability`, in the order of others."""
    layers = [[face_logit(array) for array in face], *others]
    builder.dense(*(np.concatenate(arrays, axis=-1) for arrays in zip(*layers, strict=True)))
    logit, *parts = builder.split(axis=1, sizes=[len(bias) for _, bias in layers])
    builder.probability(logit, axis=1)
    return parts


def build_rnet(weights: list[FloatArray]) -> bytes:
    """One 24x24 window, refined."""
    builder = GraphBuilder("crops")
    convolutions(builder, weights, [3, 3, 0])
    dense_layer(builder, weights[9:12], side=3)
    (box,) = heads(builder, weights[14:16], [weights[12:14]])
    builder.nodes.append(helper.make_node("Identity", [box], ["box"]))
    return builder.model("rnet", ("crops", ["N", 24, 24, 3]), {"probability": ["N"], "box": ["N", 4]})


def build_onet(weights: list[FloatArray]) -> bytes:
    """One 48x48 window, refined, with landmarks."""
    builder = GraphBuilder("crops")
    convolutions(builder, weights, [3, 3, 2, 0])
    dense_layer(builder, weights[12:15], side=3)
    landmarks = [array[..., LANDMARK_PAIRS] for array in weights[17:19]]
    box, points = heads(builder, weights[19:21], [weights[15:17], landmarks])
    builder.nodes.append(helper.make_node("Identity", [box], ["box"]))
    pairs = builder.constant(np.array([0, 5, 2], np.int64))
    builder.nodes.append(helper.make_node("Reshape", [points, pairs], ["landmarks"]))
    shapes: dict[str, list[int | str]] = {"probability": ["N"], "box": ["N", 4], "landmarks": ["N", 5, 2]}
    return builder.model("onet", ("crops", ["N", 48, 48, 3]), shapes)


BUILDERS = {"pnet": build_pnet, "rnet": build_rnet, "onet": build_onet}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pnet.onnx, rnet.onnx and onet.onnx.")
    parser.add_argument("--out", type=Path, default=Path("model_store/mtcnn"), help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, build in BUILDERS.items():
        content = build(load_weights(name))
        (out / f"{name}.onnx").write_bytes(content)
        print(f"{name}.onnx {len(content)} bytes sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
