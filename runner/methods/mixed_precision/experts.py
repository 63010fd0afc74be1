"""Matrices that transformers has in no linear layer of their own, by the names of layers.

Experts, which are one parameter of a block, and GPT-2's Conv1D, which has inputs for rows.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.expert_names import expert_name
from runner.data.models.tensors import matrix_shapes
from runner.methods.backends.expert_layers import stored_names

if TYPE_CHECKING:
    import torch


class HeldMatrix:
    """Weights of outputs and inputs, copied out of a parameter that has more, and into it."""

    @property
    def view(self) -> "torch.Tensor":
        """The weights themselves."""
        raise NotImplementedError

    @property
    def weight(self) -> "torch.Tensor":
        """A copy: what is put in its place does not change it."""
        return self.view.clone()

    @weight.setter
    def weight(self, value: "torch.Tensor") -> None:
        self.view.copy_(value.data)


class TransposedMatrix(HeldMatrix):
    """That of a Conv1D."""

    def __init__(self, module: Any) -> None:
        """Point to a module's parameter."""
        self._module = module

    @property
    def view(self) -> "torch.Tensor":
        """The weights themselves."""
        found: torch.Tensor = self._module.weight.data.T
        return found


class ExpertMatrix(HeldMatrix):
    """One matrix of one expert, or of all experts of a block."""

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
    def view(self) -> "torch.Tensor":
        """The weights themselves."""
        found: torch.Tensor = getattr(self.experts, self._parameter).data[self._index]
        return found


def matrices_of_files(model: Any) -> dict[str, HeldMatrix]:
    """Matrices as GGUF files have them: those of all experts of a block are one.

    Args:
        model: A causal language model of transformers.

    Returns:
        By names such as ``model.layers.0.mlp.experts.gate_proj``.
    """
    from transformers.pytorch_utils import Conv1D

    found: dict[str, HeldMatrix] = {}
    for path, module in model.named_modules():
        if isinstance(module, Conv1D):
            found[path] = TransposedMatrix(module)
        elif _block_of(path) is not None and _is_plain(module):
            for own in ("gate_proj", "up_proj", "down_proj"):
                found[f"{path}.{own}"] = _matrix(module, own, slice(None))
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


def _matrix(module: Any, own: str, number: int | slice) -> ExpertMatrix:
    if own == "down_proj":
        return ExpertMatrix(module, own, (number,))
    half = module.gate_up_proj.shape[1] // 2
    rows = slice(0, half) if own == "gate_proj" else slice(half, None)
    return ExpertMatrix(module, "gate_up_proj", (number, rows))
