"""Reads and writes `model_store/manifest.json`, the contract between training and the service."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from training.files import aside

MANIFEST = "manifest.json"
Entry = dict[str, Any]


class StoreError(ValueError):
    """The store has no manifest, or not the model that is asked for."""


class ExportError(StoreError):
    """A graph may not go into the store."""


def read(store: Path) -> dict[str, Any]:
    """The manifest of a store. Raises StoreError."""
    try:
        found: dict[str, Any] = json.loads((store / MANIFEST).read_bytes())
    except OSError as error:
        raise StoreError(f"{store} is no model store: {MANIFEST} cannot be read") from error
    except ValueError as error:
        raise StoreError(f"{store / MANIFEST} is not JSON") from error
    return found


def section(store: Path, name: str) -> dict[str, Any]:
    """One of its sections: "emotion" or "detector". Raises StoreError."""
    found = read(store)
    if not isinstance(found, dict) or not isinstance(found.get(name), dict):
        raise StoreError(f"{store / MANIFEST} has no section {name!r}")
    return dict(found[name])


def models(store: Path) -> dict[str, Entry]:
    """The emotion models of a store. One that says nothing of its label set is older than the second."""
    return {name: {"label_set": "fer2013"} | entry for name, entry in section(store, "emotion").items()}


def model(store: Path, name: str) -> Entry:
    """One of them. Raises StoreError."""
    found = models(store)
    if name not in found:
        raise StoreError(f"no model {name!r} in {store}: it holds {', '.join(found)}")
    return found[name]


def graph_entry(
    store: Path, file: str, *, version: str, licence: str, provenance: Mapping[str, str]
) -> Entry:
    """What the manifest says of a graph file: its checksum and shapes are read from the file itself."""
    data = (store / file).read_bytes()
    graph = onnx.load_from_string(data).graph
    return {
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "version": version,
        "licence": licence,
        "provenance": dict(provenance),
        "inputs": [_tensor(value) for value in graph.input],
        "outputs": [_tensor(value) for value in graph.output],
    }


def update(store: Path, section: str, entries: Mapping[str, Entry], made: Path | None = None) -> None:
    """Put entries into a section ("detector" or "emotion"), leaving the others as they are.

    made: a folder on the store's disk, laid out as the store is, whose graphs of these entries move there.
    """
    path = store / MANIFEST
    empty: dict[str, Any] = {"detector": {}, "default": "balanced", "emotion": {}}
    manifest = read(store) if path.exists() else empty
    manifest[section].update(entries)
    # A service that starts meanwhile reads the one or the other.
    with aside(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
        # At the last moment: a store whose graph is not the one that its manifest tells of is not served.
        if made is not None:
            for entry in entries.values():
                (made / entry["file"]).replace(store / entry["file"])


def _tensor(value: onnx.ValueInfoProto) -> Entry:
    kind = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        "shape": [dimension.dim_param or dimension.dim_value for dimension in kind.shape.dim],
    }
