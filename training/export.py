"""From a run to a graph of the model store: fold, calibrate, export, compare, measure.

`python -m training.export --variant balanced --data fer2013.csv --run runs/balanced`

Of several runs one graph is made, in which they answer together (`training.ensemble`).
"""

import argparse
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from service.vision.types import EMOTIONS, LabelSet, UInt8Array
from training import card, manifest
from training.arguments import parser_of_data, told
from training.calibrate import Calibration, calibrate
from training.data import Faces, load
from training.duplicates import without
from training.ensemble import ensemble
from training.evaluate import STORE, probabilities
from training.graph import check_parity, fold, write_graph
from training.heads import has_two_heads
from training.held_out import division, split_held_out
from training.label_sets import has_votes, judged, shares
from training.manifest import ExportError
from training.metrics import report
from training.network import learned_by, load_network, predict
from training.recipe import SERVED, members
from training.serving import Serving, prepared

PARITY_IMAGES = 256


class Served(nn.Module):
    """The network as it is served: (N, 1, 48, 48) uint8 -> calibrated probabilities (N, 7) float32."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, crops: Tensor) -> Tensor:
        logits = self.network(crops.float() / 127.5 - 1)  # `to_network` in two steps instead of three
        probabilities: Tensor = (logits / self.temperature).softmax(dim=1)
        return probabilities


def served_network(runs: Mapping[Path, float], faces: Faces, serving: Serving) -> tuple[Served, Calibration]:
    """The averaged network of a run, or of several as one, calibrated on the images that it held out.

    Not on those that are, pixel by pixel, among what it learned. runs: with their weights.

    Raises ExportError where the runs held out different images, or learned from others than these faces, for
    they have learned what they would be calibrated by; and where a head is to be served that has learned no
    votes.
    """
    # The checkpoint's settings: those are the weights' own, whatever became of config.json.
    learned_from = {run: learned_by(run) for run in runs}
    held_out, *others = {(config.held_out, config.seed) for config, _ in learned_from.values()}
    if others:
        raise ExportError(f"{', '.join(run.name for run in runs)} held out different images")
    learned, seen = split_held_out(faces, *held_out)
    trained = [load_network(run) for run in runs]
    if serving.votes_share:
        check_votes(dict(zip(runs, trained, strict=True)), learned)
    check_images({run: images for run, (_, images) in learned_from.items()}, faces)
    networks = [prepared(network, learned.labels, serving) for network in trained]
    network = ensemble(networks, list(runs.values()))
    seen = judged(without(seen, learned), serving.label_set)
    truth = torch.from_numpy(shares(seen, serving.label_set))
    logits = predict(network, seen)
    if not logits.isfinite().all():
        raise ExportError(f"{', '.join(run.name for run in runs)} answers with what is no number: train anew")
    calibration = calibrate(logits, truth)
    return Served(fold(network), calibration.temperature).eval(), calibration


def check_images(learned_from: Mapping[Path, str], faces: Faces) -> None:
    """Raises ExportError where a run's fingerprint, if it has one, is not that of these faces."""
    given = faces.fingerprint()
    for run, images in learned_from.items():
        if images not in ("", given):
            raise ExportError(
                f"{run.name} learned from other images, labels or votes than the data has: "
                "pass the very --data, and --ferplus, that it was trained with (and no fewer --images)"
            )


def check_votes(trained: Mapping[Path, nn.Module], learned: Faces) -> None:
    """Raises ExportError where these runs, on these faces, have learned no votes."""
    if not has_votes(learned):
        raise ExportError(
            "the data has no FER+ votes: pass --ferplus with fer2013new.csv, or --votes-share 0"
        )
    for run, network in trained.items():
        if not has_two_heads(network):
            raise ExportError(f"{run.name} has no head that learned votes: pass --votes-share 0")


def export(runs: Mapping[Path, float], faces: Faces, store: Path, file: str, serving: Serving) -> Calibration:
    """Write the runs' averaged networks, with their weights, to `store / file` as one graph, calibrated.

    Raises ExportError where ONNX Runtime and PyTorch differ.
    """
    served, calibration = served_network(runs, faces, serving)
    write_graph(served, store / file)
    compare(served, store / file, faces.images[:PARITY_IMAGES])
    return calibration


def compare(served: nn.Module, path: Path, images: UInt8Array) -> float:
    """How far a graph is from PyTorch on images (N, 48, 48). Raises ExportError where it is too far."""
    with torch.no_grad():
        expected = served(torch.from_numpy(images)[:, None]).numpy()
    return check_parity(path, probabilities(path, images), expected)


def entry(
    store: Path,
    file: str,
    calibration: Calibration,
    *,
    label_set: LabelSet,
    provenance: Mapping[str, str],
    version: str,
) -> manifest.Entry:
    """The manifest entry of an exported graph, not yet measured."""
    base = manifest.graph_entry(store, file, version=version, licence="MIT", provenance=provenance)
    answers = {"labels": list(EMOTIONS), "label_set": label_set}
    return base | answers | {"uncertain_below": round(calibration.uncertain_below, 4)}


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that name the runs a graph is made of."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, nargs="+", help="several answer together, with equal weights")
    source.add_argument("--runs", type=Path, help="folder of the recipe's runs; takes the variant's members")


def source_of(arguments: argparse.Namespace) -> dict[Path, float]:
    """These runs, and their weights."""
    if arguments.run:
        return dict.fromkeys(arguments.run, 1.0)
    return {arguments.runs / name: weight for name, weight in members(arguments.variant).items()}


def _begun_with(runs: Iterable[Path]) -> dict[str, str]:
    """What the runs began with, as far as they did not begin with random weights."""
    configs = (learned_by(run)[0] for run in runs)
    digests = [f"sha256:{config.begun_with}" for config in configs if config.begun_with]
    return {"begun_with": ", ".join(digests)} if digests else {}


def main() -> None:
    """Parse the command line; export, then measure on the public test split and write the figures down."""
    parser = parser_of_data(__doc__)
    parser.add_argument("--variant", choices=SERVED, default="balanced")
    add_source(parser)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--version", help="of the graph (default: that of the one it replaces)")
    parser.add_argument(
        "--learned-from", help="what the manifest says of the data (default: FER2013's training split)"
    )
    parser.add_argument(
        "--votes-share",
        type=float,
        help="share of the head that learned FER+'s votes, 0 to 1 (default: the recipe's)",
    )
    parser.add_argument(
        "--adjustment",
        type=float,
        help="how far rare emotions are made up for, 0 to 1 (default: the recipe's)",
    )
    with told("export"):
        run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Export what the command line asks for. The store changes at the end, when all of it is known."""
    name, store, file = arguments.variant, arguments.store, f"emotion/{arguments.variant}.onnx"
    given = {key: value for key in asdict(SERVED[name]) if (value := getattr(arguments, key)) is not None}
    serving, runs = replace(SERVED[name], **given), source_of(arguments)
    learned, tested = (load(arguments.data, split, arguments.ferplus) for split in ("train", "public_test"))
    (store / file).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as folder:
        made = Path(folder)
        calibration = export(runs, learned, made, file, serving)
        found = entry(
            made,
            file,
            calibration,
            label_set=serving.label_set,
            provenance={
                **_origin(arguments, learned),
                "temperature": f"{calibration.temperature:.4f}",
                **serving.record(),
                **division(learned_by(next(iter(runs)))[0], learned),
                **_begun_with(runs),
            },
            version=arguments.version or _version(store, name),
        )
        answers = probabilities(made / file, tested.images)
        measured = report(answers, tested, found["uncertain_below"], serving.label_set)
        manifest.update(store, "emotion", {name: found | {"measured": measured.figures()}}, made)
    card.refresh(store)
    print(f"{store / file}: {found['bytes']} bytes\n{measured.text()}")


def _origin(arguments: argparse.Namespace, learned: Faces) -> dict[str, str]:
    """What the graph was learned from, and the command that makes it."""
    name = arguments.variant
    runs = " ".join(run.name for run in arguments.run or ())
    exported = f"python -m training.export --variant {name} --run {runs}"
    votes = " with FER+ votes" if has_votes(learned) else ""
    return {
        "data": arguments.learned_from or f"FER2013 training split{votes}",
        "command": exported if arguments.run else f"make train MODEL={name}",
    }


def _version(store: Path, name: str) -> str:
    """That of the graph which is replaced."""
    known = manifest.models(store) if (store / manifest.MANIFEST).exists() else {}
    return str(known[name]["version"]) if name in known else "1"


if __name__ == "__main__":
    main()
