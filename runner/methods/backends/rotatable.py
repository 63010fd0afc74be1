"""Which layers of a model rotations go through, and whether they can, before weights are read.

R1 rotates what flows from block to block (the residual stream), so everything that reads it or
writes it has to be a known linear layer, and every norm on the way has to stand before one: what a
norm behind a layer multiplies by (Gemma 2 and 3, OLMo 2) has nowhere to go. R2 rotates values
within heads, R4 inputs of ``down_proj``, QuIP's v and u inputs and outputs of every linear layer.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from runner.errors import Refused
from runner.methods.base import QuantizeJob

_READERS = {
    "input_layernorm": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "post_attention_layernorm": ("gate_proj", "up_proj", "gate_up_proj"),
}
"""Norms of a block, and the layers that read what they give."""
_WRITERS = ("o_proj", "down_proj")


@dataclass(frozen=True)
class Stream:
    """Layers along a model's residual stream."""

    norms: list[tuple[Any, list[Any]]]
    """Each norm with the layers behind it."""
    mapping: dict[str, Any]
    """Fields of llm-compressor's ``SpinQuantMapping``."""


def require_rotatable(
    job: QuantizeJob, rotations: Collection[str], transform_type: str, block_size: int | None
) -> None:
    """See on the model without weights that rotations have what they need.

    Args:
        job: The work.
        rotations: ``R1``, ``R2``, ``R4``, ``v``, ``u``.
        transform_type: llm-compressor's name of it.
        block_size: Of blocks on the diagonal; ``None``: as wide as what is rotated.

    Raises:
        Refused: They lack it.
    """
    from runner.methods.holders import skeleton

    model = skeleton(job.model_directory, job.trust_remote_code)
    for rotation in rotations:
        if (reason := _REASONS[rotation](model)) is not None:
            others = ("R2", "R1", "R4") if rotation.startswith("R") else ()
            able = [one for one in others if one != rotation and _REASONS[one](model) is None]
            instead = f"method.rotations=[{able[0]}] or " if able else ""
            raise Refused(
                f"{rotation} does not fit {type(model).__name__}: {reason}; try {instead}"
                "method=gptq"
            )
    _require_matrices(_widths(job, model, rotations), transform_type, block_size)


def stream_of(model: Any) -> Stream:
    """A model's norms and the layers behind them, in blocks of Llama's names."""
    norms = []
    for block in blocks_of(model):
        linears = _linears(block)
        for name, readers in _READERS.items():
            if (norm := getattr(block, name, None)) is not None:
                norms.append((norm, [one for leaf, one in linears if leaf in readers]))
    head, final = model.get_output_embeddings(), getattr(model.base_model, "norm", None)
    if final is not None:
        norms.append((final, [head]))
    names = {id(module): name for name, module in model.named_modules()}
    mapping = {
        "embedding": names[id(model.get_input_embeddings())],
        "lm_head": names[id(head)],
        "attn": "re:.*self_attn$",
        "attn_q": "re:.*(q_proj|qkv_proj)$",
        "attn_k": "re:.*k_proj$",
        "attn_v": "re:.*v_proj$",
        "attn_o": "re:.*o_proj$",
        "mlp_in": ["re:.*(up_proj|gate_proj)$"],
        "mlp_out": ["re:.*down_proj$"],
    }
    return Stream(norms, mapping)


def head_size(model: Any) -> int:
    """Values of an attention head."""
    config = model.config.get_text_config()
    stated = getattr(config, "head_dim", None)
    return int(stated or config.hidden_size // config.num_attention_heads)


def blocks_of(model: Any) -> list[Any]:
    """The model's decoder blocks."""
    return list(getattr(model.base_model, "layers", ()))


def _linears(block: Any) -> list[tuple[str, Any]]:
    from torch import nn

    return [
        (name.rsplit(".", 1)[-1], module)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    ]


def _against_r1(model: Any) -> str | None:
    from torch import nn

    if reasons := list(filter(None, map(_against_block, blocks_of(model)))):
        return reasons[0]
    norm = getattr(model.base_model, "norm", None)
    if not blocks_of(model) or norm is None:
        return "its blocks or its last norm are not where Llama has them"
    if isinstance(norm, nn.LayerNorm):
        return "LayerNorm takes the mean away, which no rotation leaves alone"
    if type(model.get_input_embeddings()) is not nn.Embedding:
        return f"its embedding is a {type(model.get_input_embeddings()).__name__}"
    return None


def _against_block(block: Any) -> str | None:
    from torch import nn

    known = {*_WRITERS, *(leaf for leaves in _READERS.values() for leaf in leaves)}
    for name, parameter in block.named_parameters():
        owner = block.get_submodule(name.rpartition(".")[0])
        if parameter.ndim > 1 and not isinstance(owner, nn.Linear):
            return f"{name} may read the rotated stream, and is no linear layer"
    if strange := sorted({leaf for leaf, _ in _linears(block)} - known):
        return f"nothing is known of what its layers {', '.join(strange)} read"
    norms = {name for name, one in block.named_children() if _is_norm(one)}
    if norms != {*_READERS}:
        return f"its blocks have the norms {', '.join(sorted(norms))}, not one before each part"
    return None


def _is_norm(module: Any) -> bool:
    return getattr(getattr(module, "weight", None), "ndim", 0) == 1


def _against_r2(model: Any) -> str | None:
    head = head_size(model)
    for block in blocks_of(model) or [None]:
        leaves = {} if block is None else dict(_linears(block))
        if not {"v_proj", "o_proj"} <= leaves.keys():
            return "its attention has no v_proj and o_proj of their own"
        if leaves["v_proj"].out_features % head or leaves["o_proj"].in_features % head:
            return f"its values are no whole heads of {head}"
    return None


def _against_r4(model: Any) -> str | None:
    if all("down_proj" in dict(_linears(block)) for block in blocks_of(model) or [model]):
        return None
    return "its blocks have no linear layer down_proj of their own"


def _against_all(model: Any) -> str | None:
    from llmcompressor.modeling.moe.linearize import get_non_linearized_moes

    if get_non_linearized_moes(model):
        return "readers fuse its experts, and rotate the inputs of no expert"
    return None


_REASONS: dict[str, Callable[[Any], str | None]] = {
    "R1": _against_r1, "R2": _against_r2, "R4": _against_r4, "v": _against_all, "u": _against_all,
}  # fmt: skip


def _widths(job: QuantizeJob, model: Any, rotations: Collection[str]) -> Iterator[tuple[str, int]]:
    """What each rotation is as wide as; a block size divides all but heads."""
    from compressed_tensors.utils import match_named_modules

    if "R1" in rotations:
        yield "R1", model.get_input_embeddings().weight.shape[1]
    if "R2" in rotations:
        yield "R2", head_size(model)
    if "R4" in rotations:
        yield from (("R4", dict(_linears(block))["down_proj"].in_features)
                    for block in blocks_of(model))  # fmt: skip
    for _, layer in match_named_modules(model, ["Linear"], job.recipe.method.ignore):
        if "v" in rotations:
            yield "v", layer.in_features
        if "u" in rotations:
            yield "u", layer.out_features


def _require_matrices(
    widths: Iterator[tuple[str, int]], transform_type: str, block_size: int | None
) -> None:
    found = sorted({*widths})
    whole = [width for rotation, width in found if rotation != "R2"]
    fitting = [n for n in (16, 32, 64, 128, 256) if all(width % n == 0 for width in whole)]
    instead = f"method.transform_block_size={fitting[-1]}" if fitting else "method=gptq"
    for rotation, width in found:
        size = width if block_size is None or rotation == "R2" else block_size
        if width % size:
            raise Refused(
                f"method.transform_block_size={size} does not divide {width}, which {rotation} "
                f"rotates; try {instead}"
            )
        if not has_hadamard_matrix(size, transform_type):
            raise Refused(
                f"{rotation} is {size} wide, and no {transform_type} matrix of that size is known"
                f"; try {instead}"
                + (
                    ""
                    if transform_type != "hadamard"
                    else " or method.transform_type=random_hadamard"
                )
            )


def has_hadamard_matrix(size: int, transform_type: str) -> bool:
    """Whether compressed-tensors can make one: from a known one, doubled any number of times."""
    from compressed_tensors.transform.utils.hadamard import REPO_PATH, is_pow2
    from safetensors import safe_open

    if transform_type == "hadamard":
        return bool(is_pow2(size))
    with safe_open(REPO_PATH, framework="np") as file:
        known = map(int, file.keys())
        return any(size % one == 0 and is_pow2(size // one) for one in known)
