"""A Hydra sweeper that chooses which recipes to measure within a budget."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from runner.config.choices import choices_of
from runner.config.fields import kinds_at
from runner.config.renamed import present_axes
from runner.config.schema.sweepers import require_positive, require_sections
from runner.errors import UsageError
from runner.multirun.grid import GridSweeper
from runner.multirun.launchers.allotment import refuse_sharing
from runner.multirun.launchers.task import SWEEP_VARIABLE
from runner.multirun.search.objectives import measured, objectives_of
from runner.multirun.search.space import Point, Space
from runner.multirun.search.state import Chosen, State
from runner.multirun.search.study import Study
from runner.store.records import RunRecord, Status, read_record
from runner.util.shown import tell

_REDONE = (
    Status.failed, Status.oom, Status.timeout, Status.cancelled, Status.interrupted, Status.running,
)  # fmt: skip


class SearchSweeper(Sweeper):
    """Asks a sampler for points of a space, runs them, and tells it what they came to.

    A point whose combination is illegal is told as infeasible and not run. The choices lie beside
    the sweep's records, so the same command with the same ``sweep=NAME`` goes on where it ended.
    """

    # Hydra takes plugins only from a package of this name: runner/multirun/plugins has it.
    __module__ = "hydra_plugins.quant_runner"

    def __init__(
        self,
        *,
        space: dict[str, Any] | None,
        objectives: Sequence[str],
        runs: int,
        max_concurrent: int,
        sampler: str,
        seed: int,
    ) -> None:
        """Settings come from ``hydra.sweeper``.

        Args:
            space: Choices of each group or field, as a list or comma-separated.
            objectives: Columns of the answer.
            runs: How many runs the search may make.
            max_concurrent: Points to choose before the first of them is measured.
            sampler: ``tpe``, ``nsga2`` or ``random``.
            seed: Of the sampler.
        """
        require_positive(runs=runs, max_concurrent=max_concurrent)
        require_sections(space=space)
        self.space = present_axes(space or {}, "hydra.sweeper.space")
        self.objectives = list(objectives)
        self.runs = runs
        self.max_concurrent = max_concurrent
        self.sampler = sampler
        self.seed = seed

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over."""
        from hydra.core.plugins import Plugins

        self.config: DictConfig | None = config
        self.hydra_context: HydraContext | None = hydra_context
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search until the runs are spent or no point is left; print the front.

        Raises:
            UsageError: The space, an objective or the sampler makes no sense.
        """
        fixed, space = self._read(arguments)
        objectives = objectives_of(self.objectives)
        base = self._typed(fixed)
        for axis, choices in space.axes.items():
            for choice in choices:
                self._require([*fixed, f"{axis}={choice}"])
        if base.dry_run:
            tell(
                f"a search of {self.runs} runs among {len(space)} points: "
                + "; ".join(f"{name}: {', '.join(c)}" for name, c in space.axes.items())
            )
            return []
        if base.launch.detach:
            raise UsageError("a search waits for its runs; remove launch.detach=true")
        refuse_sharing(self.launcher, [base])
        folder = (
            Path(base.store.root).expanduser().resolve()
            / "runs"
            / (base.sweep or os.environ[SWEEP_VARIABLE])
        )
        state = State.read(folder, space.axes, self.objectives)
        study = Study(space, objectives, self.sampler, self.seed + len(state.chosen))
        GridSweeper.jobs[:] = [[f"choice {number}"] for number in range(1, self.runs + 1)]
        self.returned: list[Sequence[JobReturn]] = []
        again = []
        for known in state.chosen:
            record = None if known.run is None else _record(folder, known.run)
            if known.run is not None and (record is None or record.status in _REDONE):
                again.append(known)
            else:
                self._tell(study, known, record, objectives)
        for known in again:
            self._run(fixed, [known], folder, study, objectives)
        while batch := self._choose(fixed, state, study, folder):
            self._run(fixed, batch, folder, study, objectives)
        jobs = [job for batch in self.returned for job in batch]
        GridSweeper.returned[:] = [j.return_value for j in jobs if j.status is JobStatus.COMPLETED]
        pairs = [(one, _record(folder, one.run)) for one in state.chosen if one.run is not None]
        from runner.multirun.search.show import show_front

        show_front(pairs, objectives, state, study.repeated, folder)
        return self.returned

    def _read(self, arguments: list[str]) -> tuple[list[str], Space]:
        """What all runs share, and the space: choices on the command line are axes too."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(arguments)
        named = {one.get_key_element() for one in given}
        own = parser.parse_overrides(
            [f"{k}={choices_of(k, v)}" for k, v in self.space.items() if k not in named]
        )
        axes: dict[str, list[str]] = {}
        fixed = []
        for override in [*own, *given]:
            key, choices = override.get_key_element(), _choices(override)
            if len(choices) > 1:
                axes[key] = choices
            else:
                fixed.append(f"{key}={choices[0]}")
        if not axes:
            raise UsageError(
                "hydra.sweeper.space is empty; list groups or fields with their choices"
            )
        return fixed, Space(axes)

    def _choose(self, fixed: list[str], state: State, study: Study, folder: Path) -> list[Chosen]:
        """The next points, each legal as far as can be told here; they are noted first."""
        batch: list[Chosen] = []
        while len(batch) < self.max_concurrent and state.runs < self.runs:
            point = study.ask()
            if point is None:
                break
            reason = self._wrong([*fixed, *_typed_in(point)])
            chosen = Chosen(point, state.runs if reason is None else None, reason)
            state.chosen.append(chosen)
            if reason is None:
                batch.append(chosen)
            else:
                study.tell(point, None, legal=False)
        state.write(folder)
        return batch

    def _run(
        self, fixed: list[str], batch: list[Chosen], folder: Path, study: Study, objectives: Any
    ) -> None:
        jobs = [[*fixed, *_typed_in(one.point)] for one in batch]
        assert batch[0].run is not None
        self.returned.append(self.launcher.launch(jobs, initial_job_idx=batch[0].run))
        for one in batch:
            assert one.run is not None
            self._tell(study, one, _record(folder, one.run), objectives)

    def _tell(
        self, study: Study, chosen: Chosen, record: RunRecord | None, objectives: Any
    ) -> None:
        if chosen.run is None or (record is not None and record.status is Status.skipped):
            study.tell(chosen.point, None, legal=False)
        else:
            values = None if record is None else measured(record, objectives)
            study.tell(chosen.point, values)

    def _typed(self, overrides: list[str]) -> Any:
        from runner.config.compose import typed

        assert self.hydra_context is not None
        assert self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(composed):
            composed.pop("hydra")
        return typed(composed)

    def _require(self, overrides: list[str]) -> None:
        """See that a choice is one: a misspelt one is no part of the space.

        Raises:
            UsageError: There is no such group, option or field, or no such value.
        """
        from runner.config.errors import COMPOSITION_ERRORS, explain

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        given = overrides[-1].partition("=")[0]
        key = given.lstrip("+")
        if given != key and "@" not in key and not kinds_at(key):
            raise UsageError(f"there is no {key}; remove the settings added with +")
        try:
            loader.load_sweep_config(self.config, overrides)
        except COMPOSITION_ERRORS as error:
            raise UsageError(explain(error, overrides)) from None

    def _wrong(self, overrides: list[str]) -> str | None:
        """Why a combination cannot be run, if so."""
        from runner.config.errors import COMPOSITION_ERRORS, explain
        from runner.pipeline.judge import judge
        from runner.planning.hardware.detect import detect

        try:
            config = self._typed(overrides)
            reasons = judge(config, detect(), overrides).reasons
        except UsageError as error:
            return str(error)
        except COMPOSITION_ERRORS as error:
            return explain(error, overrides)
        return "; ".join(reasons) or None


def _choices(override: Override) -> list[str]:
    if override.is_sweep_override() and override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _typed_in(point: Point) -> list[str]:
    return [f"{name}={choice}" for name, choice in point.items()]


def _record(folder: Path, run: int) -> RunRecord | None:
    # A run that was composed anew under another label has left a record under the old one.
    paths = sorted(folder.glob(f"{run:03d}-*/record.json"), key=lambda path: path.stat().st_mtime)
    return read_record(paths[-1]) if paths else None
