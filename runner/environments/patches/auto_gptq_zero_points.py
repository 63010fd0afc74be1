"""AutoGPTQ 0.7.1: a zero point of 0 spoils its neighbours.

The format stores zero points less one. ``QuantLinear.pack`` ors that into a 32-bit word
without masking it, so that -1 sets the bits of all the zero points that follow in the word.
Readers that add one and mask read -1 as 0 when it is stored in its own bits alone. Grids
symmetric around zero never have one.
"""

from typing import Any

from runner.environments.patches.late import after_import

_MODULES = ("qlinear_cuda", "qlinear_cuda_old", "qlinear_exllama")


def apply() -> None:
    """Pack zero points anew, masked."""
    for name in _MODULES:
        after_import(f"auto_gptq.nn_modules.qlinear.{name}", _mend)


def _mend(module: Any) -> None:
    original = module.QuantLinear.pack

    def pack(self: Any, linear: Any, scales: Any, zeros: Any, g_idx: Any) -> None:
        stored = zeros.clone() - 1
        original(self, linear, scales, zeros, g_idx)
        self.qzeros = _packed(stored.t(), self.bits)

    module.QuantLinear.pack = pack


def _packed(values: Any, bits: int) -> Any:
    """Rows of integers as rows of 32-bit words, one after the other from the lowest bit."""
    import numpy as np
    import torch

    masked = values.to(torch.int64).numpy() & (2**bits - 1)
    stream = (masked[:, :, None] >> np.arange(bits)) & 1
    octets = np.packbits(
        stream.astype(np.uint8).reshape(len(masked), -1), axis=1, bitorder="little"
    )
    return torch.from_numpy(octets.view("<i4").copy())
