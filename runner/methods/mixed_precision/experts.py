"""Matrices of experts that transformers keeps in one parameter, each under its name in files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.expert_names import expert_name
from runner.data.models.tensors import matrix_shapes
from runner.methods.backends.expert_layers import stored_names

if TYPE_CHECKING:
    import torch


class ExpertMatrix:
    """One matrix of one expert. Its weights are copied out of the parameter, and into it."""

    def __init__(self, experts: Any, parameter: str, index: tuple[Any, ...]) -> None:
        """Point to a part of a parameter.

        Args:
            experts: The module of all experts of a block.
            parameter: Its name in the module.
            index: Of the matrix in it.
        """
        self.experts = experts
        """The module of all experts of the block."""
        self._parameter, self._index = parameter, index

    @property
    def weight(self) -> "torch.Tensor":
        """A copy: what is put in its place does not change it."""
        return self.view.clone()

    @weight.setter
    def weight(self, value: "torch.Tensor") -> None:
        self.view.copy_(value.data)

    @property
    def view(self) -> "torch.Tensor":
        """The weights themselves."""
        found: torch.Tensor = getattr(self.experts, self._parameter).data[self._index]
        return found


def expert_matrices(model: Any, model_directory: Path) -> dict[str, ExpertMatrix]:
    """Matrices of all fused experts, by their layers' names in the model's files.

    Empty where there are none, or where the files have them in another form than one by one, which
    is the form that llm-compressor writes and transformers reads back.

    Args:
        model: A causal language model of transformers.
        model_directory: Where its files are.
    """
    fused = {
        block: module
        for path, module in model.named_modules()
        if (block := _block_of(path)) is not None and _is_plain(module)
    }
    own = {stored: name for name, stored in stored_names(model).items()} if fused else {}
    found = {}
    for layer, shape in matrix_shapes(model_directory).items():
        name = expert_name(layer)
        if name is None or name.block not in fused or name.leaf not in own:
            continue
        module = fused[name.block]
        matrix = _matrix(module, own[name.leaf], name.number)
        if tuple(matrix.view.shape) != shape:
            return {}
        found[layer] = matrix
    return found


def _block_of(path: str) -> int | None:
    """The number of the block whose experts a module is."""
    name = expert_name(f"{path}.0.weight")
    return None if name is None else name.block


def _is_plain(module: Any) -> bool:
    """Whether rows of its parameters are outputs, gates and ups one after the other.

    As llm-compressor takes them apart; the attributes are transformers'.
    """
    return (
        getattr(module, "has_gate", False)
        and getattr(module, "is_concatenated", False)
        and not getattr(module, "is_transposed", True)
        and not getattr(module, "has_bias", True)
    )


def _matrix(module: Any, own: str, number: int) -> ExpertMatrix:
    if own == "down_proj":
        return ExpertMatrix(module, own, (number,))
    half = module.gate_up_proj.shape[1] // 2
    rows = slice(0, half) if own == "gate_proj" else slice(half, None)
    return ExpertMatrix(module, "gate_up_proj", (number, rows))
