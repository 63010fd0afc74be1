"""A transformers cache that holds keys and values in a number format, as they are stored.

Every token's keys and values are rounded when they come and are read back for whatever attends to
them, the token itself included, as llama.cpp and vLLM do. So a number does not depend on how a
sequence was cut into chunks: one pass over a window gives each token's loss as it would be if all
before it had been generated one by one. transformers' own ``QuantizedCache`` attends to a chunk's
own tokens, and to up to ``residual_length`` before them, as they were before rounding.

Integers of a group lie between its least and its greatest value (asymmetric, as optimum-quanto's
``MaxOptimizer`` that ``QuantizedCache`` uses); the scale and the least value have the type of the
arithmetic. Floats are cast and saturate.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.data.models.head_width import head_width
from runner.errors import StageError

if TYPE_CHECKING:
    import torch

FORMATS = (
    KvFormat.auto, KvFormat.fp16, KvFormat.bf16, KvFormat.fp8_e4m3, KvFormat.fp8_e5m2,
    KvFormat.int8, KvFormat.int4, KvFormat.int2,
)  # fmt: skip
_FLOATS = {
    KvFormat.fp16: "float16",
    KvFormat.bf16: "bfloat16",
    KvFormat.fp8_e4m3: "float8_e4m3fn",
    KvFormat.fp8_e5m2: "float8_e5m2",
}
_INTEGERS = {KvFormat.int8: 8, KvFormat.int4: 4, KvFormat.int2: 2}
_KINDS = ("full_attention", "sliding_attention", "chunked_attention")
"""Kinds of layers that keep keys and values and nothing else."""


def refusal(kv_cache: KvCache, config: Mapping[str, Any]) -> str | None:
    """Why keys and values of a model cannot be held so, by its config.json (the text part's)."""
    kinds = {*(config.get("layer_types") or ())} - {*_KINDS}
    if kinds:
        return f"the model's layers keep more than keys and values ({', '.join(sorted(kinds))})"
    width = head_width(config)
    if width is None or kv_cache.group is None or width % kv_cache.group == 0:
        return None
    return f"kv_cache.group_size={kv_cache.group} does not divide a head of {width} numbers"


def encode(
    numbers: "torch.Tensor", kind: KvFormat, group: int | None
) -> "tuple[torch.Tensor, ...]":
    """Numbers of shape (…, tokens, head width) as they are stored, token by token.

    Args:
        numbers: Keys or values.
        kind: Number format.
        group: Numbers of a head that share a scale; ``None``: all of it.
    """
    import torch

    if kind is KvFormat.auto:
        return (numbers,)
    if (name := _FLOATS.get(kind)) is not None:
        dtype = getattr(torch, name)
        largest = torch.finfo(dtype).max
        return (numbers.clamp(-largest, largest).to(dtype),)
    bits = _INTEGERS[kind]
    grouped = _cut(numbers, group or numbers.shape[-1])
    least, most = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = (most - least) / (2**bits - 1)
    # A group of equal numbers is its least value.
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = ((grouped - least) / safe).round().clamp(0, 2**bits - 1).to(torch.uint8)
    return _packed(codes.flatten(-2), bits), scale.squeeze(-1), least.squeeze(-1)


def decode(
    parts: "tuple[torch.Tensor, ...]", kind: KvFormat, dtype: "torch.dtype"
) -> "torch.Tensor":
    """The numbers that ``encode`` stored, in the type of the arithmetic."""
    if kind not in _INTEGERS:
        return parts[0].to(dtype)
    codes, scale, least = parts
    numbers = _unpacked(codes, _INTEGERS[kind]).to(dtype)
    grouped = _cut(numbers, numbers.shape[-1] // scale.shape[-1])
    read: torch.Tensor = (grouped * scale.unsqueeze(-1) + least.unsqueeze(-1)).flatten(-2)
    return read


def _cut(numbers: "torch.Tensor", size: int) -> "torch.Tensor":
    """The last dimension in parts of a size."""
    return numbers.reshape(*numbers.shape[:-1], -1, size)


def _packed(codes: "torch.Tensor", bits: int) -> "torch.Tensor":
    """Several codes a byte, the first in the lowest bits."""
    import torch

    each = 8 // bits
    if each == 1:
        return codes
    if codes.shape[-1] % each:
        raise StageError(f"a head of {codes.shape[-1]} numbers does not fill bytes of {each} each")
    apart = _cut(codes, each)
    packed = torch.zeros_like(apart[..., 0])
    for place in range(each):
        packed |= apart[..., place] << (bits * place)
    return packed


def _unpacked(codes: "torch.Tensor", bits: int) -> "torch.Tensor":
    import torch

    each = 8 // bits
    if each == 1:
        return codes
    mask = (1 << bits) - 1
    return torch.stack([(codes >> (bits * at)) & mask for at in range(each)], -1).flatten(-2)


class Held:
    """Keys or values of one layer."""

    def __init__(self, kind: KvFormat, group: int | None) -> None:
        """Of no tokens yet."""
        self._kind, self._group = kind, group
        self._parts: Any = None

    def read_with(self, numbers: "torch.Tensor") -> "torch.Tensor":
        """Add tokens; gives all that are held, as they are read."""
        new = encode(numbers, self._kind, self._group)
        if self._parts is None:
            self._parts = new
        else:
            self._parts = tuple(
                _joined(old, one) for old, one in zip(self._parts, new, strict=True)
            )
        return decode(self._parts, self._kind, numbers.dtype)

    def keep_last(self, tokens: int) -> None:
        """Forget all but so many."""
        self._parts = tuple(part[..., max(0, part.shape[-2] - tokens) :, :] for part in self._parts)

    @property
    def tokens(self) -> int:
        """How many are held."""
        return 0 if self._parts is None else int(self._parts[0].shape[-2])

    @property
    def nbytes(self) -> int:
        """Of codes, scales and least values."""
        return 0 if self._parts is None else sum(part.nbytes for part in self._parts)


def _joined(old: "torch.Tensor", new: "torch.Tensor") -> "torch.Tensor":
    """Tokens one after the other."""
    import torch

    if not new.dtype.is_floating_point or new.dtype.itemsize > 1:
        return torch.cat([old, new], -2)
    # Not all devices join 8-bit floats.
    return torch.cat([old.view(torch.uint8), new.view(torch.uint8)], -2).view(new.dtype)


@cache
def _layer_classes() -> Mapping[type, Callable[..., Any]]:
    """For each kind of layer of transformers one that holds its keys and values so."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    class Layer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, like: Any, kv_cache: KvCache) -> None:
            super().__init__()
            self.held = tuple(Held(one, kv_cache.group_size) for one in kv_cache.formats)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            both = zip(self.held, (key_states, value_states), strict=True)
            return tuple(held.read_with(new) for held, new in both)

        def get_seq_length(self) -> int:
            return self.held[0].tokens

    class WindowedLayer(DynamicSlidingWindowLayer):  # type: ignore[misc]
        def __init__(self, like: Any, kv_cache: KvCache) -> None:
            super().__init__(sliding_window=like.sliding_window)
            self.held = tuple(Held(one, kv_cache.group_size) for one in kv_cache.formats)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            self.cumulative_length += key_states.shape[-2]
            both = zip(self.held, (key_states, value_states), strict=True)
            read = tuple(held.read_with(new) for held, new in both)
            for held in self.held:
                held.keep_last(self.sliding_window - 1)
            return read

    return {DynamicLayer: Layer, DynamicSlidingWindowLayer: WindowedLayer}


def new_cache(config: Any, kv_cache: KvCache) -> Any:
    """An empty cache for a model's text decoder.

    Raises:
        StageError: Its layers keep more than keys and values.
    """
    from transformers import DynamicCache

    empty, classes = DynamicCache(config=config), _layer_classes()
    if not empty.layers or any(type(layer) not in classes for layer in empty.layers):
        raise StageError(
            f"kv_cache={kv_cache.label}: layers of {config.model_type} keep more than keys and "
            "values; try kv_cache=auto"
        )
    empty.layers = [classes[type(layer)](layer, kv_cache) for layer in empty.layers]
    return empty


def hold_in(model: Any, kv_cache: KvCache) -> None:
    """Have a model's decoder keep keys and values so, whoever calls it and for whatever.

    Whatever computes with the model, harnesses included, then reads its context from such a cache.
    """
    from transformers import DynamicCache

    decoder, config = model.get_decoder(), model.config.get_text_config()
    new_cache(config, kv_cache)

    def begin(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        there: Any = named.get("past_key_values")
        # Generation of transformers comes with an empty one of the usual kind.
        usual = type(there) is DynamicCache and not _is_ours(there) and not there.get_seq_length()
        if there is None or usual:
            named["past_key_values"] = new_cache(config, kv_cache)
        named["use_cache"] = True
        return given, named

    decoder.register_forward_pre_hook(begin, with_kwargs=True)


def _is_ours(there: Any) -> bool:
    return any(hasattr(layer, "held") for layer in there.layers)


def held_bytes(layer: Any) -> int:
    """Bytes of a layer's keys and values, however it holds them; 0 where that is not known."""
    if (held := getattr(layer, "held", None)) is not None:
        return sum(one.nbytes for one in held)
    tensors = (getattr(layer, name, None) for name in ("keys", "values"))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
