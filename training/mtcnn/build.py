"""The published P-Net, R-Net and O-Net as ONNX graphs that take plain upright RGB.

The weights are those that the MIT-licensed package `mtcnn` 1.0.0 carries in its wheel. The package is located
but never imported, because importing it needs TensorFlow. The service runs the published O-Net, which has a
second opinion there (`training/mtcnn/opinion.py`), and smaller networks that learned from the published P-Net
and R-Net (`training/mtcnn/distill.py`).

| graph | input | outputs, float32 |
|---|---|---|
| pnet | `image` uint8 (N, H, W, 3), H and W at least 12 | `probability` (N, h, w), `box` (N, h, w, 4) |
| rnet | `crops` uint8 (N, 24, 24, 3) | `probability` (N,), `box` (N, 4) |
| onet | `crops` uint8 (N, 48, 48, 3) | `probability` (N,), `box` (N, 4), `landmarks` (N, 5, 2) |

P-Net's cell (i, j) looks at the 12x12 pixels whose corner is (x, y) = (2j, 2i); h = ceil((H - 2) / 2) - 4,
and w likewise. `box` moves the corners x1, y1, x2, y2 in units of the window's width and height.
`landmarks` are x, y from the window's corner in the same units: left eye, right eye, nose, left and right
corner of the mouth (the viewer's left). P-Net has a third output, `response` uint8 (N, h, w, 5): the logit of
`probability`, and `box`, in a byte each, for the filter (`training/mtcnn/filter.py`). O-Net as it is served
has a fourth, `face` (N,): see `training/mtcnn/opinion.py`.

What the weights expect, and how it was verified (recall on the 1,031 faces of `benchmarks.detection`,
smallest face 40, where the right order has 0.535):

- Channels are RGB. With BGR, recall is 0.285.
- Convolution kernels are (row, column, in, out) of an upright image. With transposed images, recall is 0.036.
- The first dense layer is the exception: its rows run over (column, row, channel). Read as (row, column,
  channel), recall is 0.306. They are put into (channel, row, column), so that the graph flattens its own
  layout as it is.
- Values are (x - 127.5) / 128. The first convolution has no padding, so this is folded into its kernel and
  bias.
- Poolings round their output size up; the last window is cut at the right and lower edge.

`training/mtcnn/record_golden.py` records what two independent programs make of the same weights, and the
tests compare.

The landmark columns, x1..x5 y1..y5 in the weights, are put into x, y pairs. The softmax over (no face,
face) is written as the sigmoid of the difference of the two logits, which is the same function.
"""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
BLOCK = 8  # channels that ONNX Runtime keeps together; it pools in that layout only where they fill it
# P-Net's `response` is the face's logit and the offsets in steps of these, from these values for zero.
RESPONSE_SCALES = np.array([14 / 255, *[2 / 255] * 4], np.float32)
RESPONSE_ZEROS = np.array([109, *[128] * 4], np.uint8)
ONET_POOLS = [3, 3, 2]  # of its convolutions but the last
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

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def add(self, operator: str, *constants: NDArray[np.generic], **attributes: Any) -> None:
        inputs = [self.last, *map(self.constant, constants)]
        self.last = f"t{len(self.nodes)}"
        self.node(operator, inputs, [self.last], **attributes)

    def pixels(self) -> None:
        """(N, H, W, 3) uint8 to (N, 3, H, W) float32, transposed while a value is still one byte."""
        self.add("Transpose", perm=[0, 3, 1, 2])
        self.add("Cast", to=TensorProto.FLOAT)

    def convolution(self, kernel: FloatArray, bias: FloatArray) -> None:
        self.add("Conv", kernel.transpose(3, 2, 0, 1), bias, kernel_shape=list(kernel.shape[:2]))

    def slope(self, slope: FloatArray) -> None:
        """PReLU as max(y, slope * y), which it is where no slope exceeds one, and which runs faster."""
        if slope.max() > 1:
            raise ValueError("a slope exceeds one")
        value = self.last
        self.add("Mul", slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)
        scaled, self.last = self.last, f"t{len(self.nodes)}"
        self.node("Max", [value, scaled], [self.last])

    def pool(self, size: int) -> None:
        self.add("MaxPool", kernel_shape=[size, size], strides=[2, 2], ceil_mode=1)

    def dense(self, weight: FloatArray, bias: FloatArray) -> None:
        self.add("Gemm", weight, bias)

    def split(self, sizes: Sequence[int], names: Sequence[str]) -> None:
        """Cut the channels (axis 1) into tensors of these names."""
        self.node("Split", [self.last, self.constant(np.array(sizes, np.int64))], names, axis=1)

    def probability(self, logit: str) -> None:
        """Write the graph's `probability` from the logits, dropping their axis 1 of length one."""
        self.node("Squeeze", [logit, self.constant(np.array([1], np.int64))], ["logit"])
        self.node("Sigmoid", ["logit"], ["probability"])

    def model(
        self, name: str, source: tuple[str, list[int | str]], outputs: dict[str, list[int | str]]
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(source[0], TensorProto.UINT8, source[1])],
            [
                helper.make_tensor_value_info(
                    key, TensorProto.UINT8 if key == "response" else TensorProto.FLOAT, shape
                )
                for key, shape in outputs.items()
            ],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="fer-service"
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def convolutions(builder: GraphBuilder, weights: list[FloatArray], pools: list[int]) -> None:
    """Convolution, PReLU and (where the size is not zero) pooling, once for each entry of pools."""
    builder.pixels()
    kernel, bias, slope = weights[:3]
    order = pooled_activation(builder, *fold_normalisation(kernel, bias), slope, pools[0])
    inputs = [weights[3][:, :, order], *(weights[3 * i] for i in range(2, len(pools)))]
    for index, (kernel, size) in enumerate(zip(inputs, pools[1:], strict=True), start=1):
        builder.convolution(kernel, weights[3 * index + 1])
        builder.slope(weights[3 * index + 2])
        if size:
            builder.pool(size)


def pooled_activation(
    builder: GraphBuilder, kernel: FloatArray, bias: FloatArray, slope: FloatArray, size: int
) -> NDArray[np.intp]:
    """Convolution, pooling, PReLU: the values of PReLU before pooling, at half the cost for P-Net.

    PReLU is y where y > 0, else slope * y. A channel whose slope is not negative may be pooled first, since
    its PReLU never falls. One whose slope is negative is max(y, slope * y), and both terms may be pooled
    before they are compared: the convolution makes the second a channel of its own. Returns the order of
    the channels.
    """
    flat = slope.ravel()
    rising, falling = np.flatnonzero(flat >= 0), np.flatnonzero(flat < 0)
    parts = {"rising": rising, "falling": falling, "scaled": falling}
    order = np.concatenate(list(parts.values()))
    factors = np.concatenate([np.ones(len(flat), np.float32), flat[falling]])
    filled = fill_block(kernel[..., order] * factors), fill_block(bias[order] * factors)
    builder.convolution(*filled)
    builder.pool(size)
    unused = {"unused": len(filled[1]) - len(order)} if len(filled[1]) > len(order) else {}
    sizes = {name: len(part) for name, part in parts.items()} | unused
    builder.split(list(sizes.values()), list(sizes))
    builder.node("PRelu", ["rising", builder.constant(flat[rising].reshape(-1, 1, 1))], ["rising_active"])
    builder.node("Max", ["falling", "scaled"], ["falling_active"])
    builder.node("Concat", ["rising_active", "falling_active"], ["active"], axis=1)
    builder.last = "active"
    return order[: len(flat)]


def activated_convolution(
    builder: GraphBuilder, slope: FloatArray, kernel: FloatArray, bias: FloatArray
) -> None:
    """PReLU and a convolution, as two convolutions: PReLU(y) = a y + (1 - a) max(y, 0) for a slope a.

    PReLU takes values out of the runtime's blocked layout and back; max(y, 0) and the sum do not, and the
    convolution is small.
    """
    value, scale = builder.last, slope.reshape(-1, 1)
    builder.convolution(kernel * scale, bias)
    linear, builder.last = builder.last, value
    builder.add("Relu")
    builder.convolution(kernel * (1 - scale), np.zeros_like(bias))
    rectified, builder.last = builder.last, f"t{len(builder.nodes)}"
    builder.node("Add", [linear, rectified], [builder.last])


def fill_block(weights: FloatArray) -> FloatArray:
    """Zeros after the last channels, up to a whole number of blocks."""
    missing = [(0, 0)] * (weights.ndim - 1) + [(0, -weights.shape[-1] % BLOCK)]
    return np.pad(weights, missing)


def build_pnet(weights: list[FloatArray]) -> bytes:
    """Fully convolutional: every cell of the output is one 12x12 window, two pixels from the next."""
    builder = GraphBuilder("image")
    convolutions(builder, weights[:6], [2, 0])
    builder.convolution(*weights[6:8])
    slope, box, box_bias, face, face_bias = weights[8:]
    kernel = np.concatenate([face_logit(face), box], axis=-1)
    bias = np.concatenate([face_logit(face_bias), box_bias])
    activated_convolution(builder, slope, fill_block(kernel), fill_block(bias))
    builder.split([5, len(fill_block(bias)) - 5], ["heads", "unused_heads"])
    response(builder, "heads")
    builder.node(
        "Split", ["heads", builder.constant(np.array([1, 4], np.int64))], ["logits", "boxes"], axis=1
    )
    builder.probability("logits")
    builder.node("Transpose", ["boxes"], ["box"], perm=[0, 2, 3, 1])
    shapes: dict[str, list[int | str]] = {
        "probability": ["N", "h", "w"],
        "box": ["N", "h", "w", 4],
        "response": ["N", "h", "w", 5],
    }
    return builder.model("pnet", ("image", ["N", "H", "W", 3]), shapes)


def response(builder: GraphBuilder, heads: str) -> None:
    """Logit and offsets of all windows in a byte each, which the filter reads."""
    builder.last = heads
    builder.add("QuantizeLinear", RESPONSE_SCALES, RESPONSE_ZEROS, axis=1)
    builder.node("Transpose", [builder.last], ["response"], perm=[0, 2, 3, 1])


def dense_layer(builder: GraphBuilder, weights: list[FloatArray], side: int) -> None:
    """Flatten a (N, C, side, side) map, then the dense layer and its PReLU."""
    kernel, bias, slope = weights
    builder.add("Flatten")
    builder.dense(rows_to_channel_first(kernel, side), bias)
    builder.slope(slope)


def heads(builder: GraphBuilder, face: list[FloatArray], others: dict[str, list[FloatArray]]) -> None:
    """All output layers as one multiplication: `probability`, and one tensor for each of others."""
    layers = [[face_logit(array) for array in face], *others.values()]
    builder.dense(*(np.concatenate(arrays, axis=-1) for arrays in zip(*layers, strict=True)))
    builder.split([len(bias) for _, bias in layers], ["logits", *others])
    builder.probability("logits")


def build_rnet(weights: list[FloatArray]) -> bytes:
    """One 24x24 window, refined."""
    builder = GraphBuilder("crops")
    convolutions(builder, weights, [3, 3, 0])
    dense_layer(builder, weights[9:12], side=3)
    heads(builder, weights[14:16], {"box": weights[12:14]})
    return builder.model("rnet", ("crops", ["N", 24, 24, 3]), {"probability": ["N"], "box": ["N", 4]})


def build_onet(weights: list[FloatArray], opinion: list[FloatArray] | None = None) -> bytes:
    """One 48x48 window, refined, with landmarks.

    opinion: kernel and bias of a convolution and of two dense layers, which read what O-Net's last
    convolution reads; `face` is then the larger of their probability and O-Net's.
    """
    builder = GraphBuilder("crops")
    convolutions(builder, weights[:9], ONET_POOLS)
    features = builder.last
    builder.convolution(*weights[9:11])
    builder.slope(weights[11])
    dense_layer(builder, weights[12:15], side=3)
    landmarks = [array[..., LANDMARK_PAIRS] for array in weights[17:19]]
    heads(builder, weights[19:21], {"box": weights[15:17], "points": landmarks})
    builder.node("Reshape", ["points", builder.constant(np.array([0, 5, 2], np.int64))], ["landmarks"])
    shapes: dict[str, list[int | str]] = {"probability": ["N"], "box": ["N", 4], "landmarks": ["N", 5, 2]}
    if opinion:
        builder.last = features
        larger_of_both(builder, opinion)
        shapes["face"] = ["N"]
    return builder.model("onet", ("crops", ["N", 48, 48, 3]), shapes)


def larger_of_both(builder: GraphBuilder, opinion: list[FloatArray]) -> None:
    """`face`: the larger probability of the graph's own and the opinion's."""
    builder.convolution(*opinion[:2])
    builder.add("Relu")
    builder.add("Flatten")
    builder.dense(*opinion[2:4])
    builder.add("Relu")
    builder.dense(*opinion[4:])
    builder.add("Squeeze", np.array([1], np.int64))
    builder.node("Max", ["logit", builder.last], ["larger"])
    builder.node("Sigmoid", ["larger"], ["face"])


def build_features(weights: list[FloatArray]) -> bytes:
    """What O-Net's last convolution reads: `features` (N, 64, 4, 4) of crops (N, 48, 48, 3)."""
    builder = GraphBuilder("crops")
    convolutions(builder, weights[:9], ONET_POOLS)
    builder.node("Identity", [builder.last], ["features"])
    return builder.model("features", ("crops", ["N", 48, 48, 3]), {"features": ["N", 64, 4, 4]})


BUILDERS = {"pnet": build_pnet, "rnet": build_rnet, "onet": build_onet}
