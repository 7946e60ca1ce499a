"""How long graphs take beside each other, one thread, one process, turn by turn.

`python -m training.latency --presets fast balanced` times untrained graphs, for choosing an
architecture; without `--presets`, the graphs of the model store.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort

from training import manifest
from training.arguments import positive, told
from training.evaluate import STORE, opened
from training.export import Served
from training.graph import fold, write_graph
from training.network import build
from training.recipe import PRESETS

FACES = (1, 32)


def milliseconds(graphs: Mapping[str, Path], faces: int, rounds: int) -> dict[str, float]:
    """A low quantile of each graph's times; taking turns lets a busy moment hit all of them alike."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {name: opened(path, options) for name, path in graphs.items()}
    crops = np.random.default_rng(0).integers(0, 256, (faces, 1, 48, 48), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = perf_counter()
            session.run(None, {"crops": crops})
            times[name].append((perf_counter() - start) * 1000)
    return {name: float(np.quantile(values, 0.2)) for name, values in times.items()}


def untrained(presets: list[str], folder: Path) -> dict[str, Path]:
    """Write the graph of each preset with random weights."""
    graphs = {name: folder / f"{name}.onnx" for name in presets}
    for name, path in graphs.items():
        write_graph(Served(fold(build(PRESETS[name]).eval()), 1.0).eval(), path)
    return graphs


def table(graphs: Mapping[str, Path], rounds: int) -> str:
    """Sizes, times and their ratio to `balanced` (or the first graph)."""
    base = "balanced" if "balanced" in graphs else next(iter(graphs))
    lines = [f"{'graph':<12}{'bytes':>10}" + "".join(f"{f'{n} faces':>12}{'ratio':>8}" for n in FACES)]
    measured = [milliseconds(graphs, faces, rounds) for faces in FACES]
    for name, path in graphs.items():
        cells = "".join(f"{times[name]:>9.2f} ms{times[name] / times[base]:>8.2f}" for times in measured)
        lines.append(f"{name:<12}{path.stat().st_size:>10}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PRESETS)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--rounds", type=positive, default=100)
    arguments = parser.parse_args()
    with told("latency"), tempfile.TemporaryDirectory() as folder:
        if arguments.presets:
            graphs = untrained(arguments.presets, Path(folder))
        else:
            entries = manifest.models(arguments.store)
            graphs = {name: arguments.store / entry["file"] for name, entry in entries.items()}
        print(table(graphs, arguments.rounds))


if __name__ == "__main__":
    main()
