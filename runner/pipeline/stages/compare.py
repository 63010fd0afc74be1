"""Stage ``compare``: two sweeps or runs side by side, once, from records alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.pipeline.stages.base import Place, Stage

if TYPE_CHECKING:
    from runner.pipeline.context import Expected


@dataclass
class CompareRequest:
    """Nothing: the configuration says which records are read."""


class CompareStage(Stage[CompareRequest, CompareRequest]):
    """Reads two of what has run."""

    name = "compare"
    schema_version = 1
    request = CompareRequest
    result = CompareRequest
    place = Place.sweep
    loads_model = False
    asks_engine = False

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """It files nothing with a run."""
        return []


STAGE = CompareStage()
