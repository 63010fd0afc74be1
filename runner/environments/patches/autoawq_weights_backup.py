"""AutoAWQ 0.2.9: on a CPU the search for scales spoils the weights.

``AwqQuantizer._compute_best_scale`` backs a module's weights up with ``.cpu()``, which on a
CPU is the same memory that the search then scales in place: every later scale is judged, and
the result computed, from spoiled weights.
"""

from typing import Any

from runner.environments.patches.late import after_import


def apply() -> None:
    """Make the backup a copy."""
    after_import("awq.quantize.quantizer", _mend)


def _mend(module: Any) -> None:
    import torch

    original = module.AwqQuantizer._compute_best_scale

    def compute(
        self: Any, x: Any, w_mean: Any, x_mean: Any, module2inspect: Any, *rest: Any, **more: Any
    ) -> Any:
        state_dict = module2inspect.state_dict
        module2inspect.state_dict = lambda: {k: v.clone() for k, v in state_dict().items()}
        try:
            return original(self, x, w_mean, x_mean, module2inspect, *rest, **more)
        finally:
            del module2inspect.state_dict

    if not torch.cuda.is_available():
        module.AwqQuantizer._compute_best_scale = compute
