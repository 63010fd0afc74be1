"""Names of the matrices of a mixture's experts, where a checkpoint has one for each."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_EXPERT = re.compile(r"(?P<experts>.*?\.layers\.(?P<block>\d+)\.(?:.*\.)?experts)"
                     r"\.(?P<number>\d+)\.(?P<leaf>\w+)")  # fmt: skip


class ExpertName(NamedTuple):
    """A name taken apart: ``model.layers.0.mlp.experts.3.up_proj``."""

    experts: str
    """Of all experts of the block: ``model.layers.0.mlp.experts``."""
    block: int
    number: int
    leaf: str


def expert_name(layer: str) -> ExpertName | None:
    """The parts of the name of an expert's layer; ``None`` for every other layer."""
    found = _EXPERT.fullmatch(layer)
    if found is None:
        return None
    return ExpertName(found["experts"], int(found["block"]), int(found["number"]), found["leaf"])


def expert_layers(layers: Iterable[str]) -> list[str]:
    """Those that belong to an expert."""
    return [layer for layer in layers if expert_name(layer) is not None]


def pattern_of(experts: str) -> str:
    """An expression for all layers of a block's experts, whatever lies between block and experts.

    Mixtral's are called ``block_sparse_moe`` in files and by vLLM, and ``mlp`` in transformers.

    Args:
        experts: Of ``ExpertName``.
    """
    found = re.match(r".*?\.layers\.\d+\.", experts)
    assert found is not None, "names without a block are none of experts"
    return f"re:{re.escape(found[0])}(.*\\.)?experts\\.\\d+\\."
