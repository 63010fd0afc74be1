"""GPTQ: round column by column and let the rest compensate the error (arXiv 2210.17323)."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import auto_gptq, gptqmodel, llm_compressor
from runner.methods.backends.compressed_schemes import FORMATS
from runner.methods.base import ActivationScales, Capabilities, Holder, Onloading, QuantizeJob
from runner.methods.recipe import Recipe


@dataclass
class Gptq(Method):
    """Knobs of GPTQ, named as in the reference implementation."""

    backend: str = "llm_compressor"
    """``llm_compressor``, ``gptqmodel``, or the archived ``auto_gptq``."""
    sym: bool = True
    """Use a grid symmetric around zero, instead of one with a zero point."""
    desc_act: bool = True
    """Quantize columns in the order of decreasing activation. Scales of groups are fixed before
    (static groups), so inference needs no reordering and has no extra cost."""
    damp_percent: float = bounded(0.01, above=True, most=0.999)
    """Added to the Hessian's diagonal, as a fraction of its mean."""
    block_size: int = bounded(128, least=1)
    """Columns updated together."""
    true_sequential: bool | None = None
    """Quantize the layers of a block one after the other, each on the outputs of the rounded ones
    before it. ``None`` is the backend's default: llm_compressor quantizes a whole block at once,
    the others do not."""
    activation_scales: ActivationScales = ActivationScales.dynamic

    @property
    def solves_with_hessians(self) -> bool:
        """Always."""
        return True

    @property
    def has_zero_points(self) -> bool:
        """Unless the grid is symmetric."""
        return not self.sym


class GptqMethod:
    """GPTQ through llm-compressor, GPTQModel or AutoGPTQ."""

    config = Gptq
    mark = 0
    backends = MappingProxyType(
        {
            llm_compressor.NAME: llm_compressor.capabilities(
                bits=("w4a16", *llm_compressor.INTEGER_WEIGHTS),
                group_sizes=("per_channel", "g*"),
                formats=FORMATS,
                mixes=True,
                cannot=(("true_sequential", True, "quantizes a whole block at once"),),
            ),
            "auto_gptq": Capabilities(
                bits=("w4a16", "w8a16", "w3a16", "w2a16"),
                group_sizes=("per_channel", "g*"),
                checkpoint_format="gptq",
                packages=("auto-gptq", "transformers", "torch"),
                holders=(Holder.linear, Holder.linear_subclass, Holder.conv1d),
                model_refusal=auto_gptq.model_refusal,
                rounds_in="float32",
                onloading=Onloading(),
            ),
            "gptqmodel": Capabilities(
                bits=("w4a16", "w8a16", "w3a16", "w2a16"),
                group_sizes=("per_channel", "g*"),
                checkpoint_format="gptq",
                packages=("gptqmodel", "transformers", "torch"),
                holders=tuple(Holder),
                model_refusal=gptqmodel.model_refusal,
                rounds_in="float32",
                onloading=Onloading(activations=True),
            ),
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """The Hessian is estimated on the calibration text."""
        return recipe.calibration

    def quantize(self, job: QuantizeJob) -> None:
        """Estimate Hessians block by block, solve, save."""
        options = job.recipe.method
        assert isinstance(options, Gptq)
        if options.backend == "llm_compressor":
            llm_compressor.compress(job, [gptq_modifier(job, options)])
            return
        backend = auto_gptq if options.backend == "auto_gptq" else gptqmodel
        backend.quantize_gptq(
            job,
            sym=options.sym,
            desc_act=options.desc_act,
            damp_percent=options.damp_percent,
            true_sequential=options.true_sequential is not False,
        )


def gptq_modifier(job: QuantizeJob, options: Gptq) -> Any:
    """GPTQ as llm-compressor carries it out."""
    return llm_compressor.gptq_modifier(
        job,
        sym=options.sym,
        desc_act=options.desc_act,
        damp_percent=options.damp_percent,
        block_size=options.block_size,
        activation_scales=options.activation_scales,
    )


METHOD = GptqMethod()
