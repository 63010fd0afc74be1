"""Layers of a model as a GGUF file of one type holds them: dequantized, and what they take."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.gguf_header import GgufHeader, read_header
from runner.data.models.gguf_model import dequantized
from runner.data.models.headers import read_headers
from runner.errors import StageError
from runner.methods.backends.llama_cpp import tensor_names
from runner.methods.mixed_precision.layer_groups import Unit

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class RowOrders:
    """Where an unquantized GGUF file has the rows of a model's matrices.

    llama.cpp's converter puts those of some families' queries and keys into an order of its own.
    """

    def __init__(self, file: Path, names: dict[str, str]) -> None:
        """Read the file's header.

        Args:
            file: With the weights as they are.
            names: Of tensors, by module: see ``tensor_names``.
        """
        self.names = names
        """Of tensors, by module."""
        self._header = read_header(file)
        self._known: dict[str, NDArray[np.intp] | None] = {}

    def of(self, layer: str, original: "torch.Tensor") -> "NDArray[np.intp] | None":
        """Of each row of a layer its number in the file; ``None`` where it is its own.

        Raises:
            StageError: The file has other weights.
        """
        if layer not in self._known:
            self._known[layer] = self._found(layer, original)
        return self._known[layer]

    def _found(self, layer: str, original: "torch.Tensor") -> "NDArray[np.intp] | None":
        import numpy as np

        stored = as_rows(self._header, self.names[layer], original)
        own = stored.reshape(-1, stored.shape[-1]).float().numpy()
        wanted = original.detach().cpu().float().reshape(-1, original.shape[-1]).numpy()
        if np.array_equal(own, wanted):
            return None
        places = {row.tobytes(): number for number, row in enumerate(own)}
        try:
            return np.array([places[row.tobytes()] for row in wanted])
        except KeyError:
            raise StageError(
                f"{self.names[layer]} of the GGUF file has other weights than {layer} of the "
                "model: choose a type for all with method.quant_type"
            ) from None


def as_rows(header: GgufHeader, name: str, like: "torch.Tensor") -> "torch.Tensor":
    """A tensor of a file in the type of another."""
    import torch

    return torch.from_numpy(dequantized(header, name).copy()).to(like.dtype)


class TypedLayers:
    """A file, and a model's modules whose weights are in it."""

    def __init__(self, file: Path, kind: str, orders: RowOrders) -> None:
        """Read the file's header.

        Args:
            file: Of stage ``uniform``.
            kind: The type, as llama.cpp calls it.
            orders: Of the unquantized file that it was made of.
        """
        self.kind = kind
        self.names = orders.names
        """Of tensors, by module."""
        self._orders = orders
        self._header = read_header(file)
        self._stored = read_headers(file)

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
                f"sensitivity has no part of the model for {lost[0]}; choose a type with "
                "method.quant_type"
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
            StageError: The unquantized file does not have the original.
        """
        order = self._orders.of(layer, original)
        weight = as_rows(self._header, self.names[layer], original)
        if order is not None:
            weight = weight.reshape(-1, weight.shape[-1])[order]
        return weight.reshape(original.shape).to(original.device)


def typed_layers(files: dict[str, Path], lossless: Path, units: list[Unit]) -> list[TypedLayers]:
    """Files of one type each, of a model whose units are given.

    Args:
        files: By type.
        lossless: What they were made of.
        units: Of the model.

    Raises:
        StageError: The files have matrices that no unit has, such as fused experts.
    """
    layers = [layer for unit in units for layer in unit.layers]
    names = tensor_names(lossless, layers)
    if lost := [layer for layer in layers if layer not in names]:
        raise StageError(
            f"the GGUF file has no tensor for {lost[0]}, so that its type cannot be chosen by its "
            "sensitivity; choose one for all with method.quant_type"
        )
    orders = RowOrders(lossless, names)
    found = [TypedLayers(file, kind, orders) for kind, file in files.items()]
    for one in found:
        one.require_all()
    return found
