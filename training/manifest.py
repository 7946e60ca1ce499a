"""Writes `model_store/manifest.json`, the contract between training and the service."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

MANIFEST = "manifest.json"
Entry = dict[str, Any]


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


def update(store: Path, section: str, entries: Mapping[str, Entry]) -> None:
    """Put entries into a section ("detector" or "emotion"), leaving the others as they are."""
    path = store / MANIFEST
    manifest: dict[str, Any] = (
        json.loads(path.read_text())
        if path.exists()
        else {"detector": {}, "default": "balanced", "emotion": {}}
    )
    manifest[section].update(entries)
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def _tensor(value: onnx.ValueInfoProto) -> Entry:
    kind = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        "shape": [dimension.dim_param or dimension.dim_value for dimension in kind.shape.dim],
    }
