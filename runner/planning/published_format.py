"""The recipe that a model is published in, from the ``quantization_config`` of its config.json."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_OF_MODELOPT = {
    "FP8": "fp8_e4m3",
    "FP8_PB_WO": "fp8_block",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8_e4m3",
    "MXFP8": "mxfp8",
    "NVFP4": "nvfp4_a4",
    "NVFP4_AWQ": "nvfp4_a4",
    "W4A16_NVFP4": "nvfp4",
}
"""Names of NVIDIA's Model Optimizer."""
_PARTS = {
    "shared_experts": r"shared_expert",
    "experts": r"experts",
    "attention": r"(self_attn|linear_attn|\battn|attention)(\W*$|\.(q|k|v|o|qkv|out)_proj)",
    "mlp": r"(mlp|ffn|feed_forward)(\W*$|\W*\(?(gate|up|down|gate_up)[_|]|\.w[123]$)",
}
"""By what the names of their modules are told; the first that fits."""
_ROUTER = re.compile(r"router|[._]gate\W*$|gate\.e_score|_gate$|norm|embed|lm_head")
_WHOLE_LAYER = re.compile(r"layers\.\d+\W*$")
_LEAST_SHARE = 0.4
"""Of a model's layers, in which a part is left out where it is taken as left out."""


def published_format(config: Mapping[str, Any]) -> str | None:
    """Label of the recipe; ``None`` for a model in 16 bits, or in a way that plans do not know.

    Args:
        config: Content of config.json.
    """
    text: Mapping[str, Any] = config.get("text_config") or config
    quantization = config.get("quantization_config") or text.get("quantization_config")
    if not quantization:
        return None
    if quantization.get("quantized_layers"):
        return _mixed(quantization, text)
    label = _label(quantization)
    if label is not None and text.get("expert_dtype") == "fp4":
        return f"mxfp4-experts+{label}"
    ignored = quantization.get("ignore") or quantization.get("modules_to_not_convert") or ()
    return None if label is None else _covering(label, ignored, text)


def _label(quantization: Mapping[str, Any]) -> str | None:
    """Of the layers that are quantized, whichever they are."""
    if (read := _READERS.get(str(quantization.get("quant_method")))) is not None:
        return read(quantization)
    if (algorithm := quantization.get("quant_algo")) in _OF_MODELOPT:
        return _OF_MODELOPT[algorithm]
    groups = list((quantization.get("config_groups") or {}).values())
    return _of_group(groups[0]) if len(groups) == 1 else None


def _fp8(quantization: Mapping[str, Any]) -> str | None:
    block = quantization.get("weight_block_size")
    return "fp8_block" if block == [128, 128] else None if block else "fp8_e4m3"


def _packed(quantization: Mapping[str, Any]) -> str | None:
    zero_points = quantization.get("zero_point", not quantization.get("sym", True))
    return _integers(quantization.get("bits"), quantization.get("group_size"), zero_points)


def _bitsandbytes(quantization: Mapping[str, Any]) -> str | None:
    if quantization.get("load_in_8bit"):
        return "llm_int8"
    if quantization.get("bnb_4bit_quant_type") != "nf4":
        return None
    return "nf4-dq" if quantization.get("bnb_4bit_use_double_quant") else "nf4"


_READERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "fp8": _fp8,
    "gptq": _packed,
    "awq": _packed,
    "auto-round": _packed,
    "bitsandbytes": _bitsandbytes,
    # gpt-oss: transformers and vLLM leave its linear layers as they are.
    "mxfp4": lambda _: "mxfp4-experts",
}
"""By ``quant_method``; what others write says it by groups of layers."""


def _of_group(group: Mapping[str, Any]) -> str | None:
    """Of a group of layers as compressed-tensors describes it."""
    weights, activations = group.get("weights") or {}, group.get("input_activations") or {}
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    few = activations.get("num_bits", 16)
    if kind == "float" and bits == 4:
        name = {16: "nvfp4", 32: "mxfp4"}.get(size or 0)
        return name and {16: name, 4: f"{name}_a4"}.get(few)
    if kind == "float" and bits == 8:
        if weights.get("block_structure") == [128, 128] or weights.get("strategy") == "block":
            return "fp8_block" if few == 8 else None
        if size == 32:
            return {8: "mxfp8", 16: "mxfp8_a16"}.get(few)
        return {8: "fp8_e4m3", 16: "fp8_e4m3_a16"}.get(few)
    if kind == "int" and few == 8:
        return _by_eight_bits(bits, size, activations.get("type") == "float")
    return _integers(bits, size, not weights.get("symmetric", True)) if kind == "int" else None


def _by_eight_bits(bits: Any, group: Any, floats: bool) -> str | None:
    """Integers that meet activations of 8 bits."""
    if bits == 8:
        return None if floats else "w8a8"
    size = f"g{group}" if isinstance(group, int) and group > 0 else "per_channel"
    return f"w4a{'_fp8_e4m3' if floats else '8'}-{size}" if bits == 4 else None


def _integers(bits: Any, group: Any, zero_points: bool) -> str | None:
    if not isinstance(bits, int) or not 2 <= bits <= 8:
        return None
    size = f"g{group}" if isinstance(group, int) and group > 0 else "per_channel"
    return f"w{bits}a16-{size}{'-asym' if zero_points else ''}"


def _covering(label: str, ignored: Iterable[str], text: Mapping[str, Any]) -> str | None:
    """The label, with the parts that are quantized where some are not."""
    absent = _left_out(ignored, text)
    if not absent or label.endswith("-experts"):
        return label
    if "experts" in absent or "attention" not in absent:
        return None
    if not _is_mixture(text):
        return f"{label}-mlp" if "mlp" not in absent else None
    others = {"mlp", "shared_experts"} & absent or not _has_dense_experts(text)
    return f"{label}-experts" if others else f"{label}-mlp"


def _left_out(ignored: Iterable[str], text: Mapping[str, Any]) -> set[str]:
    """Parts that patterns of names leave out, in most layers."""
    layers = text.get("num_hidden_layers") or 1
    found: dict[str, set[str]] = {}
    for name in ignored:
        part = "mlp" if _WHOLE_LAYER.search(name) and _is_mixture(text) else _part(name)
        if part is not None:
            number = re.search(r"layers\.(\d+)", name)
            found.setdefault(part, set()).add(number[1] if number else "*")
    dense = text.get("first_k_dense_replace") or layers
    least = {"mlp": _LEAST_SHARE * min(dense, layers)}
    return {
        part
        for part, places in found.items()
        if "*" in places or len(places) >= least.get(part, _LEAST_SHARE * layers)
    }


def _part(name: str) -> str | None:
    if _ROUTER.search(name):
        return None
    return next((part for part, pattern in _PARTS.items() if re.search(pattern, name)), None)


def _mixed(quantization: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    """Of a model whose parts are in formats of their own."""
    of: dict[str, set[str | None]] = {}
    for name, how in quantization["quantized_layers"].items():
        if (part := _part(name)) is not None:
            of.setdefault(part, set()).add(_OF_MODELOPT.get(str(how.get("quant_algo"))))
    if not of or any(len(formats) > 1 or None in formats for formats in of.values()):
        return None
    one = {part: next(iter(formats)) for part, formats in of.items()}
    inner = one.get("experts") or one.get("mlp")
    same = {part for part, label in one.items() if label == inner}
    rest = {label for part, label in one.items() if label != inner}
    if quantization.get("quant_method") in _READERS:  # what the list leaves out is not in 16 bits
        rest.add(_label(quantization))
    if not inner or len(rest) > 1:
        return None
    if not rest and "attention" in same:
        return inner
    cover = "experts" if _is_mixture(text) and not same - {"experts"} else "mlp"
    if cover == "mlp" and not {p for p in one if p != "attention"} <= same:
        return None
    return f"{inner}-{cover}" + (f"+{rest.pop()}" if rest else "")


def _is_mixture(text: Mapping[str, Any]) -> bool:
    names = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
    return any((text.get(name) or 0) > 1 for name in names)


def _has_dense_experts(text: Mapping[str, Any]) -> bool:
    """Whether a mixture has layers or experts that every token goes through."""
    names = ("n_shared_experts", "shared_expert_intermediate_size", "first_k_dense_replace")
    return any(text.get(name) for name in names)
