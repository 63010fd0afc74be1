"""A Hydra sweeper that takes several grids."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from runner.config.choices import choices_of, value_of
from runner.config.compose import judge
from runner.config.hydra_internals import BasicLauncher, BasicSweeper
from runner.config.renamed import present_axes
from runner.config.schema.root import Config
from runner.config.schema.sweepers import require_lists, require_positive, require_sections
from runner.multirun.combinations import Combinations
from runner.multirun.launchers.allotment import refuse_sharing
from runner.multirun.launchers.base import ClusterLauncher
from runner.multirun.launchers.thrifty import Spared, ThriftyLauncher
from runner.multirun.order import by_checkpoint
from runner.multirun.where_ready import first_ready, keep_what_is_read
from runner.store.shared import without_collection
from runner.util.progress import progress
from runner.util.redact import redact
from runner.validation.unused import Effects

_MOST_KEPT = 500
"""Composed jobs to keep in memory, of about a megabyte each."""


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper over the union of grids.

    ``hydra.sweeper.grids`` maps a name to ``{group or field: choices}``: a YAML list, or a text
    with commas. ``hydra.sweeper.runs`` lists single runs, ``{group or field: value}``.
    ``params`` and the command line apply to all of them and win over them.
    ``hydra.sweeper.exclude`` lists combinations to leave out: a job is dropped when it names a
    choice of every entry of one of them. ``hydra.sweeper.where_ready`` maps a title to grids that
    are used instead where all that their runs need is on this machine; see ``where_ready``.
    """

    # Hydra takes plugins only from a package of this name: runner/multirun/plugins has it.
    __module__ = "hydra_plugins.quant_runner"

    returned: ClassVar[list[Any]] = []
    """What the jobs of this process's sweep returned, wherever they ran. Hydra drops it."""
    jobs: ClassVar[list[list[str]]] = []
    """Overrides of each job of this process's sweep."""
    configs: ClassVar[dict[tuple[str, ...], Config | None]] = {}
    """Their configurations, of a sweep that is not too long."""
    folder: ClassVar[Path | None] = None
    """Where Hydra files the request of this process's sweep."""

    def __init__(
        self,
        *,
        max_batch_size: int | None = None,
        params: dict[str, Any] | None = None,
        grids: dict[str, dict[str, Any]] | None = None,
        runs: list[dict[str, Any]] | None = None,
        exclude: list[dict[str, Any]] | None = None,
        where_ready: dict[str, dict[str, dict[str, Any]]] | None = None,
    ) -> None:
        """See the class."""
        require_positive(max_batch_size=max_batch_size)
        instead = {f"where_ready.{title}": grids for title, grids in (where_ready or {}).items()}
        require_sections(params=params, grids=grids, where_ready=where_ready)
        require_sections(**instead)
        for place, found in {"grids": grids, **instead}.items():
            require_sections(**{f"{place}.{name}": grid for name, grid in (found or {}).items()})
        require_lists(runs=runs, exclude=exclude)
        place = "hydra.sweeper"
        params = present_axes(params or {}, f"{place}.params")
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.grids = {
            name: present_axes(grid, f"{place}.grids.{name}")
            for name, grid in (grids or {}).items()
        }
        self.where_ready = [
            {name: present_axes(grid, f"{place}.{title}.{name}") for name, grid in found.items()}
            for title, found in instead.items()
        ]
        self.runs = [present_axes(one, f"{place}.runs") for one in runs or []]
        self.exclude = [present_axes(one, f"{place}.exclude") for one in exclude or []]
        self._effects = Effects()
        self._combinations: Combinations | None = None
        self._chosen: Any = None
        self._spare: Spared | None = None
        self._carry_out: Spared | None = None
        self._number_runs: Callable[..., dict[int, int]] | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """As Hydra's; the task may know what to do with runs that need no job."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._spare = getattr(task_function, "spare", None)
        self._carry_out = getattr(task_function, "plain", None)
        self._number_runs = getattr(task_function, "number_runs", None)

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Go through all jobs; what Hydra files of the request has its credentials masked."""
        assert self.config is not None
        masked = OmegaConf.create(redact(OmegaConf.to_container(self.config)))
        # Otherwise the time in the directory's name would be read anew.
        OmegaConf.copy_cache(self.config, masked)
        self.config = masked
        type(self).folder = Path(str(masked.hydra.sweep.dir))
        self.configs.clear()
        chosen: Any = self.launcher
        if self._spare is not None and isinstance(chosen, BasicLauncher | ClusterLauncher):
            self._chosen = chosen
            thrifty: Any = ThriftyLauncher(chosen, self._config_of, self._spare, self._plain)
            self.launcher = thrifty
        result: Sequence[Sequence[JobReturn]]
        # A dry run is over soon, and leaves no cycles.
        only_looks = "dry_run=true" in arguments
        with without_collection() if only_looks else contextlib.nullcontext():
            result = super().sweep(arguments)
        jobs = [job for batch in result or [] for job in batch]
        self.returned[:] = [job.return_value for job in jobs if job.status is JobStatus.COMPLETED]
        return result

    def _config_of(self, job: Sequence[str]) -> Config | None:
        combinations = self._combinations
        if combinations is None or not combinations.knows(job):
            return None
        return combinations.config(job)

    def _plain(self, job: Sequence[str], number: int) -> JobReturn | None:
        """Carry out a job without what Hydra puts around each: copies of its configuration."""
        launcher: Any = self._chosen
        if self._carry_out is None or not _asks_for_nothing(launcher.config.hydra):
            return None
        assert self.hydra_context is not None
        loader: Any = self.hydra_context.config_loader
        try:
            config = judge(loader.load_sweep_config(launcher.config, list(job)))
        except Exception:  # which Hydra, or the job, tells
            return None
        return None if config is None else self._carry_out(config, number, list(job))

    def _parse_config(self) -> list[str]:
        return [f"{key}={choices_of(key, value)}" for key, value in self.params.items()]

    def validate_batch_is_legal(self, batch: list[list[str]]) -> None:  # type: ignore[override]
        """Compose and judge every job before the first one runs.

        That takes more than a tenth of a second a job, so launchers that compose in this process
        are handed what was composed here. A choice is judged in the first job that names it.

        Raises:
            UsageError: A job lacks a value or has one that makes no sense, or none reads one.
        """
        assert self.hydra_context is not None
        loader: Any = self.hydra_context.config_loader
        launcher: Any = self._chosen or self.launcher
        here = isinstance(launcher, BasicLauncher | ClusterLauncher)
        if here:
            keep_what_is_read(loader)
        master: DictConfig = launcher.config
        # Read once, the time in it is the same for every job.
        _ = master.hydra.sweep.dir
        compose: Callable[[Any, DictConfig, list[str]], DictConfig]
        compose = type(loader).load_sweep_config
        kept: dict[tuple[str, ...], DictConfig] = {}

        def whole(job: list[str]) -> Config | None:
            composed = compose(loader, master, list(job))
            if len(kept) < _MOST_KEPT:
                kept[tuple(job)] = composed
            return judge(composed)

        # Of several batches a later one may read what this one does not.
        known = {tuple(job) for job in batch}
        others = [job for job in self.jobs if tuple(job) not in known]
        combinations = self._combinations = Combinations([*batch, *others], whole)
        judged: set[str] = set()
        with progress("composing the runs", len(self.jobs)) as seen:
            for job in batch:
                if len(self.jobs) <= _MOST_KEPT and combinations.knows(job):
                    self.configs[tuple(job)] = combinations.config(job)
                clear = job and judged.issuperset(job) and not self._effects.unclear(job)
                if not clear or not combinations.knows(job):
                    config = combinations.config(job)
                    self._effects.note(job, config)
                    judged.update(job)
                    if len(self.jobs) <= _MOST_KEPT:
                        self.configs[tuple(job)] = config
                seen()
            for job in others:
                if self._effects.unclear(job):
                    self._effects.note(job, combinations.config(job))
                seen()
        self._effects.refuse()
        if self._number_runs is not None:
            numbers = self._number_runs(self.jobs, combinations.config)
            if isinstance(launcher, ClusterLauncher):
                launcher.numbers = numbers
        if not here:
            refuse_sharing(launcher, (combinations.config(job) for job in batch))
            return

        def once(master: DictConfig, overrides: list[str]) -> DictConfig:
            composed = kept.pop(tuple(overrides), None)
            return compose(loader, master, overrides) if composed is None else composed

        loader.load_sweep_config = once

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Jobs of all grids and single runs, each once, without excluded ones, in batches.

        Jobs of the same overrides are one, in whatever order grids name them. Those that need
        one checkpoint follow each other.

        Raises:
            HydraException: Nothing is left.
        """
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        keys = {override.get_key_element() for override in overrides}
        chosen = self.grids
        if self.where_ready:
            loader: Any = self.hydra_context.config_loader
            chosen = first_ready(self.where_ready, overrides, loader, self.config) or chosen
        grids = [
            *({key: choices_of(key, value) for key, value in g.items()} for g in chosen.values()),
            *({key: value_of(value) for key, value in run.items()} for run in self.runs),
        ]
        excluded = [
            {key: _choices(parser, key, choices_of(key, value)) for key, value in one.items()}
            for one in self.exclude
        ]
        jobs: dict[frozenset[str], list[str]] = {}
        for grid in grids or [{}]:
            own: list[Any] = parser.parse_overrides(
                [f"{key}={value}" for key, value in grid.items() if key not in keys]
            )
            for job in BasicSweeper.split_arguments(own + overrides, None)[0]:
                if not any(_matches(job, one) for one in excluded):
                    jobs.setdefault(frozenset(job), job)
        if not jobs:
            raise HydraException("hydra.sweeper.exclude excludes every combination")
        self.jobs[:] = by_checkpoint(list(jobs.values()))
        return list(self.split_overrides_to_chunks(self.jobs, max_batch_size))


def _choices(parser: OverridesParser, key: str, choices: str) -> list[str]:
    """Each choice as a job's overrides write it."""
    (override,) = parser.parse_overrides([f"{key}={choices}"])
    if override.is_discrete_sweep():
        return [str(choice) for choice in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _matches(job: list[str], combination: dict[str, list[str]]) -> bool:
    named = dict(override.lstrip("+").split("=", 1) for override in job if "=" in override)
    return all(
        key in named and _one_way(named[key]) in map(_one_way, choices)
        for key, choices in combination.items()
    )


def _one_way(value: str) -> str:
    """Hydra writes a choice as Python does (True) and a single value as it was typed (true)."""
    return value.lower() if value in ("True", "False") else value


def _asks_for_nothing(hydra: Any) -> bool:
    """Whether Hydra's settings ask for nothing around a job that this process carries out."""
    job, logging = hydra.job, hydra.job_logging
    around = (hydra.get("callbacks"), job.env_set, job.env_copy, job.chdir, hydra.output_subdir)
    return not any(around) and not (logging and logging.get("root"))
