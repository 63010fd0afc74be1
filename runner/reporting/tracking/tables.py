"""The rows of an answer as a tracker's table."""

from runner.pipeline.stages.base import Cells
from runner.reporting.row import Row, figure_names


def runs_table(rows: list[Row]) -> Cells:
    """One line a row of the answer."""
    names = figure_names(rows)
    contents = [row.content() for row in rows]
    return names, [[content.get(name) for name in names] for content in contents]
