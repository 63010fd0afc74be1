"""PyTorch's own quantization: rounding to nearest into tensors that torchao multiplies."""

from dataclasses import dataclass
from types import MappingProxyType

from runner.config.schema.bits import Bits
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.methods.backends import torchao
from runner.methods.base import Capabilities, Holder, QuantizeJob
from runner.methods.recipe import Recipe

_WHOLE = ("per_channel", "per_tensor")


@dataclass
class Torchao(Method):
    """Knobs of torchao: none but those of every method."""

    backend: str = "torchao"

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str | None:
        """Four bits have zero points in 16 bits."""
        own = f"{bits.label}-{group_size.label}-asym16"
        return own if bits.weight.num_bits == 4 else super().plan_label(bits, group_size)


class TorchaoMethod:
    """Weights alone, or with activations that are rounded token by token, through torchao."""

    config = Torchao
    mark = 15
    backends = MappingProxyType(
        {
            torchao.NAME: Capabilities(
                bits=("w8a16", "w8a8", "w4a16", "fp8_e4m3_a16"),
                group_sizes=_WHOLE,
                group_sizes_of={
                    "w8a16": (*_WHOLE, "g*"),
                    "w4a16": ("g32", "g64", "g128", "g256"),
                    "fp8_e4m3_a16": (*_WHOLE, "g*"),
                },
                checkpoint_format="torchao",
                packages=torchao.PACKAGES,
                holders=(Holder.linear, Holder.linear_subclass),
                plain_rounding=True,
                rounds_in=torchao.ROUNDS_IN,
                rounds_on_load=True,
            )
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Looks at no text."""
        return torchao.no_calibration(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Round while loading, save."""
        torchao.quantize(job)


METHOD = TorchaoMethod()
