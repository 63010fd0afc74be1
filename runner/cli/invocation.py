"""State of one command line: its jobs and their answer."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.cli.closing import answer_from_records, has_records, is_answered_from_records
from runner.cli.judged import judged
from runner.cli.numbers import Numbers
from runner.cli.refusals import Refusal, Refusals
from runner.config.output_folder import for_copies, tidy, tidy_added
from runner.config.schema.sweepers import require_alone
from runner.errors import RunnerError, UsageError
from runner.multirun.launchers.task import own_number
from runner.multirun.run_location import RunLocation
from runner.store.disk_errors import require_writable
from runner.util.shown import tell

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from runner.config.schema.root import Config
    from runner.multirun.dry_run.show import DryRun
    from runner.pipeline.record import RunIdentity
    from runner.planning.hardware.detect import Machine
    from runner.reporting.observed import ObservedSession
    from runner.reporting.tracking.service import TrackingService


class Invocation:
    """State of one command line. Launchers take copies to other processes."""

    def __init__(self, sweep: str) -> None:
        self.default_sweep = sweep
        self.process = os.getpid()
        self.started = False
        """A job has been composed; before that every error is the user's."""
        self.refusals = Refusals()
        """What was wrong with the request or the store."""
        self.session: ObservedSession | None = None
        self._tracking: TrackingService | None = None
        self.dry_run: DryRun | None = None
        self.made: Path | None = None
        """Hydra's folder."""
        self.output: Path | None = None
        """The same, if copies of answers are to go there."""
        self.root: Path | None = None
        """The store's."""
        self.place: RunLocation | None = None
        self.asked: RunLocation | None = None
        """Where runs are to be filed, before one is begun here."""
        self.machine: Machine | None = None
        """This one, once it has been looked at."""
        self.code = 0
        """What an answer that is made of finished runs alone ends with."""
        self.multirun = True
        """Unless this process carries out a run of its own: launchers do so elsewhere."""
        self.numbers = Numbers(sweep)

    def run_job(self, composed: DictConfig) -> RunLocation | None:
        """Carry out one job that Hydra composed."""
        from runner.pipeline.record import RunIdentity

        self.started = True
        hydra_config = HydraConfig.get()
        # A launcher may have started this very process for one run of a sweep.
        number = own_number()
        self.multirun = hydra_config.mode is RunMode.MULTIRUN or number is not None
        self.made = Path(
            hydra_config.sweep.dir if self.multirun else hydra_config.runtime.output_dir
        )
        self.output = for_copies(self.made)
        # As they were typed: an interpolation in one is none of the list's.
        overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
        assert isinstance(overrides, list)
        if not self.multirun:
            require_alone(list(hydra_config.overrides.hydra))
        config = judged(composed, overrides, alone=not self.multirun)
        root = self.root = Path(config.store.root).expanduser().resolve()
        code = answer_from_records(root / "runs", config, self.output)
        if code is not None:
            self.code = max(self.code, code)
            return None
        if number is None:
            own = None if self.multirun else self.numbers.alone(config, overrides)
            number = self.numbers.of(int(hydra_config.job.num)) if own is None else own
        if config.dry_run:
            self._look(config, RunIdentity(config.sweep or self.default_sweep, number, overrides))
            return None
        return self._work(config, number, overrides)

    def run_plain(self, config: "Config", place: int, job: list[str]) -> RunLocation | None:
        """Carry out a run of a sweep in this process, of which Hydra makes no job.

        Args:
            config: The run's.
            place: Its place among the sweep's jobs.
            job: Its overrides, Hydra's own among them.
        """
        from runner.multirun.grid import GridSweeper

        self.started, self.made = True, GridSweeper.folder
        self.output = None if self.made is None else for_copies(self.made)
        self.root = Path(config.store.root).expanduser().resolve()
        return self._work(config, self.numbers.of(place), _own_words(job))

    def _work(self, config: "Config", number: int, overrides: list[str]) -> RunLocation:
        from runner.config.schema.root import StageName
        from runner.multirun.dry_run.forecast import forecast
        from runner.multirun.failure_policy import should_run
        from runner.multirun.grid import GridSweeper
        from runner.pipeline.record import RunIdentity
        from runner.pipeline.run import illegalities, run_experiment
        from runner.reporting.observed import open_session

        root = Path(config.store.root).expanduser().resolve()
        if self.session is None or self.session.store.root != root:
            # Launchers' processes share our terminal with their siblings.
            live = os.getpid() == self.process
            self.session = open_session(config, live=live, tracking=self.tracking)
        # One wrong run is a wrong request; in a sweep it is recorded and the rest goes on.
        if not self.multirun and (reasons := illegalities(config, self.session, overrides)):
            raise UsageError("; ".join(reasons))
        if config.launch.detach and own_number() is None:
            raise UsageError("launch.detach=true needs -m and hydra/launcher=submitit_slurm")
        sweep = config.sweep or self.default_sweep
        if self.multirun and own_number() is None and os.getpid() == self.process:
            terminal = self.session.terminal
            terminal.open_sweep(sweep, GridSweeper.jobs, self.numbers.moved)
            if not terminal.expects:
                jobs, configs = GridSweeper.jobs, GridSweeper.configs
                terminal.expect(forecast(jobs, configs, self.numbers.moved, sweep))
        if self.place is None:
            require_writable(root)
            # Not before: a request that is refused leaves nothing behind.
            self.tracking.prepare(config.tracker)
        wants_report = StageName.report in config.stages
        self.place = RunLocation(
            self.session.store.runs, sweep, config.tracker, wants_report, config.decide
        )
        identity = RunIdentity(sweep, number, overrides)
        if should_run(config, self.session, identity):
            run_experiment(config, self.session, identity)
        return self.place

    def spare(self, config: "Config", number: int, job: list[str]) -> "JobReturn | None":
        """Carry out a run of a sweep that needs no job of Hydra's.

        That is a dry run, or one that an earlier start of the sweep has done.

        Args:
            config: The run's.
            number: Its place among the sweep's jobs.
            job: Its overrides, Hydra's own among them.

        Returns:
            What became of it; ``None`` where there is something to do.
        """
        from runner.multirun.launchers.thrifty import spared
        from runner.pipeline.record import RunIdentity

        if not self.is_run(config):
            return None
        overrides = _own_words(job)
        number = self.numbers.of(number)
        identity = RunIdentity(config.sweep or self.default_sweep, number, overrides)
        runs = Path(config.store.root).expanduser().resolve() / "runs"
        self.asked = RunLocation(runs, identity.sweep, config.tracker, report=False)
        try:
            if not config.dry_run:
                return spared(self.place) if self._keep(config, identity) else None
            self._look(config, identity)
        except (RunnerError, OSError) as error:
            self.tell(error)
        return spared(None)

    def is_run(self, config: "Config") -> bool:
        """Whether a configuration is a run of this process's, not an answer from other runs."""
        return os.getpid() == self.process and not is_answered_from_records(config)

    def _look(self, config: "Config", identity: "RunIdentity") -> None:
        from runner.multirun.dry_run.show import DryRun

        self.started = True
        self.dry_run = self.dry_run or DryRun()
        described = self.dry_run.describe(config, identity)
        # As the run itself would be: in a sweep it is told, and the rest is looked at.
        if not self.multirun and self.dry_run.refused is not None:
            raise UsageError(self.dry_run.refused)
        tell(described)

    def _keep(self, config: "Config", identity: "RunIdentity") -> bool:
        from runner.config.schema.root import StageName
        from runner.multirun.grid import GridSweeper
        from runner.pipeline.record import done_record
        from runner.pipeline.run import keep
        from runner.planning.hardware.detect import detect
        from runner.reporting.observed import open_session

        if config.launch.detach or config.launch.max_failures is not None:
            return False
        root = Path(config.store.root).expanduser().resolve()
        self.machine = self.machine or detect()
        record = done_record(root / "runs", config, self.machine, identity)
        if record is None:
            return False
        self.started, self.root, self.made = True, root, GridSweeper.folder
        self.output = None if self.made is None else for_copies(self.made)
        if self.session is None or self.session.store.root != root:
            self.session = open_session(config, tracking=self.tracking)
        self.session.terminal.open_sweep(identity.sweep, GridSweeper.jobs, self.numbers.moved)
        if self.place is None:
            require_writable(root)
        wants_report = StageName.report in config.stages
        self.place = RunLocation(
            root / "runs", identity.sweep, config.tracker, wants_report, config.decide
        )
        keep(record, config, self.session)
        return True

    def tell(self, error: Exception) -> Refusal | None:
        """Tell what is wrong, once however many jobs it ends.

        Returns:
            What another process would tell.
        """
        return self.refusals.tell(error, self.root, self.place is not None)

    @property
    def tracking(self) -> "TrackingService":
        """What logs the command's runs, and the sweep when the answer is on the screen."""
        if self._tracking is None:
            from runner.reporting.display import Display
            from runner.reporting.tracking.service import TrackingService

            self._tracking = TrackingService(Display())
        return self._tracking

    def close(self) -> None:
        """End this process's workers."""
        if self.session is not None:
            self.session.close()

    def close_log(self) -> None:
        """Wait until what ran is logged."""
        if self._tracking is not None:
            self._tracking.close()

    def tidy(self) -> None:
        """Leave no empty folder behind."""
        from runner.multirun.grid import GridSweeper

        folder, GridSweeper.folder = self.made or GridSweeper.folder, None
        if own_number() is not None:
            return
        if folder is not None:
            tidy(folder, refused=self.place is None)
        tidy_added()

    def answer(self) -> int:
        """Print the answer of everything that ran; returns the exit code."""
        from runner.multirun.grid import GridSweeper

        for returned in GridSweeper.returned:
            if isinstance(returned, Refusal):
                self.refusals.note(returned)
            elif returned is not None:
                self.place = self.place or returned
        GridSweeper.returned.clear()
        place = self.place
        if self.dry_run is not None and (summary := self.dry_run.summary()):
            tell(summary)
        if place is None or place.detached or (self.refusals.codes and not has_records(place)):
            return self.code
        from runner.reporting.report import report
        from runner.store.records import read_record

        own = own_number()
        if own is None:
            records = report(
                place.runs, place.sweep, self.output, decide=place.decide,
                page=self.multirun or place.report, figures=place.report,
            )  # fmt: skip
            if self.multirun:
                self.tracking.summarise(place.tracker, place.runs, place.sweep)
        else:
            # The sweep's answer is printed by the process that started it.
            paths = (place.runs / place.sweep).glob(f"{own:03d}-*/record.json")
            records = [record for path in paths if (record := read_record(path))]
        return 0 if all(record.status.without_fault for record in records) else 1


def _own_words(job: list[str]) -> list[str]:
    """A job's overrides without those of Hydra's own settings."""
    return [one for one in job if not one.lstrip("+~").startswith(("hydra.", "hydra/"))]
