"""AWQ: scale up the channels that activations make important, then round (arXiv 2306.00978)."""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from runner.config.schema.bits import Bits, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import autoawq, llm_compressor
from runner.methods.backends.compressed_schemes import FORMATS, build_scheme
from runner.methods.base import Capabilities, Onloading, QuantizeJob
from runner.methods.recipe import Recipe


class Version(Enum):
    """How AutoAWQ packs weights: for matrix products, or for matrix-vector products."""

    GEMM = "GEMM"
    GEMV = "GEMV"


@dataclass
class Awq(Method):
    """Knobs of AWQ, named as in the reference implementation.

    Its ``w_bit`` and ``q_group_size`` are ``bits`` and ``group_size``.
    """

    backend: str = "llm_compressor"
    """``llm_compressor``, or the archived ``autoawq``."""
    zero_point: bool | None = None
    """Use a grid with a zero point, instead of one symmetric around zero. By default integers have
    one, unless activations are rounded too; floats have none."""
    version: Version = Version.GEMM
    """Layout of the checkpoint that autoawq writes."""
    duo_scaling: bool = True
    """Take the magnitudes of weights into account for the scales too."""
    clip: bool = False
    """Search a range narrower than the weights' own (autoawq; ten times the time)."""

    def rounds_with_zero_points(self, bits: Bits) -> bool:
        """As ``zero_point`` says, else as most kernels want it."""
        if self.zero_point is not None:
            return self.zero_point
        return bits.weight.type is NumberType.int and not bits.quantizes_activations


_FORMATS = {
    bits: tuple(group for group in groups if group != "per_tensor")
    for bits, groups in FORMATS.items()
}
"""Magnitudes of weights are compared within what shares a scale, and a tensor is too much."""


class AwqMethod:
    """AWQ through llm-compressor or AutoAWQ."""

    config = Awq
    mark = 2
    backends = MappingProxyType(
        {
            llm_compressor.NAME: llm_compressor.capabilities(
                bits=("w4a16", *llm_compressor.INTEGER_WEIGHTS),
                group_sizes=("per_channel", "g*"),
                formats=_FORMATS,
                keeps_scales=False,
                onloading=Onloading(activations=True),
                cannot=(("clip", True, "does not search narrower ranges"),),
            ),
            "autoawq": Capabilities(
                bits=("w4a16",),
                group_sizes=("g*",),
                checkpoint_format="awq",
                against_unequal_windows="AutoAWQ joins windows of different lengths and cuts them "
                "again",
                packages=("autoawq", "transformers", "torch"),
                keeps_scales=False,
                cannot=(("zero_point", False, "packs only weights with a zero point"),),
                model_refusal=autoawq.model_refusal,
                # Scales are searched in the type asked for.
                rounds_in="float16",
                onloading=Onloading(activations=True),
            ),
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Activations are looked at on the calibration text."""
        return recipe.calibration

    def quantize(self, job: QuantizeJob) -> None:
        """Search the scales block by block, round, save."""
        options = job.recipe.method
        assert isinstance(options, Awq)
        if options.backend == "autoawq":
            autoawq.quantize_awq(
                job,
                zero_point=options.zero_point is not False,
                version=options.version.value,
                duo_scaling=options.duo_scaling,
                clip=options.clip,
            )
            return
        from llmcompressor.modifiers.quantization import QuantizationModifier

        from runner.methods.backends.smoothing import awq_modifier, require_whole_blocks

        require_whole_blocks(job)
        scheme = build_scheme(
            job,
            sym=not options.rounds_with_zero_points(job.recipe.bits),
            observer="memoryless_minmax",
        )
        rounding = QuantizationModifier(config_groups={"linear": scheme}, ignore=options.ignore)
        llm_compressor.compress(job, [awq_modifier(duo_scaling=options.duo_scaling), rounding])


METHOD = AwqMethod()
