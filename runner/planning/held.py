"""What an engine really holds and streams of a checkpoint: often not what was stored."""

from dataclasses import replace
from typing import Any

from runner.config.bits import Bits
from runner.config.group_size import GroupSize
from runner.errors import UsageError
from runner.planning.formats import Format, find_format
from runner.serialise import from_json

_DENSE = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "auto": "bf16"}
_PACKED_IN_HF = ("nf4", "nf4-dq", "llm_int8")
"""bitsandbytes computes with what it stored."""


def recipe_format(config: dict[str, Any]) -> Format | None:
    """The format that a run's recipe stores, from its configuration as recorded.

    ``None`` where it is none that plans know, such as a method of the user's own.
    """
    method = config["method"]
    bits = from_json(Bits, config["bits"])
    group = from_json(GroupSize, config["group_size"])
    name: str = method["name"]
    label = bits.label
    if name == "gguf":
        kinds = {8: "q8_0", 6: "q6_k", 5: "q5_k_m", 4: "q4_k_m", 3: "q3_k_m", 2: "q2_k"}
        label = (method.get("quant_type") or kinds.get(bits.weight.num_bits, "")).lower()
    elif name in ("llm_int8", "mxfp4", "nvfp4"):
        label = name
    elif name == "bnb_4bit":
        label = "nf4-dq" if method.get("double_quant") else "nf4"
    elif label.startswith("w") and label.endswith("a16"):
        label = f"{label}-{group.label}" + ("" if method.get("sym", True) else "-asym")
    try:
        return find_format(label)
    except UsageError:
        return None


def dense_format(engine: str, dtype: str) -> Format:
    """How an engine holds a model that is not quantized."""
    if engine == "llama_cpp" and dtype in ("float32", "auto"):
        return find_format("fp16")  # converted so where bfloat16 would be emulated
    return find_format(_DENSE.get(dtype, "bf16"))


def held_as(stored: Format, engine: str, dtype: str) -> Format:
    """How an engine holds a checkpoint of a format while it generates."""
    dense = dense_format(engine, dtype)
    if stored.weight_bits >= 16:
        return dense
    if engine != "hf":
        return stored
    if stored.label in _PACKED_IN_HF:
        # Only linear layers stay packed; the rest is held in the arithmetic's dtype.
        return replace(stored, head_bits=dense.head_bits, embedding_bits=dense.embedding_bits)
    # compressed-tensors, GPTQ, AWQ and GGUF are unpacked when they are loaded.
    return dense


def held_format(engine: str, dtype: str, config: dict[str, Any], quantized: bool) -> Format | None:
    """How a benched checkpoint was held; ``None`` for a format that plans do not know.

    Args:
        engine: Its name.
        dtype: Arithmetic as the benchmark reports it.
        config: The run's configuration as recorded.
        quantized: Whether the recipe's checkpoint was benched, not the unquantized model.
    """
    if not quantized:
        return dense_format(engine, dtype)
    stored = recipe_format(config)
    return None if stored is None else held_as(stored, engine, dtype)


def kv_number_bytes(engine: str, dtype: str) -> float:
    """Bytes of a number in the engine's KV cache."""
    return 4.0 if engine != "llama_cpp" and dtype == "float32" else 2.0
