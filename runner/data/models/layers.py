"""A checkpoint's matrices and what each stores, in any format, from file headers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.data.models.header import Header
from runner.data.models.schemes import scheme_of
from runner.data.models.weights import tensor_headers, weight_files

GGUF = "gguf"
_HQQ = "W_q"
"""Packed integers of HQQ, whose layers are its library's modules."""
_FLOATS = {"BF16", "F16", "F32", "F64"}
_COMPONENT = re.compile(
    r"(?P<layer>.+?)\.(?P<part>weight|weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map)"
    r"|_weight_(?:qdata|scale|zero_point|scale_and_zero)"
    r"|weight\.quant_state\..+|weight_(?:packed|scale|scale_2|scale_inv|zero_point|shape|g_idx"
    r"|global_scale|format)|pre_quant_scale|qweight|qzeros|scales|g_idx|SCB)"
)
"""Tensors that belong to one layer's matrix: those of compressed-tensors, bitsandbytes, GPTQ, AWQ
and torchao. Biases, and scales of activations and of the KV cache, are no part of a matrix."""
_BLOCKS = re.compile(r"(?P<layer>.+_proj)_(?P<part>blocks|scales)")
"""MXFP4 of gpt-oss' own checkpoints: two weights a byte, a scale for 32."""
_ROTATION = re.compile(r"\.(?:R\d|[uv])_(?:input|output|q_attn|k_cache)\.(?:weight|perm)$")
"""What compressed-tensors calls a matrix that a layer rotates by: group and place."""

_PARTS = (
    ("convolution", r"(?:^|[._])(?:conv|conv1d|short_conv|shortconv)(?:\.|$)"),
    (
        "embedding",
        r"(?:^|\.)(?:embed\w*|wte|wpe|word_embeddings\w*|tok_embeddings|tokens_embed|positions_embed"
        r"|position_embeddings|token_embd|token_types|position_embd|per_layer_token_embd)$",
    ),
    ("head", r"(?:^|\.)(?:lm_head|embed_out|output_layer|output)$"),
    (
        "router",
        r"(?:^|\.)(?:gate|router(?:\.\w+)*|gate\.wg|shared_expert_gate|ffn_gate_inp(?:_shexp)?)$",
    ),
    ("experts", r"\.experts(?:\.|$)|_exps$|\.block_sparse_moe\.(?:input|output)_linear$"),
    (
        "attention",
        r"attn|attention|ssm|mamba|mixer|time_mix|linear_attn|temporal_block|rwkv|recurrent"
        r"|(?:^|\.)(?:[qkvo]|qkv|out)_proj$",
    ),
    (
        "mlp",
        r"mlp|ffn|feed_forward|shared_expert|channel_mix|(?:^|\.)(?:fc\d|fc_in|fc_out|w[123]"
        r"|gate_proj|up_proj|down_proj|gate_up_proj|dense_h_to_4h|dense_4h_to_h)(?:\.|$)",
    ),
)
"""Which part of a model a layer belongs to, by the first expression found in its name. An output
embedding that is called ``embed_out`` is a head."""


@dataclass(frozen=True)
class StoredLayer:
    """One matrix, or one stack of experts' matrices."""

    name: str
    part: str
    elements: int
    """Weights it stands for, whatever they are packed into."""
    bytes: int
    """Packed weights, scales, zero points, codebooks."""
    is_quantized: bool
    """Stored in fewer bits than a 16-bit float."""
    format: str
    numbers: str = ""
    """What its numbers are: ``int4``, ``float8``, a type of GGUF; empty where that is not told."""
    scales: str = ""
    """What shares a scale: ``groups of 64``, ``per channel``, …; empty where that is not told."""


def part_of(name: str) -> str:
    """The part of a model that a layer of this name belongs to."""
    if re.search(r"(?:^|\.)embed_out$", name):
        return "head"
    return next((part for part, found in _PARTS if re.search(found, name)), "other")


def stored_layers(directory: Path) -> list[StoredLayer]:
    """Every matrix of a checkpoint. Vectors, such as norms and biases, are left out."""
    groups: dict[str, dict[str, Any]] = {}
    is_gguf = any(path.suffix == ".gguf" for path in weight_files(directory))
    layers = []
    headers = tensor_headers(directory)
    for name, header in headers.items():
        # Biases of all experts are a matrix; what rotates a layer's input is none of the model's.
        if name.endswith("bias") or _ROTATION.search(name):
            continue
        if is_gguf:
            if _is_matrix(header.shape):
                layer = name.removesuffix(".weight")
                quantized = header.dtype not in _FLOATS
                stored = (header.elements, header.bytes, quantized, GGUF, header.dtype)
                layers.append(StoredLayer(layer, part_of(layer), *stored))
            continue
        layer, part = _place(name, headers)
        groups.setdefault(layer, {})[part] = header
    shapes = _shapes(directory, groups)
    for layer, own in groups.items():
        measured = _elements(own, shapes.get(layer))
        if measured is not None:
            elements, quantized = measured
            size = sum(header.bytes for header in own.values())
            scheme = scheme_of(own, elements) if quantized else ("", "")
            stored_layer = StoredLayer(
                layer, part_of(layer), elements, size, quantized, "safetensors", *scheme
            )
            layers.append(stored_layer)
    return layers


def _place(name: str, headers: Mapping[str, Header]) -> tuple[str, str]:
    """The layer that a tensor belongs to, and what it is of it."""
    layer, _, part = name.rpartition(".")
    if f"{layer}.{_HQQ}" in headers:  # all that the library's layer consists of lies beside it
        return layer, part
    match = _COMPONENT.fullmatch(name) or _BLOCKS.fullmatch(name)
    return (match["layer"], match["part"]) if match else (name, "weight")


def _elements(own: dict[str, Any], shape: list[int] | None) -> tuple[int, bool] | None:
    """Weights of a layer and whether they are quantized; ``None`` where it is no matrix."""
    packed = own.get("weight_packed")
    if (packed is not None or _HQQ in own) and shape:
        return math.prod(shape), True
    if (integers := own.get("_weight_qdata")) is not None:
        return _torchao_elements(integers, own), True
    if (words := own.get("qweight")) is not None:
        return _packed_integers(words, own), True
    weight = own.get("weight")
    four_bits = packed or own.get("blocks")
    if weight is not None and any(part.startswith("weight.quant_state.") for part in own):
        four_bits = weight
    if weight is not None and weight.dtype == "U8" and "weight_scale" in own:  # ModelOpt
        four_bits = weight
    if four_bits is not None:
        # Formats of 4-bit floats keep no shape: two weights a byte.
        return 2 * four_bits.bytes, True
    if weight is None or not _is_matrix(weight.shape):
        return None
    return weight.elements, weight.dtype not in _FLOATS


def _packed_integers(words: Any, own: dict[str, Any]) -> int:
    """Weights in GPTQ's and AWQ's 32-bit words, of a width that follows from their neighbours."""
    bits = 8 * words.bytes
    scales, order = own.get("scales"), own.get("g_idx")
    if order is not None and order.elements and len(words.shape) == 2:
        return int(order.elements * words.shape[1])
    if scales is not None and len(scales.shape) == 2 and len(words.shape) == 2:
        # As many columns as scales: rows hold packed inputs (GPTQ), whose width is not told here.
        zeros = own.get("qzeros")
        if zeros is not None and scales.shape[1] == words.shape[1]:
            width = 32 * zeros.shape[1] / scales.shape[1]
            return int(bits // round(width))
    return int(bits // 4)


def _torchao_elements(integers: Header, own: Mapping[str, Header]) -> int:
    """Weights of a tensor of torchao's: of 4 bits two share a byte, and zero points are floats."""
    zeros = own.get("_weight_zero_point")
    halves = zeros is not None and zeros.dtype in _FLOATS and integers.dtype in ("I8", "U8")
    return 2 * integers.elements if halves else integers.elements


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return sum(size > 1 for size in shape) >= 2


def _shapes(directory: Path, groups: Mapping[str, Mapping[str, Header]]) -> dict[str, list[int]]:
    """Shapes of packed matrices, which compressed-tensors and HQQ store as tensors."""
    wanted = {
        f"{layer}.{part}": layer
        for layer, own in groups.items()
        for part in ("weight_shape", *(["shape"] if _HQQ in own else []))
        if part in own
    }
    if not wanted:
        return {}
    from safetensors import safe_open

    shapes = {}
    for path in weight_files(directory):
        with safe_open(path, framework="np") as tensors:
            for name in wanted.keys() & tensors.keys():
                shape = tensors.get_tensor(name).tolist()
                shapes[wanted[name]] = [int(size) for size in shape]
    return shapes
