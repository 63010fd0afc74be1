"""A Hydra launcher that runs each job of a sweep as a job of submitit: under Slurm, or here."""

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import RunnerError, UsageError
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.jobs import slurm_states, write_jobs
from runner.store.records import Status, close_record
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared

_REQUEUES_AFTER_TIME_LIMIT = 0


class SubmititLauncher(ClusterLauncher):
    """Submits a sweep's jobs, and stays until all of them are over unless told to detach."""

    # Hydra takes plugins only from a package of this name: runner/multirun/plugins has it.
    __module__ = "hydra_plugins.quant_runner"

    def __init__(
        self,
        cluster: str,
        poll_seconds: float,
        max_concurrent: int | None = None,
        **parameters: Any,
    ) -> None:
        """Settings come from ``conf/hydra/launcher``.

        Args:
            cluster: submitit's name of it: ``slurm`` or ``local``.
            poll_seconds: Seconds between looks at the jobs' states.
            max_concurrent: Jobs at a time on this machine; for ``local``.
            parameters: Passed on to submitit's executor, ``null`` ones left out.
        """
        super().__init__(poll_seconds)
        self.cluster = cluster
        self.detaches = cluster == "slurm"
        self.max_concurrent = max_concurrent
        self.parameters = {key: value for key, value in parameters.items() if value is not None}

    def require(self) -> None:
        """See that submitit is installed and, for Slurm, that its commands are.

        Raises:
            UsageError: They are not.
        """
        if importlib.util.find_spec("submitit") is None:
            raise UsageError(
                "hydra/launcher=submitit_* needs submitit: pip install quant-runner[launchers]"
            )
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UsageError(
                "hydra/launcher=submitit_slurm: there is no sbatch here; run it on a login node, "
                "or hydra/launcher=submitit_local"
            )
        try:
            self._executor(Path())
        except (TypeError, ValueError, NameError, AssertionError) as error:
            raise UsageError(f"hydra.launcher: {' '.join(str(error).split())}") from None

    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Submit the runs, and wait for them unless they are to be left alone."""
        folder = sweep.parent.parent / "launch" / sweep.name
        # The jobs' command lines stand in it, secrets by the variables that hold them.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        executor = self._executor(folder)
        if self.cluster == "slurm":
            self._under_slurm(executor, jobs, sweep, detach)
        else:
            self.wait(sweep, jobs, _Slots(executor, jobs, self.max_concurrent).look)

    def _executor(self, folder: Path) -> Any:
        import submitit

        executor = submitit.AutoExecutor(
            folder, cluster=self.cluster, slurm_max_num_timeout=_REQUEUES_AFTER_TIME_LIMIT
        )
        executor.update_parameters(**self.parameters)
        return executor

    def _under_slurm(
        self, executor: Any, prepared: "list[Prepared]", sweep: Path, detach: bool
    ) -> None:
        from submitit.core.utils import FailedJobError

        try:
            with executor.batch():
                jobs = [executor.submit(one.task) for one in prepared]
        except FailedJobError as error:
            why = f"sbatch refused: {' '.join(str(error).split())}"
            for one in prepared:
                close_record(one.task.record, Status.failed, why)
            raise RunnerError(why) from None
        ids = {one.run: str(job.job_id) for one, job in zip(prepared, jobs, strict=True)}
        write_jobs(sweep, ids)
        main = next(iter(ids.values())).partition("_")[0]
        tell(f"{len(ids)} runs submitted to Slurm as job {main}", error=True)
        tell(f"their state: runner report {sweep.name}", error=True)

        def look() -> dict[str, str]:
            states = slurm_states(ids.values())
            return {run: states[job] for run, job in ids.items()}

        if not detach:
            self.wait(sweep, prepared, look)


class _Slots:
    """Jobs on this machine, so many at a time."""

    def __init__(self, executor: Any, waiting: "list[Prepared]", limit: int | None) -> None:
        self._executor = executor
        self._waiting = waiting
        self._limit = limit or len(waiting)
        self._started: dict[str, Any] = {}

    def look(self) -> dict[str, str]:
        """Start what there is room for; the state of every run's job."""
        running = sum(not job.done() for job in self._started.values())
        for one in self._waiting[: max(0, self._limit - running)]:
            self._started[one.run] = self._executor.submit(one.task)
        self._waiting = [one for one in self._waiting if one.run not in self._started]
        states = {run: _state(job) for run, job in self._started.items()}
        return {**states, **{one.run: "PENDING" for one in self._waiting}}


def _state(job: Any) -> str:
    # A record that is still open when its process is gone belongs to a failed run.
    return "FAILED" if job.done() else "RUNNING"
