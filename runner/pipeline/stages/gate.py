"""Stage ``gate``: whether a finished run may be released, once, from records alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.pipeline.stages.base import Place, Stage

if TYPE_CHECKING:
    from runner.pipeline.context import Expected


@dataclass
class GateRequest:
    """Nothing: the configuration says which records are read."""


class GateStage(Stage[GateRequest, GateRequest]):
    """Reads what has run."""

    name = "gate"
    schema_version = 1
    request = GateRequest
    result = GateRequest
    place = Place.sweep
    loads_model = False
    asks_engine = False

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """It files nothing with a run."""
        return []


STAGE = GateStage()
