"""Heat map of sensitivities by block and kind of layer."""

import io
import math

from runner.stages.sensitivity import SensitivityResult

_INCHES_A_CELL = 0.28
_FLOOR = 1e-9
"""Divergences below it are rounding noise of the arithmetic."""


def draw_heat_map(found: SensitivityResult) -> bytes:
    """A PNG: a panel for each rounding, one row a kind, one column a block.

    The embedding stands before the first block, the head after the last. Colours are logarithmic
    and the same in all panels.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    # A matplotlibrc that lies in the working directory is none of ours.
    matplotlib.rcdefaults()
    roundings = list(dict.fromkeys(row.rounding for row in found.rows))
    kinds = list(dict.fromkeys(unit.kind for unit in found.units))
    columns = _columns(found)
    values = [row.kl_divergence.estimate for row in found.rows]
    low = max(min(values), _FLOOR)
    norm = LogNorm(low, max(*values, low * 10))
    width = 2.6 + _INCHES_A_CELL * len(columns)
    height = 0.9 + (0.75 + _INCHES_A_CELL * len(kinds)) * len(roundings)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(roundings), 1, squeeze=False)[:, 0]
    for rounding, panel in zip(roundings, panels, strict=True):
        cells = _cells(found, rounding, kinds, columns)
        image = panel.imshow(cells, norm=norm, cmap="viridis", aspect="auto")
        panel.set_title(f"{rounding}, one at a time", fontsize=9, loc="left")
        panel.set_yticks(range(len(kinds)), kinds, fontsize=8, parse_math=False)
        panel.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90)
    panels[-1].set_xlabel("block", fontsize=8)
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.01)
    bar.set_label("KL divergence, nats a token", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110, format="png")
    return stream.getvalue()


def _columns(found: SensitivityResult) -> list[str]:
    blocks = sorted({unit.block for unit in found.units if unit.block is not None})
    return ["in", *(map(str, blocks) if blocks else ["all"]), "out"]


def _cells(
    found: SensitivityResult, rounding: str, kinds: list[str], columns: list[str]
) -> list[list[float]]:
    cells = [[math.nan] * len(columns) for _ in kinds]
    units = {unit.name: unit for unit in found.units}
    places = {found.units[0].name: 0, found.units[-1].name: len(columns) - 1}
    for row in found.rows:
        if row.rounding != rounding:
            continue
        unit = units[row.unit]
        column = places.get(unit.name)
        if column is None:
            column = 1 if unit.block is None else columns.index(str(unit.block))
        cells[kinds.index(unit.kind)][column] = max(row.kl_divergence.estimate, _FLOOR)
    return cells
