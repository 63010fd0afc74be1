"""The format that an engine stores and streams: often not the checkpoint's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.kv_cache import KvCache
from runner.config.schema.method import UNQUANTIZED_BITS, Method
from runner.engines import traits_of
from runner.errors import UsageError
from runner.methods import find_method
from runner.planning.budgets import Budget
from runner.planning.formats import PLANNED_WIDTHS, Format, find_format, integer_format
from runner.planning.model_shape import Shape
from runner.util.serialise import from_json

_DENSE = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "auto": "bf16"}


def recipe_format(config: dict[str, Any]) -> Format | None:
    """The format that a run's recipe stores, from its configuration as recorded.

    ``None`` where it is none that plans know, such as a method of the user's own.
    """
    try:
        method = from_json(find_method(config["method"]["name"]).config, config["method"])
        bits, group = from_json(Bits, config["bits"]), from_json(GroupSize, config["group_size"])
        label = method.plan_label(bits, group)
        if label is not None:
            return find_format(label, _shape(config) if bits.is_auto else None)
        return _integers(bits, group, zero_points=method.rounds_with_zero_points(bits))
    except (UsageError, ValueError):
        return None


def planned_label(method: Method, bits: Bits, group: GroupSize) -> str | None:
    """What plans call a recipe; ``None`` where they know none of its kind."""
    label = method.plan_label(bits, group)
    if label is None:
        found = _integers(bits, group, zero_points=method.rounds_with_zero_points(bits))
        return None if found is None else found.label
    if bits.is_auto:
        return label if Budget.named(label) is not None else None
    try:
        return find_format(label).label
    except UsageError:
        return None


def _shape(config: dict[str, Any]) -> Shape:
    return Shape(from_json(Architecture, config["model"]["architecture"]))


def _integers(bits: Bits, group: GroupSize, *, zero_points: bool) -> Format | None:
    """Integer weights as plans know them: of 2 to 8 bits, with a scale for a group or a channel."""
    if bits.weight.num_bits not in PLANNED_WIDTHS or group.granularity is Granularity.tensor:
        return None
    return integer_format(bits.weight.num_bits, group.size, zero_points)


def dense_format(engine: str, dtype: str) -> Format:
    """How an engine holds a model that is not quantized."""
    dense = traits_of(engine).dense_without_bfloat16
    if dense != "float32" and dtype in ("float32", "auto"):
        dtype = dense
    return find_format(_DENSE.get(dtype, "bf16"))


def runtime_format(stored: Format, engine: str, dtype: str) -> Format:
    """How an engine holds a checkpoint of a format while it generates."""
    dense = dense_format(engine, dtype)
    if stored.weight_bits >= 16:
        return dense
    packed = traits_of(engine).unpacks_all_but
    if packed is None:
        return stored
    if stored.label in packed:
        # Only linear layers stay packed; the rest is held in the arithmetic's dtype.
        return replace(stored, head_bits=dense.head_bits, embedding_bits=dense.embedding_bits)
    # compressed-tensors, GPTQ, AWQ and GGUF are unpacked when they are loaded.
    return dense


def runtime_format_of(
    engine: str, dtype: str, config: dict[str, Any], quantized: bool
) -> Format | None:
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
    return None if stored is None else runtime_format(stored, engine, dtype)


def is_made_dense(engine: str, config: dict[str, Any]) -> bool:
    """Whether an engine makes dense weights of a recipe's quantized ones when it loads them.

    Its speed is then that of the dense model, and tells nothing of kernels for the recipe's format.
    """
    packed = traits_of(engine).unpacks_all_but
    if packed is None:
        return False
    try:
        stored = recipe_format(config)
        if stored is not None:
            return stored.weight_bits < UNQUANTIZED_BITS and stored.label not in packed
        # A format that plans do not know is none of those that stay packed.
        method = from_json(find_method(config["method"]["name"]).config, config["method"])
        return method.rounds(from_json(Bits, config["bits"]))
    except (KeyError, TypeError, UsageError, ValueError):  # of another version of the runner
        return False


def makes_dense(engine: str, checkpoint_format: str) -> bool:
    """The same of a checkpoint whose recipe is not known, by the format of its files."""
    traits = traits_of(engine)
    return traits.unpacks_all_but is not None and checkpoint_format not in traits.narrow_formats


def recorded_kv_cache(config: Mapping[str, Any]) -> KvCache:
    """How a run's recipe held keys and values, from its configuration as recorded."""
    try:
        return from_json(KvCache, config.get("kv_cache") or {})
    except ValueError:  # of another version
        return KvCache()


def kv_number_bytes(engine: str, dtype: str) -> float:
    """Bytes of a number in the engine's KV cache, if it decides."""
    own = traits_of(engine).kv_cache_number_bytes
    if own is not None:
        return own
    return 4.0 if dtype == "float32" else 2.0
