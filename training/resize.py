"""Gives a ShuffleNet V2 the weights of one of other widths, or of more units, to train on from there.

A wider network has the channels of the narrower one and more. Weights from the new channels to the old ones
are zero, so it answers as before (as networks do that grow by Net2Net: Chen, Goodfellow, Shlens, 2016, which
divides channels instead). After a shuffle a channel's place decides which units read it: each goes to a place
that the same layers read. Where the other network is narrower, the channels that say most are kept. Where it
has fewer units in a stage, the last are left out; channels that only they read go where there is room.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from training.shufflenet import Architecture, DownsamplingUnit, ShuffleNetV2, Unit

Channel = tuple[str, int]  # the layer that writes it, and its number there
Pairs = list[tuple[int, int]]  # positions in the network that gives, and in the one that takes
Normed = tuple[nn.Conv2d, nn.BatchNorm2d]
STEM, HEAD, CLASSIFIER = "stem", "head", "classifier"
IMAGE: Channel = ("image", 0)


@dataclass(frozen=True)
class Layer:
    """A dense convolution with its normalisation, and the depthwise one of the channels that it reads."""

    dense: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d | None = None
    depthwise: Normed | None = None


@torch.no_grad()
def resize(source: ShuffleNetV2, network: ShuffleNetV2) -> None:
    """Give `network` what it can hold of `source`: no deeper, with as many logits, and on the same device."""
    theirs, ours = dict(_layers(source)), dict(_layers(network))
    given, taken = wiring(source.architecture), wiring(network.architecture)
    places = _places(given, taken, _strengths(theirs, given))
    places |= {logit: logit for logit in _channels(CLASSIFIER, network.classifier.out_features)}
    for name, layer in ours.items():
        rows = [(old, new) for (writer, old), (_, new) in places.items() if writer == name]
        position = {channel: index for index, channel in enumerate(taken[name])}
        columns = [
            (index, position[places[channel]])
            for index, channel in enumerate(given[name])
            if places.get(channel) in position
        ]
        _copy(theirs[name], layer, rows, columns)


def _places(
    given: dict[str, list[Channel]], taken: dict[str, list[Channel]], strengths: dict[Channel, float]
) -> dict[Channel, Channel]:
    """Where each channel goes for which there is room: to where the same layers read it, or none of them."""
    room = _by_readers(taken, {})
    places: dict[Channel, Channel] = {}
    for group, channels in _by_readers({name: given[name] for name in taken}, strengths).items():
        places |= zip(channels, room.get(group, []), strict=False)
    left = [channel for channel in chain(*_by_readers(given, strengths).values()) if channel not in places]
    free = [channel for channel in chain(*room.values()) if channel not in places.values()]
    for writer in taken:
        old, new = ([channel for channel in some if channel[0] == writer] for some in (left, free))
        places |= zip(old, new, strict=False)
    return places


def wiring(architecture: Architecture) -> dict[str, list[Channel]]:
    """The channels that each layer reads, in order."""
    x = _channels(STEM, architecture.stem)
    found: dict[str, list[Channel]] = {STEM: [IMAGE]}
    for stage, (outputs, units) in enumerate(zip(architecture.stages, architecture.repeats, strict=True)):
        half = outputs // 2
        for unit in range(units):
            name = f"{stage}.{unit}"
            if unit:
                kept, worked = x[:half], x[half:]
            else:
                found[f"{name}.shortcut"] = worked = x
                kept = _channels(f"{name}.shortcut", half)
            found[f"{name}.first"] = worked
            found[f"{name}.second"] = _channels(f"{name}.first", half)
            x = list(chain.from_iterable(zip(kept, _channels(f"{name}.second", half), strict=True)))
    return found | {HEAD: x, CLASSIFIER: _channels(HEAD, architecture.head)}


def _channels(layer: str, count: int) -> list[Channel]:
    return [(layer, number) for number in range(count)]


def _layers(network: ShuffleNetV2) -> Iterator[tuple[str, Layer]]:
    """The layers by the names that `wiring` gives them."""
    stem, *units, head = network.features
    yield STEM, Layer(*_normed(stem))
    stage, unit = -1, 0
    for module in units:
        assert isinstance(module, Unit | DownsamplingUnit)
        if isinstance(module, DownsamplingUnit):
            stage, unit = stage + 1, 0
            depthwise, dense = module.shortcut
            yield f"{stage}.{unit}.shortcut", Layer(*_normed(dense), _normed(depthwise))
        first, depthwise, second = module.branch
        yield f"{stage}.{unit}.first", Layer(*_normed(first))
        yield f"{stage}.{unit}.second", Layer(*_normed(second), _normed(depthwise))
        unit += 1
    yield HEAD, Layer(*_normed(head))
    yield CLASSIFIER, Layer(network.classifier)


def _normed(sequence: nn.Module) -> Normed:
    """The convolution that a sequence begins with, and its normalisation."""
    convolution, norm, *_ = sequence.children()
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return convolution, norm


def _strengths(layers: dict[str, Layer], read: dict[str, list[Channel]]) -> dict[Channel, float]:
    """How much each channel can change what is computed of it, squared."""
    found: dict[Channel, float] = {}
    for name, layer in layers.items():
        columns = layer.dense.weight.square().sum(0).reshape(len(read[name]), -1).sum(1)
        for channel, square in zip(read[name], columns.tolist(), strict=True):
            writer = layers.get(channel[0])
            if writer is not None and writer.norm is not None:
                scale = float(writer.norm.weight[channel[1]])
                found[channel] = found.get(channel, 0.0) + square * scale**2
    return found


def _by_readers(
    read: dict[str, list[Channel]], strengths: dict[Channel, float]
) -> dict[tuple[str, frozenset[str]], list[Channel]]:
    """Channels by the layer that writes them and the layers that read them, the strongest first."""
    readers: dict[Channel, set[str]] = {}
    for reader, channels in read.items():
        for channel in channels:
            readers.setdefault(channel, set()).add(reader)
    groups: dict[tuple[str, frozenset[str]], list[Channel]] = {}
    for channel in sorted(readers, key=lambda channel: -strengths.get(channel, 0.0)):
        groups.setdefault((channel[0], frozenset(readers[channel])), []).append(channel)
    return groups


def _copy(old: Layer, new: Layer, rows: Pairs, columns: Pairs) -> None:
    """Copy the weights from these inputs to these outputs; all other inputs of the outputs count nothing."""
    reading, writing = ([index for index, _ in pairs] for pairs in (columns, rows))
    to_read, to_write = ([index for _, index in pairs] for pairs in (columns, rows))
    new.dense.weight[to_write] = 0.0
    wanted = torch.tensor(writing)[:, None], torch.tensor(reading)
    new.dense.weight[torch.tensor(to_write)[:, None], torch.tensor(to_read)] = old.dense.weight[wanted]
    if old.dense.bias is not None and new.dense.bias is not None:
        new.dense.bias[to_write] = old.dense.bias[writing]
    if old.norm and new.norm:
        _copy_norm(old.norm, new.norm, writing, to_write)
    if old.depthwise and new.depthwise:
        (old_filter, old_norm), (new_filter, new_norm) = old.depthwise, new.depthwise
        new_filter.weight[to_read] = old_filter.weight[reading]
        _copy_norm(old_norm, new_norm, reading, to_read)


def _copy_norm(old: nn.BatchNorm2d, new: nn.BatchNorm2d, channels: list[int], places: list[int]) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(new, name)[places] = getattr(old, name)[channels]
