"""The output matrix of a checkpoint in safetensors files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.engines.distributions import LinearHead

if TYPE_CHECKING:
    import torch


def find_head(model: Any, checkpoint: Path) -> LinearHead | None:
    """Where the output matrix of a loaded model is stored; ``None`` when it is nowhere.

    It is nowhere when it was quantized, changed while it was loaded, or has a bias.
    """
    import torch

    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        return None
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter is not head.weight:
            continue
        stored = _read(checkpoint, name)
        if stored is not None and torch.equal(stored.to(parameter), parameter):
            return LinearHead(name, str(parameter.dtype).removeprefix("torch."))
    return None


def read_head(checkpoint: Path, head: LinearHead, device: str) -> "torch.Tensor":
    """The matrix, of shape (vocabulary, hidden size), as it was when it was found.

    Raises:
        FileNotFoundError: The checkpoint does not have it.
    """
    import torch

    stored = _read(checkpoint, head.tensor)
    if stored is None:
        raise FileNotFoundError(f"{checkpoint} has no tensor {head.tensor}")
    return stored.to(device, getattr(torch, head.dtype))


def _read(checkpoint: Path, name: str) -> "torch.Tensor | None":
    from safetensors import safe_open

    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 - not a mapping
                found: torch.Tensor = tensors.get_tensor(name)
                return found
    return None
