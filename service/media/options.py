"""Options that several commands take, each said once: its name, its bounds and its help."""

import math
from pathlib import Path
from typing import Annotated

import typer

from service.settings import CLIENT_KEY


def _number(value: float | None) -> float | None:
    """Refuse `nan`, which is within any bounds."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("it must be a number")
    return value


ModelOption = Annotated[str | None, typer.Option("--model", help="Emotion model; see `fer-service models`.")]
FaceSizeOption = Annotated[
    float | None,
    typer.Option(
        min=12,
        max=65_535,
        callback=_number,
        help="Smallest face in pixels. Default: the larger of 40 and 4 % of the longer side "
        "(in a strip, of 40 and a quarter of the shorter side).",
    ),
]
ConfidenceOption = Annotated[
    float, typer.Option(min=0, max=1, callback=_number, help="Leave out less certain detections.")
]
MaxFacesOption = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Only the largest so many faces.")
]
ServerOption = Annotated[str | None, typer.Option(metavar="URL", help="Let a running service do the work.")]
KeyOption = Annotated[
    str | None, typer.Option(envvar=CLIENT_KEY, help="Key for the server.", show_default=False)
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, max=256, help="Images at once. Default: one a CPU; 4 with --server.")
]
RayOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Let a Ray cluster do the work: auto, or HOST:PORT."),
]
RecursiveOption = Annotated[bool, typer.Option("--recursive", "-r", help="Also folders in folders.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Forget an interrupted run.")]
StoreOption = Annotated[Path | None, typer.Option(help="Folder of graphs with a manifest.json.")]
