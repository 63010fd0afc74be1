"""Reads checkpoints of HQQ and torchao as dense models, in plain torch.

transformers has no code for the first, and needs the second's library, which computes its 4 bits
on GPUs alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.weights import weight_files
from runner.engines.hf.dequantize import filled, read_tensors, skeleton_of
from runner.engines.hf.hqq_layers import unpack_hqq
from runner.engines.hf.torchao_tensors import unpack_torchao
from runner.engines.hf.unpacked_layer import UnpackedLayer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_UNPACKERS: dict[str, Callable[[dict[str, Any], dict[str, str]], dict[str, UnpackedLayer]]] = {
    "hqq": lambda tensors, _: unpack_hqq(tensors),
    "torchao": unpack_torchao,
}
"""By format: of the tensors, which lose the layers' parts, and of the files' metadata."""
FORMATS = tuple(_UNPACKERS)


def load_unpacked(
    directory: Path, format: str, dtype: "torch.dtype", *, trust_remote_code: bool = False
) -> "PreTrainedModel":
    """Load a checkpoint into a model of dense weights that rounds activations as it says.

    Args:
        directory: The checkpoint.
        format: One of ``FORMATS``.
        dtype: Of the dense weights.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        StageError: The checkpoint lacks weights of the model, or is packed in an unknown way.
    """
    skeleton, _ = skeleton_of(directory, trust_remote_code)
    tensors = read_tensors(directory)
    layers = _UNPACKERS[format](tensors, _metadata(directory))
    tensors |= {f"{name}.weight": layer.weight.to(dtype) for name, layer in layers.items()}
    model = filled(skeleton, tensors, dtype, directory)
    for name, layer in layers.items():
        if layer.round_activations is not None:
            model.get_submodule(name).register_forward_pre_hook(_rounding(layer.round_activations))
    return model


def _rounding(function: Callable[["torch.Tensor"], "torch.Tensor"]) -> Any:
    """A hook that rounds what a layer is given first."""
    return lambda _, inputs: (function(inputs[0]), *inputs[1:])


def _metadata(directory: Path) -> dict[str, str]:
    """Of all files together; torchao lists in each the tensors of that one."""
    from safetensors import safe_open

    metadata: dict[str, str] = {}
    names: list[str] = []
    for path in weight_files(directory):
        with safe_open(path, framework="pt") as file:
            own = file.metadata() or {}
        names += json.loads(own.get("tensor_names", "[]"))
        metadata |= own
    return metadata | {"tensor_names": json.dumps(names)}
