"""Stage ``report``: the answer of finished sweeps, once, from records alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.pipeline.stages.base import Place, Stage

if TYPE_CHECKING:
    from runner.pipeline.context import Expected


@dataclass
class ReportRequest:
    """Nothing: the configuration says which records are read."""


class ReportStage(Stage[ReportRequest, ReportRequest]):
    """Reads what has run."""

    name = "report"
    schema_version = 1
    request = ReportRequest
    result = ReportRequest
    place = Place.sweep
    loads_model = False
    asks_engine = False

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """It files nothing with a run."""
        return []


STAGE = ReportStage()
