"""``runner track``: list and upload W&B's offline runs."""

from collections.abc import Sequence
from pathlib import Path

from runner.cli.verbs import carry_out
from runner.config.schema.tracker import Tracker
from runner.errors import UsageError
from runner.reporting.tracking.sync import OfflineRun, offline_runs, send
from runner.util.names import Name
from runner.util.shown import tell
from runner.util.suggest import unknown

USAGE = """\
runner track list [SWEEP ...]   W&B runs that are kept offline, and which of them were sent
runner track sync [SWEEP ...]   send those that were not; needs WANDB_API_KEY or `wandb login`

Another place: tracker.directory=PATH, store.root=PATH, or QUANT_RUNNER_STORE. Another server:
WANDB_BASE_URL.
"""


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner track ARGUMENTS``; returns the exit code."""
    verbs = {"list": _list, "sync": _sync}
    stopped = "runs that were not uploaded are still here"
    return carry_out("track", arguments, usage=USAGE, prepare=_Kept, verbs=verbs, stopped=stopped)


class _Kept:
    """Offline runs of the chosen sweeps, and which of the store's runs they follow."""

    def __init__(self, overrides: list[str], sweeps: list[str]) -> None:
        from runner.api import compose_config

        config = compose_config(overrides)
        self.directory = Path(config.tracker.directory).expanduser().resolve()
        runs = Path(config.store.root).expanduser().resolve() / "runs"
        sweeps = [Name.shortened(sweep) for sweep in sweeps]
        known = {path.name for path in runs.glob("*") if path.is_dir()}
        if wrong := next((sweep for sweep in sweeps if sweep not in known), None):
            raise UsageError(unknown(f"sweep {wrong}", known or ["none"], wrong, "sweeps"))
        self._names = _names(config.tracker, runs)
        found = offline_runs(self.directory)
        self.runs = [r for r in found if not sweeps or self.name(r).partition("/")[0] in sweeps]

    def name(self, run: OfflineRun) -> str:
        """Sweep and run; the directory's own name where the store has no such run any more."""
        return self._names.get(run.id, run.directory.name)


def _names(tracker: Tracker, runs: Path) -> dict[str, str]:
    """``SWEEP/RUN`` by W&B id, for every record of the store."""
    from runner.reporting.tracking.wandb_run import gate_name, run_id

    places = [(path.parent.parent.name, path.parent.name) for path in runs.glob("*/*/record.json")]
    places += [(sweep, gate_name(run)) for sweep, run in places]
    places += [(sweep, "summary") for sweep in {sweep for sweep, _ in places}]
    return {run_id(tracker, sweep, run): f"{sweep}/{run}" for sweep, run in places}


def _list(kept: _Kept, sweeps: list[str]) -> int:
    for run in kept.runs:
        state = "sent" if run.is_sent else "not sent"
        tell(f"{state:<8}  {run.bytes / 1e6:6.1f} MB  {kept.name(run)}")
    waiting = sum(not run.is_sent for run in kept.runs)
    tell(f"{len(kept.runs)} runs in {kept.directory / 'wandb'}, {waiting} not sent")
    return 0


def _sync(kept: _Kept, sweeps: list[str]) -> int:
    waiting = [run for run in kept.runs if not run.is_sent]
    if not waiting:
        tell(f"nothing to upload: {len(kept.runs)} runs in {kept.directory / 'wandb'}, all sent")
        return 0
    sent = send(waiting, kept.directory)
    for run in waiting:
        tell(f"{'sent' if run in sent else 'not sent':<8}  {kept.name(run)}")
    tell(f"{len(sent)} of {len(waiting)} runs uploaded")
    return 0 if len(sent) == len(waiting) else 1
