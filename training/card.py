"""Keeps the figures in the model card and the README equal to the manifest's: `python -m training.card`.

The text around them is written by hand. `--check` changes nothing and fails where a page has fallen behind.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.vision.types import EMOTIONS
from training import manifest
from training.arguments import told
from training.evaluate import STORE
from training.files import write_text
from training.label_sets import FER2013, FERPLUS
from training.metrics import public, wilson_interval

Models = Mapping[str, Mapping[str, Any]]


HEADS = ("variant", "file", "on FER2013's labels", "on FER+'s majority", "macro F1", "calibration error")
EMOTION_HEADS = ("emotion", "images", "recall", "95 % interval", "most often taken for")
TRUTH = {
    FER2013: "By FER2013's labels.",
    FERPLUS: "By the majority of FER+'s voters; calibrated to the share of those who name one of the seven.",
}


def summary(models: Models) -> str:
    """One row for each variant."""
    rows = []
    for name, entry in models.items():
        found, prefix = entry["measured"], public(entry["label_set"])
        cells = [
            percent(found, key)
            for key in ("fer2013_public_accuracy", "ferplus_public_accuracy", f"{prefix}_ece")
        ]
        f1 = f"{found[f'{prefix}_macro_f1']:.3f}"
        rows.append((f"`{name}`", f"{entry['bytes']:,} bytes", cells[0], cells[1], f1, cells[2]))
    return table(HEADS, rows)


def full(models: Models) -> str:
    """The summary, and for each variant its recalls, confusions and calibration."""
    return "\n\n".join([summary(models), *(variant(name, entry) for name, entry in models.items())])


def variant(name: str, entry: Mapping[str, Any]) -> str:
    """Everything the manifest says of one graph's answers."""
    found, prefix = entry["measured"], public(entry["label_set"])
    return f"""### `{name}`, version {entry["version"]}

{TRUTH[entry["label_set"]]}

{table(EMOTION_HEADS, [_emotion_row(found, prefix, emotion) for emotion in EMOTIONS])}

- Calibration error over 15 bins: {percent(found, f"{prefix}_ece")}; perfectly calibrated,
  with the same confidences and as many images, it would be {percent(found, f"{prefix}_ece_if_perfect")}.
- `uncertain` is true where the largest probability is under {entry["uncertain_below"]:.4f}.
  {percent(found, "certain_share")} of the answers are above it,
  {percent(found, "certain_accuracy")} of which are right.
- FER2013's labels: {percent(found, "fer2013_public_accuracy")}.
  FER+: {percent(found, "ferplus_public_accuracy")} of the {found.get("ferplus_public_images", 0):.0f} images
  whose majority vote is one of the seven emotions.
- sha256 `{entry["sha256"]}`, its recipe: `{entry["provenance"]["command"]}`."""


def percent(found: Mapping[str, float], key: str) -> str:
    """A figure of the manifest in percent."""
    return f"{found[key]:.2%}" if key in found else "not measured"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def refresh(store: Path, *, check: bool = False) -> list[Path]:
    """Bring a store's model card up to date, and a README beside the store that links to it.

    Returns those that had fallen behind.
    """
    models = {name: entry for name, entry in manifest.models(store).items() if _measured(entry)}
    behind = []
    for page in (store / "MODEL_CARD.md", store.parent / "README.md"):
        # A copy of the store may lie beside the README of another.
        if not page.exists() or (
            page.parent != store and f"]({store.name}/MODEL_CARD.md)" not in page.read_text()
        ):
            continue
        before = page.read_text()
        after = replaced(replaced(before, "summary", summary, models), "figures", full, models)
        if after != before:
            behind.append(page)
            if not check:
                write_text(page, after)
    return behind


def _measured(entry: manifest.Entry) -> bool:
    """Whether training measured it: a graph that others put there has no figures to show."""
    return f"{public(entry['label_set'])}_macro_f1" in entry.get("measured", {})


def replaced(page: str, marker: str, section: Callable[[Models], str], models: Models) -> str:
    """The page with what is between `<!-- marker -->` and `<!-- /marker -->` written anew, if it has them."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if start not in page or end not in page:
        return page
    before, rest = page.split(start, 1)
    _, after = rest.split(end, 1)
    return f"{before}{start}\n{section(models)}\n{end}{after}"


def _emotion_row(found: Mapping[str, float], prefix: str, emotion: str) -> tuple[str, ...]:
    prefix = f"{prefix}_{emotion}"
    count, recall = int(found[f"{prefix}_images"]), found[f"{prefix}_recall"]
    low, high = wilson_interval(round(recall * count), count)
    mistake = f"{prefix}_taken_for_"
    worst = [f"{key.removeprefix(mistake)} ({found[key]:.1%})" for key in found if key.startswith(mistake)]
    return emotion, str(count), f"{recall:.1%}", f"{low:.1%} to {high:.1%}", ", ".join(worst)


def main() -> None:
    """Parse the command line; write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with told("card"):
        behind = refresh(arguments.store, check=arguments.check)
    if behind and arguments.check:
        names = ", ".join(page.name for page in behind)
        raise SystemExit(f"card: {names} and the manifest disagree: run python -m training.card")


if __name__ == "__main__":
    main()
