"""The same work with one thing changed about its arithmetic: what a noise floor is measured by."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.config.schema.floor import Variation
from runner.engines import find_engine
from runner.planning.arithmetic import FLOAT32, Arithmetic, can_vary_type
from runner.planning.model_facts import model_facts

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs

BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class Varied:
    """What is changed; the rest is the run's."""

    dtype: str | None = None
    """Torch dtype name."""
    threads: int | None = None
    batch_size: int | None = None
    engine: str | None = None

    @property
    def title(self) -> str:
        """As in ``in bfloat16``, behind what is done."""
        if self.dtype is not None:
            return f"in {self.dtype}"
        if self.threads is not None:
            return f"on {self.threads} thread{'s' * (self.threads > 1)}"
        if self.batch_size is not None:
            return f"in batches of {self.batch_size}"
        return f"in engine {self.engine}"

    @property
    def determinants(self) -> dict[str, Any]:
        """What decides the result though it does not otherwise."""
        return {} if self.threads is None else {"threads": self.threads}

    def inputs(self, own: "Inputs") -> "Inputs":
        """A run's inputs, with that changed; they share its session and its warnings."""
        other = copy.copy(own)
        if self.engine is not None:
            # In the type that it would measure quality in by itself.
            kind = find_engine(self.engine).config
            asked = own.config.engine
            engine = kind(name=self.engine, device=asked.device, threads=asked.threads)
            other.config, other._arithmetic = replace(own.config, engine=engine), None
            other.converted = {}
        if self.dtype is not None:
            other._arithmetic = Arithmetic(self.dtype)
        if self.threads is not None:
            other.compute = replace(own.compute, threads=self.threads)
        if self.batch_size is not None:
            tasks = replace(own.config.tasks, batch_size=self.batch_size)
            other.config = replace(own.config, tasks=tasks)
        return other


def variations(
    inputs: "Inputs", model: "Checkpoint", asked: Sequence[Variation], batch_size: int
) -> dict[Variation, Varied]:
    """What is to be done once more for each variation; those that change nothing are left out.

    Args:
        inputs: The run's.
        model: The unquantized model.
        asked: Variations.
        batch_size: What the run computes together.
    """
    config, threads = inputs.config, inputs.compute.threads
    dtype = model.dtype if inputs.arithmetic.dtype == "auto" else inputs.arithmetic.dtype
    parameters = model_facts(config.model).parameters
    found = {
        Variation.threads: Varied(threads=1 if threads > 1 else 2),
        Variation.batch_size: Varied(batch_size=2 if batch_size == 1 else batch_size // 2),
        Variation.engine: Varied(engine=config.eval.floor_engine),
    }
    if can_vary_type(config, inputs.compute, parameters):
        found |= {Variation.float32: Varied(dtype=FLOAT32)} if dtype != FLOAT32 else {}
        found |= {Variation.bfloat16: Varied(dtype=BFLOAT16)} if dtype != BFLOAT16 else {}
    return {one: found[one] for one in dict.fromkeys(asked) if one in found}
