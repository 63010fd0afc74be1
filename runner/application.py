"""The command line: Hydra composes, ``run_experiment`` works, the answer is printed.

Exit codes: 0 every run ok or skipped, 1 a run failed, 2 the request is wrong, 130 Ctrl-C.
"""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.complaints import COMPOSITION_ERRORS, explain
from runner.compose import register
from runner.errors import USAGE_EXIT_CODE, UsageError, complain
from runner.paths import conf_dir

if TYPE_CHECKING:
    from runner.config.tracker import Tracker
    from runner.session import Session
    from runner.store.records import RunRecord

_SWEEP_VARIABLE = "QUANT_RUNNER_SWEEP"
_RAW_ERRORS_VARIABLE = "HYDRA_FULL_ERROR"


class _Invocation:
    """What one command line has led to so far."""

    def __init__(self) -> None:
        self.started = False
        """A job has been composed; before that every error is the user's."""
        self.usage_error = False
        self.session: Session | None = None
        self.output: Path | None = None
        self.multirun = False
        self.last_sweep = ""
        self.tracker: Tracker | None = None

    def run_job(self, composed: DictConfig) -> None:
        """Carry out one job that Hydra composed."""
        from runner.compose import typed
        from runner.config.root import StageName
        from runner.experiment.run import RunIdentity, illegalities, run_experiment
        from runner.session import open_session

        self.started = True
        hydra_config = HydraConfig.get()
        self.multirun = hydra_config.mode is RunMode.MULTIRUN
        self.output = Path(
            hydra_config.sweep.dir if self.multirun else hydra_config.runtime.output_dir
        )
        # As they were typed: an interpolation in one is none of the list's.
        overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
        assert isinstance(overrides, list)
        config = typed(composed)
        root = Path(config.store.root).expanduser().resolve()
        if config.stages == [StageName.report]:
            from runner.answer.report import report

            report(root / "runs", config.sweep, self.output, page=True, figures=True)
            return
        if StageName.compare in config.stages:
            from runner.answer.compare import compare

            compare(root / "runs", config, self.output)
            return
        if self.session is None or self.session.store.root != root:
            self.session = open_session(config)
        # One wrong run is a wrong request; in a sweep it is recorded and the rest goes on.
        if not self.multirun and (reasons := illegalities(config, self.session, overrides)):
            raise UsageError("; ".join(reasons))
        number = int(hydra_config.job.num) if self.multirun else 0
        sweep = config.sweep or os.environ[_SWEEP_VARIABLE]
        run_experiment(config, self.session, RunIdentity(sweep, number, overrides))
        self.last_sweep, self.tracker = sweep, config.tracker

    def answer(self) -> int:
        """Print the answer of everything that ran; returns the exit code."""
        if self.session is None:
            return 0
        from runner.answer.report import report
        from runner.store.records import Status

        records = report(self.session.store.runs, self.last_sweep, self.output, page=self.multirun)
        if self.multirun and self.tracker is not None:
            self._summarise(records)
        good = (Status.ok, Status.skipped)
        return 0 if all(record.status in good for record in records) else 1

    def _summarise(self, records: "list[RunRecord]") -> None:
        from runner.answer.rows import rows_of
        from runner.tracking import summarise_sweep
        from runner.tracking.base import SweepEnd

        assert self.session is not None
        assert self.tracker is not None
        folder = self.session.store.runs / self.last_sweep
        names = ("answer.json", "answer.csv", "answer.md", "report.html")
        files = [path for name in names if (path := folder / name).is_file()]
        end = SweepEnd(self.last_sweep, records, rows_of(records), files)
        summarise_sweep(self.tracker, end, self.session.display)


def execute() -> int:
    """Carry out the process's command line; returns the exit code."""
    register()
    sweep = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
    os.environ.setdefault(_SWEEP_VARIABLE, sweep)
    # Hydra would print its errors itself, over many lines and with where it looked for files.
    show_everything = os.environ.get(_RAW_ERRORS_VARIABLE) == "1"
    os.environ[_RAW_ERRORS_VARIABLE] = "1"
    invocation = _Invocation()

    def job(composed: DictConfig) -> Any:
        try:
            invocation.run_job(composed)
        except UsageError as error:
            invocation.usage_error = True
            complain(error)

    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except SystemExit as stop:
        if stop.code and not invocation.started:
            return USAGE_EXIT_CODE
        if stop.code:
            return int(stop.code) if isinstance(stop.code, int) else 1
    except COMPOSITION_ERRORS as error:
        # Once a job has been composed an error is a fault of ours and shown in full.
        if invocation.started or show_everything:
            raise
        return complain(explain(error, sys.argv[1:]))
    except KeyboardInterrupt:
        print("runner: stopped; finished stages are kept and reused", file=sys.stderr)
        return 130
    finally:
        if invocation.session is not None:
            invocation.session.close()
    return USAGE_EXIT_CODE if invocation.usage_error else invocation.answer()
