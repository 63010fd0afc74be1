"""compressed-tensors 0.19.0 rounds to 4-bit floats 25 times slower than it could on a CPU.

``compressed_tensors.quantization.utils.fp4_utils.cast_to_fp4`` assigns through eight masks, which
takes half a microsecond a number: minutes for the activations of some thousand tokens. This rounds
half to even on E2M1's grid in whole tensors, to the same numbers.
"""

from typing import Any

from runner.environments.patches.late import after_import

_MOST = 6.0


def apply() -> None:
    """Register another implementation for CPUs."""
    after_import("compressed_tensors.quantization.utils.fp4_utils", _mend)


def _mend(module: Any) -> None:
    import torch

    @module.ImplBackend.register("cast_to_fp4", lambda x: x.device.type == "cpu", 0)  # type: ignore[untyped-decorator]
    def cast_to_fp4_on_cpus(x: torch.Tensor) -> torch.Tensor:
        magnitude = x.abs()
        step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0)).to(x.dtype)
        rounded = (torch.round(magnitude / step) * step).clamp_(max=_MOST)
        return torch.copysign(rounded, x)
