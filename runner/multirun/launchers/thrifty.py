"""A launcher for a sweep's runs that passes only the jobs with work left to Hydra."""

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from runner.config.hydra_internals import BasicLauncher
from runner.config.schema.root import Config

Job = Sequence[str]
Spared = Callable[[Config, int, list[str]], "JobReturn | None"]
"""Given a run's configuration, number and overrides."""


class ThriftyLauncher:
    """Stands before the launcher that was chosen.

    A tenth of a second goes into each job that Hydra makes, and a megabyte is kept of it. A dry run
    needs no job, nor does a run that an earlier start of the sweep has done.
    """

    def __init__(
        self,
        launcher: Any,
        config_of: Callable[[Job], Config | None],
        spare: Spared,
        plain: Callable[[Job, int], "JobReturn | None"] = lambda job, number: None,
    ) -> None:
        """Hand to ``launcher`` what ``spare`` does not do.

        Args:
            launcher: Hydra's.
            config_of: Gives a job's configuration where that takes no composing, else ``None``.
            spare: Carries a run out where that takes no job, and returns what became of it.
            plain: The same of one that is composed, where Hydra's settings ask for nothing around
                a job: no callbacks, variables, logs or folders.
        """
        self._plain = plain
        self._launcher = launcher
        self._config_of = config_of
        self._spare = spare

    def launch(self, job_overrides: Sequence[Job], initial_job_idx: int) -> Sequence[JobReturn]:
        """What became of each job, in their order."""
        jobs = [*enumerate(job_overrides, initial_job_idx)]
        if not isinstance(self._launcher, BasicLauncher):
            # What hands runs over sees all of them at once.
            return self._looked_at(jobs) or self._launcher.launch(job_overrides, initial_job_idx)
        returned = []
        for number, job in jobs:
            config = self._config_of(job)
            found = None if config is None else self._spare(config, number, list(job))
            found = found or self._plain(job, number)
            if found is None:
                (made,) = self._launcher.launch([job], initial_job_idx=number)
                found = _small(made)
            returned.append(found)
        return returned

    def _looked_at(self, jobs: Sequence[tuple[int, Job]]) -> list[JobReturn]:
        """Dry runs of all jobs; none where they are to be worked on."""
        returned = []
        # Nothing is told before it is known that all can be: else the launcher would tell it again.
        looks = ((config := self._config_of(job)) is not None and config.dry_run for _, job in jobs)
        if not all(looks):
            return []
        for number, job in jobs:
            config = self._config_of(job)
            if config is None or (found := self._spare(config, number, list(job))) is None:
                return []
            returned.append(found)
        return returned


def spared(value: Any) -> JobReturn:
    """What a job returns that was none of Hydra's."""
    returned = JobReturn(status=JobStatus.COMPLETED)
    returned.return_value = value
    return returned


def _small(returned: JobReturn) -> JobReturn:
    """Without its configuration, which nobody asks for again."""
    returned.cfg = returned.hydra_cfg = returned.overrides = returned.task_name = None
    return returned
