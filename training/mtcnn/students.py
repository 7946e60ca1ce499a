"""Smaller P-Net and R-Net: the networks, how they begin from the published ones, and their graphs.

The published networks compute their first convolution at every pixel and keep the largest of four or nine
values. Here the first convolution moves two pixels at a time and does the pooling's work too, and every
activation is a ReLU, which the runtime computes together with the convolution before it. Windows, their
places and what the outputs mean are those of the published networks (`training/mtcnn/build.py`).

| network | layers | thousand multiply-adds beside the published network's |
|---|---|---|
| P-Net | 4x4/2 16, 3x3 16, 3x3 32, 1x1 5 | 1.96 beside 2.07 a pixel |
| R-Net | 5x5/2 32, 3x3 48, pool 3/2, 2x2 64, dense 128, dense 5 | 1,600 beside 1,700 a crop |
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from service.vision.types import Float32Array
from training.mtcnn.build import GraphBuilder, fill_block, load_weights, response, rows_to_channel_first

Answers = tuple[Tensor, Tensor]  # logits (N, h, w) or (N,), boxes (N, h, w, 4) or (N, 4)
STEM_RATE = 8e-3
FLATTENED = 576  # 64 channels of 3x3: what R-Net's dense layer reads


class Student(nn.Module):
    """What the two have in common: they take pixels (N, 3, H, W) from 0 to 255 as float32."""

    first: nn.Conv2d

    def stem(self, pixels: Tensor) -> Tensor:
        """The first layer; a row and a column of zeros stand in for the published networks' cut pooling."""
        features: Tensor = self.first((functional.pad(pixels, (0, 1, 0, 1)) - 127.5) / 128)
        return features.relu()


class SmallPNet(Student):
    """P-Net for the same 12x12 windows."""

    published, input, pool = "pnet", "image", 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 4, stride=2)
        self.second, self.third = nn.Conv2d(16, 16, 3), nn.Conv2d(16, 32, 3)
        self.heads = nn.Conv2d(32, 5, 1)

    def forward(self, pixels: Tensor) -> Answers:
        """(N, h, w) logits and (N, h, w, 4) offsets."""
        heads = self.heads(self.third(self.second(self.stem(pixels)).relu()).relu())
        return heads[:, 0], heads[:, 1:].permute(0, 2, 3, 1)

    def take_over(self, weights: list[Tensor], linear: nn.Conv2d) -> None:
        """The published layers after the first; `linear` makes its features from the stem's."""
        give(self.second, *following(weights[3], weights[4], linear))
        give(self.third, weights[6], weights[7])
        give(self.heads, *(torch.cat([difference(weights[face]), weights[face - 2]]) for face in (11, 12)))

    def graph(self) -> bytes:
        """The ONNX graph; its file says the same of uint8 (N, H, W, 3)."""
        builder = GraphBuilder(self.input)
        stem(builder, self.first)
        for layer in (self.second, self.third):
            convolution(builder, layer)
            builder.add("Relu")
        convolution(builder, self.heads, filled=True)
        builder.split([5, 3], ["heads", "unused_heads"])
        response(builder, "heads")
        sizes = builder.constant(np.array([1, 4], np.int64))
        builder.node("Split", ["heads", sizes], ["logits", "boxes"], axis=1)
        builder.probability("logits")
        builder.node("Transpose", ["boxes"], ["box"], perm=[0, 2, 3, 1])
        window: list[int | str] = ["N", "h", "w"]
        shapes = {"probability": window, "box": [*window, 4], "response": [*window, 5]}
        return builder.model("pnet", (self.input, ["N", "H", "W", 3]), shapes)


class SmallRNet(Student):
    """R-Net for the same 24x24 crops."""

    published, input, pool = "rnet", "crops", 3

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 5, stride=2)
        self.second, self.third = nn.Conv2d(32, 48, 3), nn.Conv2d(48, 64, 2)
        self.dense, self.heads = nn.Linear(FLATTENED, 128), nn.Linear(128, 5)

    def forward(self, pixels: Tensor) -> Answers:
        """(N,) logits and (N, 4) offsets."""
        second = functional.max_pool2d(self.second(self.stem(pixels)).relu(), 3, 2, ceil_mode=True)
        heads = self.heads(self.dense(self.third(second).relu().flatten(1)).relu())
        return heads[:, 0], heads[:, 1:]

    def take_over(self, weights: list[Tensor], linear: nn.Conv2d) -> None:
        """See `SmallPNet.take_over`."""
        give(self.second, *following(weights[3], weights[4], linear))
        give(self.third, weights[6], weights[7])
        give(self.dense, weights[9], weights[10])
        give(self.heads, *(torch.cat([difference(weights[face]), weights[face - 2]]) for face in (14, 15)))

    def graph(self) -> bytes:
        """See `SmallPNet.graph`."""
        builder = GraphBuilder(self.input)
        stem(builder, self.first)
        convolution(builder, self.second)
        builder.add("Relu")
        builder.pool(3)
        convolution(builder, self.third)
        builder.add("Relu")
        builder.add("Flatten")
        builder.dense(array(self.dense.weight.T), array(self.dense.bias))
        builder.add("Relu")
        builder.dense(array(self.heads.weight.T), array(self.heads.bias))
        builder.split([1, 4], ["logits", "box"])
        builder.probability("logits")
        return builder.model("rnet", (self.input, ["N", 24, 24, 3]), {"probability": ["N"], "box": ["N", 4]})


def begin(student: SmallPNet | SmallRNet, draw: Callable[[], Tensor], steps: int) -> None:
    """Give the student what the published network knows.

    Its first layer learns, in a minute, features from which the published one's follow by a linear function
    (kernels of the published layer, at any place in the larger kernel, are where it begins). That function
    goes into the second layer; the others are the published ones.
    draw: returns pixels (N, 3, H, W) of some examples.
    """
    weights = published_weights(student.published)
    kernel, bias, slope = weights[:3]
    scatter(student.first, kernel, bias)
    linear = nn.Conv2d(student.first.out_channels, len(bias), 1)
    importance = functional.normalize(weights[3].square().sum((0, 2, 3)), 1, 0)
    optimizer = torch.optim.Adam([*student.first.parameters(), *linear.parameters()], STEM_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pixels = draw()
        with torch.no_grad():
            activated = functional.prelu(functional.conv2d((pixels - 127.5) / 128, kernel, bias), slope)
            wanted = functional.max_pool2d(activated, student.pool, 2, ceil_mode=True)
        distance = (linear(student.stem(pixels)) - wanted).square().mean((0, 2, 3))
        optimizer.zero_grad()
        (distance * importance).sum().backward()
        optimizer.step()
        schedule.step()
    student.take_over(weights, linear)


def scatter(first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> None:
    """Begin a layer with the kernels of a smaller size, or their negatives, at places of their own."""
    outputs, _, side, _ = first.weight.shape
    span = kernel.shape[2]
    copies = torch.arange(outputs) % len(kernel)
    signs = torch.where(torch.arange(outputs) < len(kernel), 1.0, -1.0)
    larger = 0.1 * torch.randn(first.weight.shape)
    for index, (y, x) in enumerate(torch.randint(side - span + 1, (outputs, 2)).tolist()):
        larger[index, :, y : y + span, x : x + span] += signs[index] * kernel[copies[index]]
    give(first, larger, signs * bias[copies])


def following(kernel: Tensor, bias: Tensor, linear: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution after a linear function (a 1x1 convolution), as one."""
    assert linear.bias is not None
    joint = torch.einsum("oiyx,ij->ojyx", kernel, linear.weight[:, :, 0, 0])
    return joint, bias + kernel.sum((2, 3)) @ linear.bias


@torch.no_grad()
def give(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set what the layer has learned."""
    assert layer.bias is not None
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def published_weights(name: str) -> list[Tensor]:
    """A published network's weights in layer order, as PyTorch has them."""
    return [torch.from_numpy(np.ascontiguousarray(outputs_first(weight))) for weight in load_weights(name)]


def outputs_first(weight: Float32Array) -> Float32Array:
    """A kernel or dense layer with its outputs as the first axis; slopes as (channels,)."""
    if weight.ndim == 4:
        return weight.transpose(3, 2, 0, 1)
    if weight.ndim == 2:
        return (rows_to_channel_first(weight, 3) if len(weight) == FLATTENED else weight).T
    return weight.ravel()


def difference(two: Tensor) -> Tensor:
    """(2, ...) weights of (no face, face) to (1, ...) of the face's logit."""
    return two[1:] - two[:1]


def array(tensor: Tensor | None) -> Float32Array:
    """The values of a layer, for a graph."""
    assert tensor is not None
    values: Float32Array = tensor.detach().numpy()
    return values


def stem(builder: GraphBuilder, layer: nn.Conv2d) -> None:
    """`Student.stem`, with (x - 127.5) / 128 folded into the convolution."""
    builder.pixels()
    kernel = array(layer.weight).astype(np.float64) / 128
    bias = array(layer.bias) - 127.5 * kernel.sum((1, 2, 3))
    builder.add(
        "Conv",
        kernel.astype(np.float32),
        bias.astype(np.float32),
        kernel_shape=list(kernel.shape[2:]),
        strides=[2, 2],
        pads=[0, 0, 1, 1],
    )
    builder.add("Relu")


def convolution(builder: GraphBuilder, layer: nn.Conv2d, *, filled: bool = False) -> None:
    """A convolution of stride 1; filled: with zeros up to a whole number of the runtime's blocks."""
    kernel, bias = array(layer.weight.permute(2, 3, 1, 0)), array(layer.bias)
    if filled:
        kernel, bias = fill_block(kernel), fill_block(bias)
    builder.convolution(kernel, bias)
