"""HQQ: zero points that minimize a robust norm of the rounding error, without calibration.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (Mobius Labs, 2023).
"""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.bounds import bounded
from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import hqq
from runner.methods.base import Capabilities, Holder, Onloading, QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Hqq(Method):
    """Knobs of HQQ, named as in its library."""

    backend: str = "hqq"
    axis: int = bounded(1, least=0, most=1)
    """Along which weights share a scale: 1, the inputs of one output channel, which is what kernels
    read; 0, as many weights of many channels, which is often nearer to the model at few bits."""
    lp_norm: float = bounded(0.7, above=True, most=1)
    """Exponent p of the norm of the error that is minimized; 1 counts outliers most."""
    beta: float = bounded(10.0, above=True, most=1e6)
    """Weight of the half-quadratic penalty: the larger, the nearer zero points stay to where plain
    rounding has them."""
    iters: int = bounded(20, least=1, most=10_000)
    """Steps of the solver at most; it stops when the mean error no longer falls."""

    @property
    def has_zero_points(self) -> bool:
        """Always."""
        return True

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str | None:
        """Integers with zero points in 16 bits."""
        return f"{bits.label}-{group_size.label}-asym16"


class HqqMethod:
    """HQQ through its library."""

    config = Hqq
    mark = 14
    backends = MappingProxyType(
        {
            hqq.NAME: Capabilities(
                bits=("w4a16", "w8a16", "w3a16", "w2a16"),
                group_sizes=("g*",),
                checkpoint_format="hqq",
                packages=hqq.PACKAGES,
                holders=(Holder.linear, Holder.linear_subclass),
                rounds_in="float32",
                onloading=Onloading(),
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Looks at no text."""
        return hqq.no_calibration(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Fit the zero points of each layer, save."""
        options = job.recipe.method
        assert isinstance(options, Hqq)
        hqq.quantize(
            job,
            axis=options.axis,
            lp_norm=options.lp_norm,
            beta=options.beta,
            iters=options.iters,
        )


METHOD = HqqMethod()
