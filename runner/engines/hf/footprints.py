"""Memory of a transformers model, and what a decode step reads of it.

Held is every parameter and buffer, and what bitsandbytes keeps beside them (``quant_state``:
absmax, its own second quantization, code and offset; ``SCB`` of LLM.int8()). Read is what the
operations of one decode step were given, as torch hands them out: scales that a dequantized layer
still has, towers and heads that text does not pass do not count. Looking up (an embedding) reads
what it yields. Of routed experts, all of which stand in ``routed_bytes``, a step reads the part
that one token chooses; a layer's unread tensors, such as left-over scales, are in neither.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from runner.engines.base import Footprint

if TYPE_CHECKING:
    import torch

_ROUTED = re.compile(r"(^|\.)experts(\.|$)")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_k")
_LOOKS_UP = ("embedding", "index", "index_select", "gather", "take", "embedding_bag")
"""Operations that read no more of their first tensor than they yield."""
_DEPTH = 3
"""How deep ``quant_state`` nests: a state, its second state, their tensors."""


def footprint_of(model: Any, kv_cache_bytes_per_token: int, device: str) -> Footprint:
    """The footprint of a loaded causal language model, from one decode step of it."""
    tensors = _held(model)
    read = _read_by_a_step(model, tensors, device)
    share = routed_share(model.config.get_text_config())
    by_dtype: dict[str, int] = {}
    for tensor in tensors.values():
        name = str(tensor.dtype).removeprefix("torch.")
        by_dtype[name] = by_dtype.get(name, 0) + tensor.nbytes
    routed, streamed = 0, 0
    kinds = {_kind(name) for name in tensors if read[name]}
    for name, tensor in tensors.items():
        if share is not None and _ROUTED.search(name):
            routed += tensor.nbytes if _kind(name) in kinds else 0
        else:
            streamed += read[name]
    return Footprint(
        weight_bytes=sum(by_dtype.values()),
        streamed_bytes_per_step=round(streamed + routed * (share or 0.0)),
        kv_cache_bytes_per_token=kv_cache_bytes_per_token,
        weight_bytes_by_dtype=by_dtype,
        routed_bytes=routed,
        routed_share=1.0 if share is None else share,
    )


def device_bytes(model: Any) -> int:
    """Bytes of a model's tensors that lie on GPUs."""
    return sum(tensor.nbytes for tensor in _held(model).values() if tensor.is_cuda)


def routed_share(config: Any) -> float | None:
    """Part of a layer's routed experts that a token meets; ``None`` for a dense model."""
    experts, chosen = (
        next((value for name in names if (value := getattr(config, name, None))), None)
        for names in (_EXPERTS, _CHOSEN)
    )
    return chosen / experts if experts and chosen else None


def _kind(name: str) -> str:
    """The name without numbers: what layers and experts have in common."""
    return re.sub(r"\d+", "#", name)


def _held(model: Any) -> "dict[str, torch.Tensor]":
    """All tensors of a model by name, shared ones once."""
    tensors: dict[tuple[int, int], tuple[str, torch.Tensor]] = {}
    for name, tensor in _tensors(model):
        if tensor.nbytes:
            tensors.setdefault((tensor.data_ptr(), tensor.nbytes), (name, tensor))
    return dict(tensors.values())


def _tensors(model: Any) -> "Iterator[tuple[str, torch.Tensor]]":
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_"):
                yield from _kept(f"{name}.{key}", value, _DEPTH)
        for key, parameter in module.named_parameters(recurse=False):
            for own, value in vars(parameter).items():
                yield from _kept(f"{name}.{key}.{own}", value, _DEPTH)


def _kept(name: str, value: Any, depth: int) -> "Iterator[tuple[str, torch.Tensor]]":
    """Tensors of an object that bitsandbytes hangs on a module or a parameter, or one itself."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth and type(value).__module__.startswith("bitsandbytes."):
        for key, inner in vars(value).items():
            yield from _kept(f"{name}.{key}", inner, depth - 1)


def _read_by_a_step(model: Any, held: "dict[str, torch.Tensor]", device: str) -> dict[str, int]:
    """Bytes that a decode step reads of each tensor."""
    import torch

    with torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.long, device=device)
        past = model(input_ids=token, use_cache=True).past_key_values
        watch = _watch()
        with watch:
            model(input_ids=token, past_key_values=past, use_cache=True)
    read = {}
    for name, tensor in held.items():
        start = tensor.data_ptr()
        spans = [
            (max(low, start), min(high, start + tensor.nbytes))
            for low, high in watch.spans
            if low < start + tensor.nbytes and high > start
        ]
        looked_up = sum(size for at, size in watch.looked_up if start <= at < start + tensor.nbytes)
        read[name] = min(tensor.nbytes, _covered(spans) + looked_up)
    return read


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    total, end = 0, 0
    for low, high in sorted(spans):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def _watch() -> Any:
    """A mode that notes which memory the operations within it are given."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.spans: set[tuple[int, int]] = set()
            self.looked_up: list[tuple[int, int]] = []

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            result = func(*args, **kwargs)
            if _is_view(func):
                return result
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)]
            if func.overloadpacket.__name__ in _LOOKS_UP and torch.is_tensor(result):
                self.looked_up.append((inputs[0].data_ptr(), result.nbytes))
                inputs = inputs[1:]
            for tensor in inputs:
                if tensor.numel() and tensor.layout is torch.strided:
                    last = sum(
                        (n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)
                    )
                    start = tensor.data_ptr()
                    self.spans.add((start, start + (last + 1) * tensor.itemsize))
            return result

    return Watch()


def _is_view(func: Any) -> bool:
    """Whether an operation only tells another shape of memory that it does not read."""
    aliases = [one.alias_info for one in func._schema.arguments]
    return any(alias is not None and not alias.is_write for alias in aliases)
