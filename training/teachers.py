"""Dense networks, larger than what is served, that a ShuffleNet V2 learns from.

Dense convolutions run on a processor's matrix unit in bfloat16, so these train faster than
their size suggests.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from training.shufflenet import EMOTIONS, conv_bn_relu


@dataclass(frozen=True)
class DenseArchitecture:
    """A ResNet (He et al., 2016, basic blocks) or a VGG (Khaireddin and Chen, 2021) for 48x48 faces.

    kind: "resnet" or "vgg"; width: channels of the first stage, doubled from stage to stage;
    blocks: residual blocks, or pairs of convolutions, of each stage.
    """

    kind: str = "resnet"
    width: int = 48
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    dropout: float = 0.3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut. (N, C, H, W) -> (N, C', H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_bn_relu(inputs, outputs, 3, stride),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return summed


class DenseNetwork(nn.Module):
    """(N, 1, H, W) float32 in -1..1 -> logits (N, 7), or as many as asked for, by global average pooling."""

    def __init__(self, architecture: DenseArchitecture, logits: int = EMOTIONS) -> None:
        super().__init__()
        stage = {"resnet": _resnet_stage, "vgg": _vgg_stage}[architecture.kind]
        width = architecture.width
        layers: list[nn.Module] = [conv_bn_relu(1, width, 3)]
        channels = width
        for index, blocks in enumerate(architecture.blocks):
            layers += stage(channels, width << index, blocks, first=index == 0)
            channels = width << index
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(architecture.dropout)
        self.classifier = nn.Linear(channels, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.features(x).mean(dim=(2, 3))))
        return logits


def _resnet_stage(inputs: int, outputs: int, blocks: int, *, first: bool) -> list[nn.Module]:
    entry = BasicBlock(inputs, outputs, 1 if first else 2)
    return [entry, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))]


def _vgg_stage(inputs: int, outputs: int, blocks: int, *, first: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [] if first else [nn.MaxPool2d(2)]
    layers.append(conv_bn_relu(inputs, outputs, 3))
    return [*layers, *(conv_bn_relu(outputs, outputs, 3) for _ in range(2 * blocks - 1))]
