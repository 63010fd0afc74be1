"""compressed-tensors 0.19.0: of inputs of two dimensions all tokens share one scale.

``compute_dynamic_scales_and_zp`` reduces over all dimensions but the first two, which are batch and
token. Of a matrix, a token a row, that leaves nothing to reduce over, and ``torch.amin`` takes an
empty tuple for all of them. Layers of some families are given matrices (OPT's, routers').
"""

from typing import Any

from runner.environments.patches.late import after_import


def apply() -> None:
    """Give each row of a matrix its own scale."""
    after_import("compressed_tensors.quantization.utils.helpers", _mend)


def _mend(module: Any) -> None:
    original = module.compute_dynamic_scales_and_zp
    by_token = module.QuantizationStrategy.TOKEN

    def compute(value: Any, args: Any, *rest: Any, **more: Any) -> Any:
        if args.strategy != by_token or value.ndim != 2:
            return original(value, args, *rest, **more)
        scales, zero_points = original(value.unsqueeze(0), args, *rest, **more)
        return scales.squeeze(0), zero_points.squeeze(0)

    module.compute_dynamic_scales_and_zp = compute
