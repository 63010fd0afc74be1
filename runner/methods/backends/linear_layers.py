"""Which linear layers a backend without rules of its own is to quantize."""

from typing import TYPE_CHECKING, Any

from runner.data.models.layers import part_of
from runner.methods.backends.packed import ignored_layers

if TYPE_CHECKING:
    import torch


def quantized_layers(model: Any, patterns: list[str]) -> "dict[str, torch.nn.Linear]":
    """Linear layers by name, without heads, routers and what is to be ignored.

    Args:
        model: A transformers model.
        patterns: ``method.ignore``: names, or ``re:`` and a regular expression.

    Raises:
        StageError: The output embedding is not among them, or a name is no layer's.
    """
    left = dense_layers(model, patterns)
    return {name: module for name, module in _linear(model).items() if name not in left}


def dense_layers(model: Any, patterns: list[str]) -> list[str]:
    """Names of the linear layers that stay as they are, heads and routers included.

    Raises:
        StageError: The output embedding is not among the patterns, or a name is no layer's.
    """
    ignored = set(ignored_layers(model, patterns))
    head = model.get_output_embeddings()
    return sorted(
        name
        for name, module in _linear(model).items()
        if module is head or name in ignored or part_of(name) == "router"
    )


def _linear(model: Any) -> "dict[str, torch.nn.Linear]":
    import torch

    modules = model.named_modules()
    return {name: module for name, module in modules if isinstance(module, torch.nn.Linear)}
