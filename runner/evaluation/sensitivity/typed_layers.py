"""Layers of a model as a GGUF file of one type holds them: dequantized, and what they take."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.gguf_header import read_header
from runner.data.models.gguf_model import dequantized, tensor_processor
from runner.data.models.headers import read_headers
from runner.errors import StageError
from runner.methods.backends.llama_cpp import tensor_names
from runner.methods.mixed_precision.layer_groups import Unit

if TYPE_CHECKING:
    import torch

_MOST_ERROR = 1.0
"""Squared error of rounded weights, as a share of their squares. Types of 1 bit reach 0.4, weights
in another order 2."""


class TypedLayers:
    """A file, and a model's modules whose weights are in it."""

    def __init__(self, file: Path, kind: str, names: dict[str, str]) -> None:
        """Read the file's header.

        Args:
            file: Of stage ``uniform``.
            kind: The type, as llama.cpp calls it.
            names: Of tensors, by module: see ``tensor_names``.
        """
        self.kind = kind
        self.names = names
        """Of tensors, by module."""
        self._header = read_header(file)
        self._stored = read_headers(file)
        self._processor = tensor_processor(self._header)

    def has(self, unit: Unit) -> bool:
        """Whether all of a unit's tensors have the type."""
        return all(self._stored[self.names[one]].dtype == self.kind for one in unit.layers)

    def require_all(self) -> None:
        """See that no rounded matrix is left that has no unit.

        Raises:
            StageError: Some is, such as the experts of a layer in one tensor.
        """
        known = {*self.names.values()}
        rounded = [name for name, one in self._stored.items() if one.dtype == self.kind]
        if lost := [name for name in rounded if name not in known]:
            raise StageError(
                "bits=auto through llama.cpp needs the sensitivity of every matrix, and stage "
                f"sensitivity rounds linear layers and embeddings alone, not {lost[0]}; choose a "
                "type with method.quant_type"
            )

    def stored_bytes(self, units: list[Unit]) -> int:
        """Of the tensors of some units, each counted once."""
        tensors = {self.names[layer] for unit in units for layer in unit.layers}
        return sum(self._stored[name].bytes for name in tensors)

    @property
    def all_bytes(self) -> int:
        """Of all tensors."""
        return sum(one.bytes for one in self._stored.values())

    def weight(self, layer: str, original: "torch.Tensor") -> "torch.Tensor":
        """A layer's weights after rounding, in the order and type of the original.

        Raises:
            StageError: They are not the original's rounded: the file has them in another order.
        """
        import torch

        name = self.names[layer]
        values = self._processor.process(weights=dequantized(self._header, name), name=name)
        weight = torch.from_numpy(values.weights.copy()).to(original.device)
        error = float((weight - original.float()).square().sum())
        if not error < _MOST_ERROR * float(original.float().square().sum()):
            raise StageError(f"{name} of the GGUF file is not {layer} of the model, rounded")
        return weight.to(original.dtype)


def typed_layers(files: dict[str, Path], units: list[Unit]) -> list[TypedLayers]:
    """Files of one type each, of a model whose units are given.

    Raises:
        StageError: The files have matrices that no unit has, such as fused experts.
    """
    layers = [layer for unit in units for layer in unit.layers]
    first = next(iter(files.values()))
    names = tensor_names(first, layers)
    if lost := [layer for layer in layers if layer not in names]:
        raise StageError(f"the GGUF file has no tensor for {lost[0]}")
    found = [TypedLayers(file, kind, names) for kind, file in files.items()]
    for one in found:
        one.require_all()
    return found
