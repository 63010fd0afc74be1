"""Shares a model out over all GPUs of this process, whole blocks of layers on each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.data.models.weights import stored_dtype
from runner.engines.base import LoadSpec
from runner.errors import StageError

if TYPE_CHECKING:
    import torch

SPARE_BYTES = 1 << 30
"""Left free on each GPU by the weights: for what is computed there."""


def placement(spec: LoadSpec) -> dict[str, Any]:
    """Where transformers is to put a checkpoint's tensors as it reads them: options of its load.

    Raises:
        StageError: The GPUs cannot hold the model.
    """
    if not shares(spec.device):
        return {"device_map": {"": spec.device}}
    if spec.checkpoint_format == "bitsandbytes":
        # Only transformers knows how large its layers become; nothing is left for the CPU.
        return {"device_map": "sequential", "max_memory": free_by_gpu()}
    if spec.checkpoint_format != "float":
        return {"device_map": {"": "cpu"}}  # dequantized there, then shared out
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trusted = spec.trust_remote_code
    config = AutoConfig.from_pretrained(spec.checkpoint, trust_remote_code=trusted)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    name = stored_dtype(spec.checkpoint) if spec.dtype == "auto" else spec.dtype
    return {"device_map": device_map(skeleton, free_by_gpu(), getattr(torch, name))}


def dispatched(model: Any, device: str) -> Any:
    """A model of dense weights, moved to the device, or shared out over all GPUs.

    Raises:
        StageError: The GPUs cannot hold it.
    """
    if not shares(device):
        return model.to(device)
    from accelerate import dispatch_model

    found = device_map(model, free_by_gpu())
    return dispatch_model(model, found, skip_keys=list(model._skip_keys_device_placement))


def require_on_gpus(model: Any, device: str) -> None:
    """See that no part of a model was left to the CPU or to the disk, where it would crawl.

    Raises:
        StageError: Some was.
    """
    places = {str(place) for place in (getattr(model, "hf_device_map", None) or {}).values()}
    left = places & {"cpu", "disk", "meta"}
    if device.startswith("cuda") and left:
        raise StageError(
            f"the GPUs in use do not hold the model: {', '.join(sorted(left))} took the rest"
        )


def shares(device: str) -> bool:
    """Whether several GPUs share the model: all that this process may use."""
    if not device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.device_count() > 1


def free_by_gpu() -> dict[int, int]:
    """Bytes that weights may take on each GPU."""
    import torch

    found = {}
    for number in range(torch.cuda.device_count()):
        unused = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
        found[number] = max(0, torch.cuda.mem_get_info(number)[0] + unused - SPARE_BYTES)
    return found


def device_map(
    model: Any, free_bytes: Mapping[int, int], dtype: "torch.dtype | None" = None
) -> dict[str, int]:
    """Which GPU each part of a model goes to: about as much to each, and no block taken apart.

    Args:
        model: Of transformers; it needs no numbers.
        free_bytes: Of each GPU.
        dtype: Of its weights once loaded; ``None`` for those it has.

    Raises:
        StageError: They cannot hold it.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = sorted(getattr(model, "_no_split_modules", None) or ())
    balanced = get_balanced_memory(
        model, dict(free_bytes), no_split_module_classes=whole, dtype=dtype
    )
    # An even share may be too small by a block where GPUs are nearly full.
    for memory in (balanced, dict(free_bytes)):
        found = infer_auto_device_map(model, memory, no_split_module_classes=whole, dtype=dtype)
        if set(found.values()) <= set(free_bytes):
            return dict(found)
    there = " and ".join(f"{size / 1e9:.1f}" for size in free_bytes.values())
    raise StageError(
        f"the model does not fit the {len(free_bytes)} GPUs in use, which have {there} GB free: "
        f"try engine.gpus={len(free_bytes) + 1}"
    )
