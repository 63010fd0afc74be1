"""Reads GPTQ, AWQ and AutoRound checkpoints as dense models, in plain torch.

transformers needs other libraries for them, and those need a GPU for most of what they do.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.load import account
from runner.data.models.weights import weight_files
from runner.errors import StageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where AWQ keeps each of the eight columns that share a word."""
_AUTO_ROUND = {"auto_round": False, "auto_round:auto_gptq": True, "auto_round:gptqmodel": False}
"""AutoRound's packings that are GPTQ's, and whether zero points are stored less one."""
_NEEDED = ("qweight", "qzeros", "scales")
_PACKED = (*_NEEDED, "g_idx")


def load_dense(
    directory: Path, format: str, dtype: "torch.dtype", *, trust_remote_code: bool = False
) -> "PreTrainedModel":
    """Load a checkpoint of packed integers into a model of dense weights.

    Args:
        directory: The checkpoint.
        format: ``gptq``, ``awq`` or ``auto-round``.
        dtype: Of the dense weights.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        StageError: The checkpoint lacks weights of the model, or is packed in an unknown way.
    """
    from transformers.pytorch_utils import Conv1D

    skeleton, packing = skeleton_of(directory, trust_remote_code)
    tensors = read_tensors(directory)
    layers = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    transposed = {name for name, one in skeleton.named_modules() if isinstance(one, Conv1D)}
    for layer in layers:
        parts = {part: tensors.pop(f"{layer}.{part}", None) for part in _PACKED}
        if lacking := [f"{layer}.{part}" for part in _NEEDED if parts[part] is None]:
            raise StageError(f"{directory} lacks {', '.join(lacking)}: download or create it again")
        weight = dequantize(parts, format, packing)
        tensors[f"{layer}.weight"] = (weight.t() if layer in transposed else weight).to(dtype)
    return filled(skeleton, tensors, dtype, directory)


def skeleton_of(directory: Path, trust_remote_code: bool) -> tuple[Any, dict[str, Any]]:
    """A checkpoint's model without weights, as if unquantized, and its quantization config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    packing = json.loads((directory / "config.json").read_text("utf-8"))["quantization_config"]
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model, packing


def filled(
    skeleton: Any, tensors: dict[str, Any], dtype: "torch.dtype", directory: Path
) -> "PreTrainedModel":
    """The model of a skeleton's class with these weights, by the checkpoint's own names.

    Raises:
        StageError: Weights are missing, left over or of another shape.
    """
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    model, report = type(skeleton).from_pretrained(
        None,
        config=skeleton.config,
        state_dict=tensors,
        dtype=dtype,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    account(report, directory)
    loaded: PreTrainedModel = model
    return loaded


def dequantize(
    parts: dict[str, Any], format: str, quantization_config: dict[str, Any]
) -> "torch.Tensor":
    """The dense float32 matrix of one layer, an output channel a row.

    Args:
        parts: ``qweight``, ``qzeros`` and ``scales``, and ``g_idx`` of GPTQ, which may be
            ``None``.
        format: ``gptq``, ``awq`` or ``auto-round``.
        quantization_config: Of the checkpoint.

    Raises:
        StageError: The packing is unknown.
    """
    if format == "gptq":
        layout = quantization_config.get("checkpoint_format") or "gptq"
        if layout in ("gptq", "gptq_v2"):
            return _gptq(parts, quantization_config, zeros_less_one=layout == "gptq")
    elif format == "auto-round":
        layout = str(quantization_config.get("packing_format"))
        if layout == "auto_round:auto_awq":
            return _awq_gemm(parts)
        if layout in _AUTO_ROUND:
            return _gptq(parts, quantization_config, zeros_less_one=_AUTO_ROUND[layout])
    else:
        layout = str(quantization_config.get("version", "gemm")).lower()
        if layout == "gemm":
            return _awq_gemm(parts)
        if layout == "gemv":
            return _awq_gemv(parts, quantization_config)
    raise StageError(f"engine=hf does not read {format} checkpoints packed for {layout}")


def unpack(words: "torch.Tensor", bits: int) -> "torch.Tensor":
    """Unsigned integers of a stream of 32-bit words that runs down each column.

    They follow each other from the lowest bit; one may begin in a word and end in the next.
    """
    import torch

    start = torch.arange(words.shape[0] * 32 // bits) * bits
    word, shift = start // 32, (start % 32).unsqueeze(1)
    stream = words.to(torch.int64) & 0xFFFFFFFF
    values = stream[word] >> shift
    if 32 % bits:
        following = (word + 1).clamp(max=words.shape[0] - 1)
        values |= stream[following] << (32 - shift)
    unpacked: torch.Tensor = values & (2**bits - 1)
    return unpacked


def _gptq(
    parts: dict[str, Any], quantization_config: dict[str, Any], *, zeros_less_one: bool
) -> "torch.Tensor":
    import torch

    groups = parts["g_idx"]
    bits = quantization_config["bits"]
    if groups is not None:
        # Some checkpoints give layers widths of their own.
        bits = parts["qweight"].shape[0] * 32 // len(groups)
    integers = unpack(parts["qweight"], bits)
    zeros = unpack(parts["qzeros"].t(), bits).t()
    if zeros_less_one:
        zeros = (zeros + 1) & (2**bits - 1)
    if groups is None:
        size = quantization_config["group_size"]
        inputs = torch.arange(len(integers))
        groups = inputs // size if size > 0 else torch.zeros_like(inputs)
    groups = groups.to(torch.int64)
    scales = parts["scales"].float()
    dense: torch.Tensor = (integers - zeros[groups]).float() * scales[groups]
    return dense.t().contiguous()


def _awq_gemm(parts: dict[str, Any]) -> "torch.Tensor":
    integers = _awq_columns(parts["qweight"])
    zeros, scales = _awq_columns(parts["qzeros"]), parts["scales"].float()
    size = len(integers) // len(scales)
    steps: torch.Tensor = (integers - zeros.repeat_interleave(size, 0)).float()
    dense: torch.Tensor = steps * scales.repeat_interleave(size, 0)
    return dense.t().contiguous()


def _awq_columns(words: "torch.Tensor") -> "torch.Tensor":
    """Integers packed along rows, put back into their order."""
    values = unpack(words.t(), 4).t()
    return values.reshape(len(values), -1, 8)[:, :, list(_AWQ_ORDER)].reshape(values.shape)


def _awq_gemv(parts: dict[str, Any], quantization_config: dict[str, Any]) -> "torch.Tensor":
    """Rows are output channels, integers in order, groups padded to whole words."""
    integers = unpack(parts["qweight"].t(), 4).t()
    inputs = integers.shape[1]
    size = quantization_config.get("group_size") or quantization_config["q_group_size"]
    groups = inputs // (size if size > 0 else inputs)
    size = inputs // groups
    zeros = unpack(parts["qzeros"].t(), 4).t()[:, :groups].repeat_interleave(size, 1)
    scales = parts["scales"][:, :groups].float().repeat_interleave(size, 1)
    dense: torch.Tensor = (integers - zeros).float() * scales
    return dense


def read_tensors(directory: Path) -> dict[str, Any]:
    """All tensors of a checkpoint's files."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for path in weight_files(directory):
        tensors |= load_file(path)
    return tensors
