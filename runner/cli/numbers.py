"""Numbers of a command line's runs, which a repeated sweep keeps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.config.schema.root import Config

Job = Sequence[str]
"""A run's overrides."""


class Numbers:
    """See ``runner.pipeline.numbering``."""

    def __init__(self, default_sweep: str) -> None:
        self._default_sweep = default_sweep
        self.moved: dict[int, int] = {}
        """Of a sweep's runs by their places in it, where the two differ."""

    def find(
        self, jobs: Sequence[Job], config_of: "Callable[[Job], Config | None]"
    ) -> dict[int, int]:
        """Find what runs of a sweep have been called before.

        Args:
            jobs: Overrides of each.
            config_of: Gives a job's configuration.

        Returns:
            The numbers that are not the job's place.
        """
        from runner.pipeline.numbering import run_numbers

        first = config_of(jobs[0])
        sweeps = {one for job in jobs for one in job if one.startswith("sweep=")}
        if first is None or len(sweeps) > 1:
            return self.moved
        found = run_numbers(self._folder(first), jobs, config_of)
        self.moved = {place: one for place, one in enumerate(found) if place != one}
        return self.moved

    def of(self, place: int) -> int:
        """The number of a sweep's run.

        Args:
            place: Its place among the sweep's jobs.
        """
        return self.moved.get(place, place)

    def alone(self, config: "Config", overrides: Job) -> int:
        """The number of a run that is no sweep's.

        Args:
            config: The run's.
            overrides: As they were typed.
        """
        from runner.pipeline.numbering import run_numbers

        (number,) = run_numbers(self._folder(config), [overrides], lambda _: config)
        return number

    def _folder(self, config: "Config") -> Path:
        runs = Path(config.store.root).expanduser().resolve() / "runs"
        return runs / (config.sweep or self._default_sweep)
