"""Bytes of a checkpoint that are read for one generated token, as stage ``bench`` counts them."""

import math
from pathlib import Path

from runner.data.models.architecture.reading import architecture_of
from runner.data.models.config_json import read_config
from runner.data.models.expert_names import expert_layers, expert_name
from runner.data.models.layers import part_of
from runner.data.models.tensors import matrix_shapes
from runner.data.models.weights import tensor_headers


def routed_share(model: Path) -> float:
    """Part of a layer's routed experts that a token meets; 1 in a dense model."""
    if not expert_layers(matrix_shapes(model)):
        return 1.0
    found = architecture_of(read_config(model / "config.json"))
    return (found.experts_per_token or 0) / (found.experts or 1) or 1.0


def active_bytes(checkpoint: Path, share: float) -> int:
    """All tensors, but of experts only the share that a token meets, rounded up.

    An input embedding that is not the head as well is not counted: of it one row is read.

    Args:
        checkpoint: Directory of safetensors files.
        share: Of ``routed_share``.
    """
    sizes = {"experts": 0, "embedding": 0, "head": 0, "other": 0}
    for name, header in tensor_headers(checkpoint).items():
        layer = name.rpartition(".")[0]
        part = "experts" if expert_name(layer) else part_of(layer)
        sizes[part if part in sizes else "other"] += header.bytes
    read = sizes["other"] + sizes["head"] + math.ceil(share * sizes["experts"])
    return read if sizes["head"] else read + sizes["embedding"]
