"""A Hydra launcher that runs each job of a sweep as a job of submitit: under Slurm, or here."""

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import RunnerError, UsageError
from runner.multirun.launchers.allotment import Allotment, gpus_used
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.jobs import slurm_states, write_jobs
from runner.multirun.launchers.slots import Slots
from runner.store.records import Status, close_record
from runner.util.gpus import visible_gpus
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
        gpus_per_run: int | None = None,
        **parameters: Any,
    ) -> None:
        """Settings come from ``conf/hydra/launcher``.

        Args:
            cluster: submitit's name of it: ``slurm`` or ``local``.
            poll_seconds: Seconds between looks at the jobs' states.
            max_concurrent: Jobs at a time on this machine, for ``local``: one by default, or as
                many as its GPUs allow where ``gpus_per_run`` is set.
            gpus_per_run: GPUs of this machine that a job gets which computes on one, for ``local``;
                by default as many as it uses. Zero hides them from all jobs.
            parameters: Passed on to submitit's executor, ``null`` ones left out.
        """
        super().__init__(poll_seconds)
        self.cluster = cluster
        self.detaches = cluster == "slurm"
        self.max_concurrent = max_concurrent
        self.gpus_per_run = gpus_per_run
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
        self._require_settings()
        try:
            self._executor(Path())
        except (TypeError, ValueError, NameError, AssertionError) as error:
            raise UsageError(f"hydra.launcher: {' '.join(str(error).split())}") from None

    def _require_settings(self) -> None:
        here = self.cluster == "local"
        for name, least in (("max_concurrent", 1), ("gpus_per_run", 0)):
            value = getattr(self, name)
            if value is None:
                continue
            if not here:
                raise UsageError(f"hydra.launcher.{name} has no effect under Slurm")
            if type(value) is not int or value < least:
                raise UsageError(
                    f"hydra.launcher.{name}={value} must be a whole number, {least} or more"
                )
        if here and (told := {"gpus_per_node", "visible_gpus"} & {*self.parameters}):
            raise UsageError(f"hydra.launcher.{min(told)} has no effect here: use gpus_per_run")

    def look_at(self, jobs: "list[Prepared]") -> None:
        """See that every run can have the GPUs that it asks for.

        Raises:
            UsageError: One cannot.
        """
        if self.cluster == "local":
            self._allotment().look_at(jobs)
            return
        given: int | None = self.parameters.get("gpus_per_node")
        if given is None:
            return
        for job in jobs:
            if (used := gpus_used(job.config, given > 0)) > given:
                raise UsageError(
                    f"{job.run} computes on {used} GPUs, but hydra.launcher.gpus_per_node={given}"
                )

    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Submit the runs, and wait for them unless they are to be left alone."""
        folder = sweep.parent.parent / "launch" / sweep.name
        # The jobs' command lines stand in it, secrets by the variables that hold them.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        executor = self._executor(folder)
        if self.cluster == "slurm":
            self._under_slurm(executor, jobs, sweep, detach)
        else:
            allotment = self._allotment()
            self.wait(sweep, jobs, Slots(executor, jobs, self._limit(allotment), allotment).look)

    def _allotment(self) -> Allotment:
        return Allotment(visible_gpus(), self.gpus_per_run)

    def _limit(self, allotment: Allotment) -> int:
        if self.max_concurrent is not None:
            return self.max_concurrent
        return max(1, len(allotment.gpus) // self.gpus_per_run) if self.gpus_per_run else 1

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
