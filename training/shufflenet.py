"""ShuffleNet V2 for small grayscale faces.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design" (ECCV 2018),
figure 3 (c, d) and table 5, with the stem fitted to 48x48 pixels: one 3x3 convolution and no max-pooling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMOTIONS = 7


@dataclass(frozen=True)
class Architecture:
    """Depth and width of the network, the two knobs that trade accuracy against speed.

    stages: output channels of each stage, all even.
    repeats: units in each stage; the first of them halves the resolution.
    stem: channels after the first convolution; head: channels before the classifier.
    stem_stride: 2 puts the first stage at 12x12, 1 at 24x24 (four times the arithmetic).
    """

    stages: tuple[int, ...] = (116, 232, 464)
    repeats: tuple[int, ...] = (4, 8, 4)
    stem: int = 24
    head: int = 768
    stem_stride: int = 2
    dropout: float = 0.2


def channel_shuffle(x: Tensor, groups: int = 2) -> Tensor:
    """Interleave the channel groups, so that the next split mixes them. (N, C, H, W) -> (N, C, H, W)."""
    channels, height, width = (int(size) for size in x.shape[1:])
    grouped = x.reshape(-1, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(-1, channels, height, width)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A dense convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def depthwise_bn(channels: int, stride: int) -> nn.Sequential:
    """A 3x3 depthwise convolution and batch normalisation; no ReLU (guideline of the paper)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )


class Unit(nn.Module):
    """Basic unit (figure 3c): half of the channels pass unchanged, half go through the branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.passed = half = channels // 2
        self.branch = nn.Sequential(
            conv_bn_relu(half, half, 1), depthwise_bn(half, 1), conv_bn_relu(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x[:, : self.passed], x[:, self.passed :]
        return channel_shuffle(torch.cat((kept, self.branch(worked)), dim=1))


class DownsamplingUnit(nn.Module):
    """Spatial down-sampling unit (figure 3d): both branches see all channels and halve the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.shortcut = nn.Sequential(depthwise_bn(inputs, 2), conv_bn_relu(inputs, half, 1))
        self.branch = nn.Sequential(
            conv_bn_relu(inputs, half, 1), depthwise_bn(half, 2), conv_bn_relu(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(torch.cat((self.shortcut(x), self.branch(x)), dim=1))


class ShuffleNetV2(nn.Module):
    """(N, 1, H, W) float32 in -1..1 -> logits (N, 7), or as many as asked for. H and W are free."""

    def __init__(self, architecture: Architecture, logits: int = EMOTIONS) -> None:
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = [conv_bn_relu(1, architecture.stem, 3, architecture.stem_stride)]
        channels = architecture.stem
        for outputs, repeats in zip(architecture.stages, architecture.repeats, strict=True):
            layers += [DownsamplingUnit(channels, outputs), *(Unit(outputs) for _ in range(repeats - 1))]
            channels = outputs
        self.features = nn.Sequential(*layers, conv_bn_relu(channels, architecture.head, 1))
        self.dropout = nn.Dropout(architecture.dropout)
        self.classifier = nn.Linear(architecture.head, logits)

    def forward(self, x: Tensor) -> Tensor:
        # Not `mean`: ONNX Runtime can average as convolutions leave it, without putting it in another order.
        pooled = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)  # (N, head)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits
