"""QuIP: rotate the inputs of every linear layer while the model runs, and round in between.

arXiv 2307.13304 and 2402.04396 (QuIP#), without the latter's codebooks of lattices.
"""

from dataclasses import dataclass
from enum import Enum

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.methods import rotated
from runner.methods.backends import llm_compressor
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


class Side(Enum):
    """Sides of a linear layer, as the paper names their matrices."""

    v = "v"
    """Inputs."""
    u = "u"
    """Outputs; slower, and not more accurate in llm-compressor's experience."""


def _inputs() -> list[Side]:
    return [Side.v]


@dataclass
class Quip(rotated.Rotated):
    """Knobs of QuIP."""

    rotations: list[Side] = bounded(factory=_inputs, filled=True)

    @property
    def rotates_at_run_time(self) -> bool:
        """Always."""
        return True


class QuipMethod:
    """QuIP through llm-compressor."""

    config = Quip
    mark = 12
    backends = llm_compressor.only_backend(
        bits=rotated.BITS, group_sizes=rotated.GROUP_SIZES, keeps_scales=False
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Only the rounding looks at text."""
        return rotated.calibration_for(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Rotate, round, save."""
        from runner.methods.backends.rotations import quip_modifier

        options = job.recipe.method
        assert isinstance(options, Quip)
        rotation = quip_modifier(
            job,
            rotations=sorted({one.value for one in options.rotations}),
            transform_type=options.transform_type.library_name,
            block_size=options.transform_block_size,
        )
        llm_compressor.compress(job, [rotation, rotated.rounding_modifier(job, options)])


METHOD = QuipMethod()
