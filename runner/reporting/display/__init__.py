"""Progress on the terminal.

On a terminal: a live table of the sweep, and bars with the time left for sweep, run and stage.
Elsewhere, and under Slurm: one plain line a stage. ``state`` knows how far things are, ``screen``
draws it, ``lines`` writes plain lines, ``watch`` follows runs that other processes carry out.
"""

from runner.reporting.display.display import Display, StageDisplay

__all__ = ["Display", "StageDisplay"]
