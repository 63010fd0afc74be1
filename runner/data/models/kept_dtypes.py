"""Keeps the dtypes of tensors that a checkpoint leaves unquantized."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.weights import TORCH_NAMES, stored_dtype, tensor_headers, weight_files

if TYPE_CHECKING:
    import torch


class KeptDtypes:
    """What a model's tensors are stored in. Some have norms or routers wider than the rest."""

    def __init__(self, model_directory: Path) -> None:
        """Read the headers of the model's files."""
        self._model = model_directory
        self._names = {
            name: TORCH_NAMES[header.dtype]
            for name, header in tensor_headers(model_directory).items()
            if header.dtype in TORCH_NAMES
        }
        self._usual = stored_dtype(model_directory)

    @property
    def usual(self) -> "torch.dtype":
        """Of most of the model's numbers."""
        import torch

        dtype: torch.dtype = getattr(torch, self._usual)
        return dtype

    def of(self, name: str) -> "torch.dtype | None":
        """Of a tensor of the model's; ``None`` where it has none of that name."""
        import torch

        return getattr(torch, self._names[name]) if name in self._names else None

    def bring_back(self, checkpoint: Path) -> None:
        """Put the model's own tensors in place of those that were merely cast.

        For backends that hold what they do not quantize in a type of their own, and change it
        in no other way.
        """
        from safetensors import safe_open
        from safetensors.torch import save_file

        originals: dict[str, Path] = {}
        for file in weight_files(self._model):
            with safe_open(file, framework="pt") as tensors:
                originals |= dict.fromkeys(tensors.keys(), file)
        for path in weight_files(checkpoint):
            with safe_open(path, framework="pt") as tensors:
                metadata = tensors.metadata()
                content = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
            cast = [
                name
                for name, tensor in content.items()
                if (dtype := self.of(name)) is not None
                and tensor.dtype.is_floating_point
                and tensor.dtype.itemsize > 1
                and tensor.dtype is not dtype
            ]
            for name in cast:
                with safe_open(originals[name], framework="pt") as tensors:
                    original = tensors.get_tensor(name)
                if original.shape == content[name].shape:
                    content[name] = original
            if cast:
                save_file(content, path, metadata=metadata)
