"""Shared code of the launchers that run a sweep's runs in other processes."""

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.errors import UsageError
from runner.multirun.launchers.jobs import collect
from runner.multirun.run_location import RunLocation
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.multirun.launchers.prepare import Prepared

_FIRST_LOOK_SECONDS = 1.0


class ClusterLauncher(Launcher):
    """Prepares a sweep's runs, hands them over, and stays until all are over.

    A run is a command line of its own, so it composes its configuration where it is carried out.
    """

    detaches = False
    """Whether the runs go on when the process that started them ends."""

    def __init__(self, poll_seconds: float) -> None:
        """Look at the runs every ``poll_seconds``."""
        self.poll_seconds = poll_seconds
        self.numbers: Mapping[int, int] = {}
        """Of runs by their places among the sweep's jobs, where the two differ."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over; the task itself is called by the jobs' own processes."""
        self.config: DictConfig | None = config
        self.hydra_context: HydraContext | None = hydra_context

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Hand over the runs that are not done yet and wait for them.

        Raises:
            UsageError: What the launcher needs is missing, or a run is wrong.
        """
        prepared = [
            self._prepare(overrides, self.numbers.get(number, number))
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        if prepared[0].config.dry_run:
            return _told(prepared)
        self.require()
        place, detach = prepared[0].place, prepared[0].config.launch.detach
        if detach and not self.detaches:
            raise UsageError("launch.detach=true needs hydra/launcher=submitit_slurm")
        if computing := [job for job in prepared if not job.is_light]:
            self.look_at(computing)
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

    @abstractmethod
    def require(self) -> None:
        """See that what the launcher needs is there.

        Raises:
            UsageError: It is not.
        """

    @abstractmethod
    def look_at(self, jobs: "list[Prepared]") -> None:
        """See that every run can have the devices that it asks for.

        Args:
            jobs: All that compute, those that are done already included.

        Raises:
            UsageError: One cannot.
        """

    @abstractmethod
    def carry_out(self, jobs: "list[Prepared]", sweep: Path, detach: bool) -> None:
        """Have runs carried out, and wait for them unless they are to be left alone.

        Args:
            jobs: Their records are open.
            sweep: The sweep's folder of records.
            detach: Return once they are handed over; only if the launcher ``detaches``.
        """

    def wait(self, sweep: Path, jobs: "list[Prepared]", look: Callable[[], dict[str, str]]) -> None:
        """Until every job is over: close the records of those that could not do so themselves."""
        seconds = min(_FIRST_LOOK_SECONDS, self.poll_seconds)
        # What it reads of records takes a tenth of a start that needs no launcher.
        from runner.reporting.display.watch import Watch

        with Watch(sweep, [job.run for job in jobs]) as watch:
            while going_on := collect(sweep, look()):
                watch.look(going_on)
                time.sleep(seconds)
                seconds = min(1.5 * seconds, self.poll_seconds)
            watch.look({})

    def _prepare(self, overrides: Sequence[str], number: int) -> "Prepared":
        from runner.config.words import quoted, settled
        from runner.multirun.launchers.prepare import prepare

        assert self.hydra_context is not None
        assert self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        overrides_given = OmegaConf.to_container(composed.hydra.overrides.task, resolve=False)
        assert isinstance(overrides_given, list)
        name = self.config.hydra.job.config_name
        directory = Path(str(self.config.hydra.sweep.dir)).absolute() / str(number)
        arguments = [
            f"--config-name={name}",
            *map(settled, overrides),
            "hydra.mode=RUN",
            "hydra/launcher=basic",
            f"hydra.run.dir={quoted(directory)}",
        ]
        with open_dict(composed):
            composed.pop("hydra")
        return prepare(composed, overrides_given, number, arguments)


def _told(prepared: "list[Prepared]") -> list[JobReturn]:
    from runner.multirun.dry_run.show import DryRun

    dry_run = DryRun()
    for job in prepared:
        tell(dry_run.describe(job.config, job.identity))
    if summary := dry_run.summary():
        tell(summary)
    return [_returned(None) for _ in prepared]


def _returned(place: RunLocation | None) -> JobReturn:
    returned = JobReturn(status=JobStatus.COMPLETED)
    returned.return_value = place
    return returned
