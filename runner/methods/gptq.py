"""GPTQ: round column by column and let the rest make up for the error (arXiv 2210.17323)."""

from dataclasses import dataclass

from runner.config.calibration import Calibration
from runner.config.method import Method
from runner.methods import llm_compressor
from runner.methods.base import Abilities, ActivationScales, QuantizeJob
from runner.recipe import Recipe


@dataclass
class Gptq(Method):
    """Knobs of GPTQ, named as in the reference implementation."""

    sym: bool = True
    """A grid symmetric around zero; otherwise one with a zero point."""
    desc_act: bool = True
    """Take columns in the order of decreasing activation. Groups' scales are fixed before
    (static groups), so that inference needs no reordering and costs nothing more."""
    damp_percent: float = 0.01
    """Added to the Hessian's diagonal, as a fraction of its mean."""
    block_size: int = 128
    """Columns updated together."""
    activation_scales: ActivationScales = ActivationScales.dynamic


class GptqMethod:
    """GPTQ through llm-compressor."""

    config = Gptq
    abilities = Abilities(
        bits=("w4a16", *llm_compressor.INTEGER_WEIGHTS, "w8a8"),
        group_sizes=("per_channel", "g*"),
        uses_calibration=True,
        checkpoint_format="compressed-tensors",
        packages=llm_compressor.PACKAGES,
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """The Hessian is estimated on the calibration text."""
        return recipe.calibration

    def quantize(self, job: QuantizeJob) -> None:
        """Estimate Hessians block by block, solve, save."""
        from llmcompressor.modifiers.quantization import GPTQModifier

        knobs = job.recipe.method
        assert isinstance(knobs, Gptq)
        order = "static" if knobs.desc_act else None
        scheme = llm_compressor.build_scheme(
            job,
            sym=knobs.sym,
            observer="memoryless_minmax",
            activation_scales=knobs.activation_scales,
            activation_order=order,
        )
        modifier = GPTQModifier(
            config_groups={"linear": scheme},
            ignore=knobs.ignore,
            dampening_frac=knobs.damp_percent,
            block_size=knobs.block_size,
            # Left out, the modifier would put its own default over the scheme's.
            actorder=order,
        )
        llm_compressor.compress(job, [modifier])


METHOD = GptqMethod()
