"""Where a run's checkpoints lie and what its engine ran with, for its record."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.weights import weight_file_bytes
from runner.environments.choose import choose
from runner.errors import UsageError
from runner.store.placement import Placement

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext


def placement(run: "RunContext") -> Placement:
    """Of what the run has looked at, in the form in which its engine took it."""
    inputs = run.inputs
    found, sizes = {}, {}
    for whose, checkpoint in run.checkpoints():
        directory = inputs.converted.get(checkpoint.directory, checkpoint.directory)
        found[whose] = _below(directory, inputs.session.store.root)
        # What quality is measured of may be the same weights in a wider type: nobody serves that.
        with contextlib.suppress(OSError, ValueError):
            if size := weight_file_bytes(checkpoint.directory):
                sizes[whose] = size
    return Placement(found, _programs(run), inputs.compute.device, inputs.compute.dtype, sizes)


def _below(directory: Path, root: Path) -> str:
    """Relative to the store where it lies in it: a store may be moved, or mounted elsewhere."""
    absolute = directory.absolute()
    return absolute.relative_to(root).as_posix() if root in absolute.parents else str(absolute)


def _programs(run: "RunContext") -> str | None:
    """Where the engine's environment has its programs; nothing is made for that."""
    engine, inputs = run.config.engine, run.inputs
    device = inputs.compute.device
    try:
        chosen = choose(run.config.environment, engine.name, device, engine.environment)
        ready = inputs.session.ready(chosen, device)
    except UsageError:  # stages that needed it have said so
        return None
    return None if ready is None else str(Path(ready.python).parent)
