"""Hydra launchers that run each job of a sweep as a job of submitit: under Slurm, or here."""

import contextlib
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.display.watch import Watch
from runner.errors import UsageError
from runner.launching.jobs import collect, slurm_states, write_jobs
from runner.launching.place import Place

if TYPE_CHECKING:
    from runner.launching.prepare import Prepared

_REQUEUES_AFTER_TIME_LIMIT = 0
_FIRST_LOOK_SECONDS = 1.0


class SubmititLauncher(Launcher):
    """Submits a sweep's jobs, and stays until all of them are over unless told to detach.

    A job is a command line of one run, so it composes its configuration where it runs.
    """

    # Hydra takes plugins only from a package of this name: runner/plugins has it.
    __module__ = "hydra_plugins.quant_runner"

    def __init__(
        self, cluster: str, poll_seconds: float, at_once: int | None = None, **parameters: Any
    ) -> None:
        """Settings come from ``conf/hydra/launcher``.

        Args:
            cluster: submitit's name of it: ``slurm`` or ``local``.
            poll_seconds: Seconds between looks at the jobs' states.
            at_once: Jobs at a time on this machine; for ``local``.
            parameters: Passed on to submitit's executor, ``null`` ones left out.
        """
        self.cluster = cluster
        self.poll_seconds = poll_seconds
        self.at_once = at_once
        self.parameters = {key: value for key, value in parameters.items() if value is not None}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over; the task itself is called by the jobs' own processes."""
        self.config: DictConfig | None = config
        self.hydra_context: HydraContext | None = hydra_context

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the jobs that are not done yet and wait for them.

        Raises:
            UsageError: submitit or the cluster's commands are missing, or a job is wrong.
        """
        prepared = [
            self._prepare(overrides, number)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        if prepared[0].config.dry_run:
            return _told(prepared)
        self.require()
        place, detach = prepared[0].place, prepared[0].config.launch.detach
        if detach and self.cluster != "slurm":
            raise UsageError("launch.detach=true needs hydra/launcher=submitit_slurm")
        to_do = [job for job in prepared if not job.done]
        for job in to_do:
            job.open_record()
        # What only predicts holds none of the cluster's devices.
        for job in (job for job in to_do if job.is_light):
            with contextlib.suppress(RuntimeError):  # its record says what went wrong
                job.task()
        if heavy := [job for job in to_do if not job.is_light]:
            self.carry_out(heavy, place.runs / place.sweep, detach)
        return [_returned(replace(job.place, detached=detach)) for job in prepared]

    def require(self) -> None:
        """See that what the launcher needs is there.

        Raises:
            UsageError: It is not.
        """
        _require(self.cluster)

    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Submit jobs, and wait for them unless they are to be left alone.

        Args:
            jobs: Their records are open.
            sweep: The sweep's folder of records.
            detach: Return once they are submitted.
        """
        executor = self._executor(sweep.parent.parent / "launch" / sweep.name)
        if self.cluster == "slurm":
            self._under_slurm(executor, jobs, sweep, detach)
        else:
            self.wait(sweep, jobs, _Slots(executor, jobs, self.at_once).look)

    def _prepare(self, overrides: Sequence[str], number: int) -> "Prepared":
        from runner.launching.prepare import prepare

        assert self.hydra_context is not None
        assert self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        given = OmegaConf.to_container(composed.hydra.overrides.task, resolve=False)
        assert isinstance(given, list)
        name = self.config.hydra.job.config_name
        directory = Path(str(self.config.hydra.sweep.dir)).absolute() / str(number)
        arguments = [
            f"--config-name={name}",
            *overrides,
            "hydra.mode=RUN",
            "hydra/launcher=basic",
            f"hydra.run.dir={directory}",
        ]
        with open_dict(composed):
            composed.pop("hydra")
        return prepare(composed, given, number, arguments)

    def _executor(self, folder: Path) -> Any:
        import submitit

        # The jobs' command lines stand in it as they were typed.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        executor = submitit.AutoExecutor(
            folder, cluster=self.cluster, slurm_max_num_timeout=_REQUEUES_AFTER_TIME_LIMIT
        )
        executor.update_parameters(**self.parameters)
        return executor

    def _under_slurm(
        self, executor: Any, prepared: "list[Prepared]", sweep: Path, detach: bool
    ) -> None:
        with executor.batch():
            jobs = [executor.submit(one.task) for one in prepared]
        ids = {one.run: str(job.job_id) for one, job in zip(prepared, jobs, strict=True)}
        write_jobs(sweep, ids)
        main = next(iter(ids.values())).partition("_")[0]
        print(f"{len(ids)} runs are with Slurm as job {main}", file=sys.stderr)
        print(f"how they are: runner stages=[report] sweep={sweep.name}", file=sys.stderr)

        def look() -> dict[str, str]:
            states = slurm_states(ids.values())
            return {run: states[job] for run, job in ids.items()}

        if not detach:
            self.wait(sweep, prepared, look)

    def wait(self, sweep: Path, jobs: "list[Prepared]", look: Callable[[], dict[str, str]]) -> None:
        """Until every job is over: close the records of those that could not do so themselves."""
        seconds = min(_FIRST_LOOK_SECONDS, self.poll_seconds)
        with Watch(sweep, [job.run for job in jobs]) as watch:
            while going_on := collect(sweep, look()):
                watch.look(going_on)
                time.sleep(seconds)
                seconds = min(1.5 * seconds, self.poll_seconds)
            watch.look({})


class _Slots:
    """Jobs on this machine, so many at a time."""

    def __init__(self, executor: Any, waiting: "list[Prepared]", at_once: int | None) -> None:
        self._executor = executor
        self._waiting = waiting
        self._at_once = at_once or len(waiting)
        self._started: dict[str, Any] = {}

    def look(self) -> dict[str, str]:
        """Start what there is room for; the state of every run's job."""
        running = sum(not job.done() for job in self._started.values())
        for one in self._waiting[: max(0, self._at_once - running)]:
            self._started[one.run] = self._executor.submit(one.task)
        self._waiting = [one for one in self._waiting if one.run not in self._started]
        states = {run: _state(job) for run, job in self._started.items()}
        return {**states, **{one.run: "PENDING" for one in self._waiting}}


def _state(job: Any) -> str:
    # A record that is still open when its process is gone belongs to a failed run.
    return "FAILED" if job.done() else "RUNNING"


def _require(cluster: str) -> None:
    if importlib.util.find_spec("submitit") is None:
        raise UsageError(
            "hydra/launcher=submitit_* needs submitit: pip install quant-runner[launchers]"
        )
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UsageError(
            "hydra/launcher=submitit_slurm: there is no sbatch here; run it on a login node, or "
            "hydra/launcher=submitit_local"
        )


def _told(prepared: "list[Prepared]") -> list[JobReturn]:
    from runner.launching.dry_run import DryRun

    dry_run = DryRun()
    for job in prepared:
        print(dry_run.describe(job.config, job.identity))
    if summary := dry_run.summary():
        print(summary)
    return [_returned(None) for _ in prepared]


def _returned(place: Place | None) -> JobReturn:
    returned = JobReturn(status=JobStatus.COMPLETED)
    returned.return_value = place
    return returned
