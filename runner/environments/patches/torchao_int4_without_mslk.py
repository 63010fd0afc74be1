"""torchao 0.18.0: 4-bit weights can be rounded only where MSLK is installed, on GPUs.

``Int4Tensor.from_hp`` takes two functions of MSLK, a library of CUDA kernels, and without it raises
"Requires mslk >= 1.0.0". Both are plain torch; here they are as in ``mslk.quantize.shuffle`` of
MSLK 1.1.0 (BSD licence), so that the same checkpoint is made without a GPU. Computing with it still
needs the kernels.
"""

from typing import Any

from runner.environments.patches.late import after_import

_MODULE = "torchao.quantization.quantize_.workflows.int4.int4_tensor"
_LEVELS = 16


def apply() -> None:
    """Give torchao both functions where it has found none."""
    after_import(_MODULE, _mend)


def _mend(module: Any) -> None:
    if module.int4_row_quantize_zp is None:
        module.int4_row_quantize_zp = int4_row_quantize_zp
        module.pack_int4 = pack_int4


def int4_row_quantize_zp(x: Any, group_size: int = 128) -> tuple[Any, Any, Any]:
    """Integers from -8 to 7, and the scale and the zero point of each group, a group a row.

    A weight is the integer times the scale plus the zero point, which is a weight too.
    """
    import torch

    groups = x.to(torch.float).unflatten(-1, (-1, group_size))
    least, most = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scales = (most - least).clamp(min=1e-6) / (_LEVELS - 1)
    zeros = least + scales * (_LEVELS // 2)
    steps = groups.sub(least).div(scales).round().clamp_(0, _LEVELS - 1)
    integers = (steps - _LEVELS // 2).to(torch.int8).flatten(-2)
    return integers, scales.squeeze(-1).t().contiguous(), zeros.squeeze(-1).t().contiguous()


def pack_int4(x: Any) -> Any:
    """Two neighbours in a byte, the first in the low bits."""
    return ((x[:, ::2] & 0xF) | (x[:, 1::2] << 4)).contiguous()
